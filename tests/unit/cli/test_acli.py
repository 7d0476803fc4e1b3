"""aCLI's words: what is understood, what is said of mistakes, and what they make of a lab's file."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netctl.cli.acli import finding, parser, run
from netctl.cli.acli.answers import blocks, table
from netctl.cli.acli.parser import Call
from netctl.cli.acli.words import WORDS, complete, usage
from netctl.errors import InputError
from netctl.intent import edited, loads
from netctl.model.intent import Intent

FILE = """
name: lab
hosts: {hv1: {}, hv2: {}}
subnets:
  lan: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}
  db: {type: vlan, vlan: 20, cidr: 10.20.0.0/24}
  raw: {type: vlan-basic, vlan: 30}
vms:
  web: {host: hv1, nics: [{subnet: lan}, {subnet: db}, {subnet: db, ip: 10.20.0.77}]}
  foovm: {nics: [{subnet: lan}]}
checks:
  - {from: web, to: foovm}
  - {from: web/1, to: web/2, expect: dropped}
"""


def call(line: str) -> Call:
    parsed = parser.parse(line)
    assert parsed is not None
    return parsed


def after(intent: Intent, line: str) -> Intent:
    """The intent with a command carried out on its file, as netctl.cli.operations does it."""
    told = call(line)
    task = run._verb(told)(intent, told)
    text, _ = edited(intent, task.edit.patch, "file", task.edit.stale)
    return loads(text, "file", task.edit.assignments or intent.assignments)


def refused(line: str, intent: Intent | None = None) -> str:
    with pytest.raises(InputError) as raised:
        after(intent or loads(FILE), line)
    return str(raised.value)


# --- the table of words ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORDS)
def test_every_word_does_something(name: str) -> None:
    verb = run._verb(Call(name))
    assert verb.__doc__
    takes = next(iter(verb.__annotations__))
    assert (takes in ("running", "call")) == (verb.__name__ in run.READING), "told from what it is called"


@pytest.mark.parametrize("name", WORDS)
def test_every_word_is_used_as_its_usage_says(name: str) -> None:
    word = WORDS[name]
    samples = {"true|false": "yes", "VM/NIC|HOST/UPLINK": "web/0"}
    names = [each.strip("[].") for each in word.names]
    pairs = [f"{key}={samples.get(value, value.split('|')[0])}" for key, value in word.keys.items()]
    parsed = call(" ".join([name, *names, *pairs, *(f"{key}=1" for key in word.idle)]))
    assert parsed.names == tuple(names) and set(parsed.values) == set(word.keys)
    assert set(parsed.idle) == set(word.idle) and all(parsed.idle.values())
    assert usage(name).startswith(name)


# --- reading a line ----------------------------------------------------------------------------------------


def test_the_seeds_example() -> None:
    told = call("vm.nic_create fooVM vlan_mode=kTrunked trunked_networks=10,20,30 network=vlan.10")
    assert told.name == "vm.nic_create" and told.names == ("fooVM",)
    assert told.values == {"vlan_mode": "kTrunked", "trunked_networks": "10,20,30", "network": "vlan.10"}
    assert told.list("trunked_networks") == ["10", "20", "30"]


def test_quotes_comments_and_case() -> None:
    assert parser.parse("") is None and parser.parse("  # nothing") is None
    told = call("VM.Create 'Web Server'  num_vcpus=2 # one more")
    assert told.name == "vm.create" and told.names == ("Web Server",) and "num_vcpus" in told.idle
    told = call("vm.nic_update web 50:6b:8d:00:00:01 vlan_mode=ktrunked connected=Yes ip=10.0.0.1,")
    assert told.values["vlan_mode"] == "kTrunked" and told.flag("connected") is True
    assert told.values["ip"] == "10.0.0.1", "a comma behind a value, as in lists of keys"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("vm.nic_creat web", "there is no aCLI word vm.nic_creat; did you mean vm.nic_create?"),
        ("vm.disk_create web", "netctl has no vm.disk_create: VMs of a lab have no disks"),
        ("vm.nic_create", "vm.nic_create: VM is missing"),
        ("vm.nic_create web netwrk=lan", "vm.nic_create: there is no key netwrk; did you mean network?"),
        ("vm.nic_create web network=", "vm.nic_create: network= has no value"),
        ("vm.nic_create web network=a network=b", "vm.nic_create: network is there twice"),
        ("vm.nic_create web vlan_mode=trunk", "vlan_mode=trunk is none of kAccess, kTrunked"),
        ("vm.nic_create web connected=maybe", "connected=maybe is none of true, false"),
        ("vm.list web", "vm.list: web is one word too many"),
        ("net.create x", "net.create: vlan= is missing"),
        ("vm.create 'x", "no closing quotation"),
    ],
)
def test_what_is_said_of_a_line(line: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        parser.parse(line)
    assert said in raised.value.message
    assert raised.value.exit_code == 2 and raised.value.next_step
    name = line.split()[0]
    if name in WORDS and "quotation" not in said:
        assert raised.value.next_step == f"Usage: {usage(name)}"


def test_every_mistake_of_a_file_is_told_at_once() -> None:
    with pytest.raises(InputError) as raised:
        parser.parse_lines("# header\nvm.list\n  vm.lst\nnet.create x\n", "cmds")
    places = [(problem.file, problem.line, problem.column) for problem in raised.value.problems]
    assert places == [("cmds", 3, 3), ("cmds", 4, 1)]
    good = parser.parse_lines("\nvm.list\n", "cmds")
    assert [(each.text, each.file, each.line) for each in good] == [("vm.list", "cmds", 2)]


def test_completion() -> None:
    assert complete(["vm.nic_c"]) == ["vm.nic_create"]
    assert complete(["help", "host.l"]) == ["host.list", "host.list_vms"]
    assert complete(["vm.nic_create", "web", "netw"]) == ["network="]
    assert "network=" not in complete(["vm.nic_create", "web", "network=lan", ""])
    assert complete(["vm.nic_create", "web", "vlan_mode=kT"]) == ["vlan_mode=kTrunked"]
    assert complete(["nonsense", ""]) == []


# --- names -------------------------------------------------------------------------------------------------


def test_names_of_ahv_are_found_by_their_nearest_spelling_and_uuids() -> None:
    intent = loads(FILE)
    told = call("vm.nic_list x")
    assert finding.vm(intent, told, "fooVM") == finding.vm(intent, told, "FOOVM") == "foovm"
    assert finding.vm(intent, told, finding.uuid(intent, "VM", "foovm").upper()) == "foovm"
    assert finding.vms(intent, told, "foo*,web") == ["foovm", "web"]
    assert finding.host(intent, told, "100.64.0.2") == "hv2"
    assert finding.switch(intent, told, "br0") == "vs0"
    nic = finding.nics(intent, "web")[1]
    assert finding.nic(intent, told, "web", finding.nic_uuid(intent, nic)) == nic
    assert finding.nic(intent, told, "web", nic.mac.upper()) == nic
    assert "did you mean foovm?" in refused("vm.nic_delete fooWM x")
    assert nic.mac in refused("vm.nic_delete web 00:00:00:00:00:00")


def test_networks_by_their_vlan() -> None:
    intent = loads(FILE)
    told = call("net.get x")
    assert finding.network(intent, told, "vlan.10") == finding.network(intent, told, "vlan10") == "lan"
    named = after(intent, "net.create vlan.10 vlan=99")
    assert finding.network(named, told, "vlan.10") == "vlan-10", "a name comes before a VLAN"
    two = loads(
        "name: lab\nhosts: {hv1: {nics: {eth0: {switch: tor1}, eth1: {switch: tor1}}}}\n"
        "virtual_switches: {vs0: {uplinks: [eth0]}, vs1: {uplinks: [eth1]}}\n"
        "subnets: {a: {type: vlan, vlan: 5}, b: {type: vlan, vlan: 5, virtual_switch: vs1}}"
    )
    assert "VLAN 5 is on several networks" in refused("net.delete vlan.5", two)
    assert "none with VLAN 77" in refused("vm.nic_create web network=vlan.77")


# --- VMs and NICs ------------------------------------------------------------------------------------------


def test_a_trunk_as_the_seed_writes_it() -> None:
    intent = after(
        loads(FILE), "vm.nic_create fooVM vlan_mode=kTrunked trunked_networks=10,20,30 network=vlan.10"
    )
    new = intent.port("foovm/1")
    assert (new.subnet, new.mode, new.trunked) == ("lan", "trunk", (10, 20, 30))
    assert new.mac.startswith("50:6b:8d:") and new.ip is not None


def test_what_was_assigned_stays() -> None:
    before = loads(FILE)
    later = after(after(before, "vm.create aaa,bbb"), "vm.nic_create aaa network=lan")
    for port in before.ports:
        now = later.port(port.name)
        assert (now.mac, now.ip, now.number, now.host) == (port.mac, port.ip, port.number, port.host)


def test_a_nic_behind_the_one_that_goes_keeps_its_addresses() -> None:
    before = loads(FILE)
    gone, second, third = finding.nics(before, "web")
    later = after(before, f"vm.nic_delete web {gone.mac}")
    kept = [(port.mac, port.ip, port.number, port.subnet) for port in later.ports if port.vm == "web"]
    assert kept == [(it.mac, it.ip, it.number, it.subnet) for it in (second, third)]  # type: ignore[union-attr]
    assert later.file.checks == [], "both named NICs that are others now, or gone"
    last = after(before, f"vm.nic_delete web {third.mac}")
    assert len(last.file.checks) == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=8))
def test_no_plugging_in_or_out_changes_another_nic(choices: list[int]) -> None:
    """Each number takes the NIC of that index out; where there is none, one is plugged in."""
    intent = loads(FILE)
    for choice in choices:
        there = {nic.mac: nic for nic in finding.nics(intent, "web")}
        if choice < len(there):
            out = list(there)[choice]
            intent = after(intent, f"vm.nic_delete web {out}")
            del there[out]
        else:
            intent = after(intent, f"vm.nic_create web network={('lan', 'db', 'raw')[choice % 3]}")
        now = {nic.mac: nic for nic in finding.nics(intent, "web")}
        for mac, nic in there.items():
            same = ("number", "subnet", "ip", "host", "mode")
            assert [getattr(now[mac], key) for key in same] == [getattr(nic, key) for key in same]


def test_nic_update() -> None:
    before = loads(FILE)
    mac = before.port("web/2").mac
    moved = after(before, f"vm.nic_update web {mac} network=lan").port("web/2")
    assert moved.subnet == "lan" and str(moved.ip).startswith("10.10.0."), (
        "its address was of the other network"
    )
    trunk = after(before, f"vm.nic_update web {mac} trunked_networks=10,30 update_vlan_trunk_info=true")
    assert (trunk.port("web/2").mode, trunk.port("web/2").trunked) == ("trunk", (10, 30))
    access = after(trunk, f"vm.nic_update web {mac} vlan_mode=kAccess update_vlan_trunk_info=true")
    assert (access.port("web/2").mode, access.port("web/2").trunked) == ("access", ())
    assert access.port("web/2").ip == before.port("web/2").ip
    limited = after(before, f"vm.nic_update web {mac} rate=20mbit connected=false mac=50:6b:8d:00:00:42")
    port = limited.port("web/2")
    assert (port.rate, port.enabled, port.mac) == (20_000_000, False, "50:6b:8d:00:00:42")
    free = after(limited, "vm.nic_update web 50:6b:8d:00:00:42 rate=none connected=true request_ip=true")
    assert (free.port("web/2").rate, free.port("web/2").enabled) == (None, True)
    assert str(free.port("web/2").ip) != "10.20.0.77"
    assert "nothing to change" in refused(f"vm.nic_update web {mac}", before)


def test_mirrors() -> None:
    intent = after(after(loads(FILE), "vm.create ids host=hv1"), "vm.nic_create ids mirror=web")
    assert [(it.name, it.source) for it in intent.mirrors] == [("ids/0", "web/0")]
    uplink = after(intent, f"vm.nic_update ids {intent.mirrors[0].mac} mirror=hv1/eth1")
    assert uplink.mirrors[0].source == "hv1/eth1"
    back = after(intent, f"vm.nic_update ids {intent.mirrors[0].mac} network=lan")
    assert not back.mirrors and back.port("ids/0").subnet == "lan"
    assert "vms.ids.nics[0].mirror" in refused("vm.delete web", intent)
    assert "vms.ids.nics[0].mirror" in refused(f"vm.nic_delete web {intent.port('web/0').mac}", intent)
    assert "vm.affinity_set foovm host_list=" in refused("vm.nic_create foovm mirror=web")
    assert "mirror=VM/NIC" in refused("vm.nic_create web type=kSpanDestinationNic")


def test_power_is_the_links() -> None:
    intent = after(loads(FILE), "vm.off web,foovm")
    assert not any(port.enabled for port in intent.ports)
    intent = after(intent, "vm.on web")
    assert [port.enabled for port in intent.ports if port.vm == "web"] == [True] * 3
    assert not intent.port("foovm/0").enabled


def test_vms_come_and_go() -> None:
    intent = after(loads(FILE), "vm.create 'Web Server_2' host=hv2 num_vcpus=2 memory=4G")
    assert intent.placement["web-server-2"] == "hv2"
    assert "there is a VM web already" in refused("vm.create WEB")
    assert list(after(intent, "vm.delete w*").placement) == ["foovm"]
    bound = after(intent, "vm.affinity_set web host_list=hv2")
    assert bound.placement["web"] == "hv2"
    free = after(bound, "vm.affinity_unset web")
    assert free.placement["web"] == "hv2" and free.file.vms["web"].affinity == []


# --- networks and virtual switches -------------------------------------------------------------------------


def test_networks() -> None:
    intent = after(loads(FILE), "net.create Prod.40 vlan=40 ip_config=10.40.0.1/24 mtu=1400 annotation=x")
    made = intent.file.subnets["prod-40"]
    assert (made.type, made.vlan, str(made.cidr), str(made.gateway), made.mtu) == (
        "vlan-basic",
        40,
        "10.40.0.0/24",
        "10.40.0.1",
        1400,
    )
    assert after(intent, "net.create n vlan=41 type=vlan").file.subnets["n"].type == "vlan"
    unmanaged = after(intent, "net.create n vlan=41 ip_config=10.41.0.0/24").file.subnets["n"]
    assert str(unmanaged.cidr) == "10.41.0.0/24" and unmanaged.gateway is None
    pools = after(intent, "net.add_dhcp_pool vlan.40 start=10.40.0.50 end=10.40.0.60")
    pools = after(pools, "net.add_dhcp_pool vlan.40 start=10.40.0.10 end=10.40.0.20")
    assert [str(part) for part in pools.file.subnets["prod-40"].pool or ()] == [
        "10.40.0.50-10.40.0.60",
        "10.40.0.10-10.40.0.20",
    ]
    left = after(pools, "net.delete_dhcp_pool vlan.40 start=10.40.0.50").file.subnets["prod-40"]
    assert [str(part) for part in left.pool or ()] == ["10.40.0.10-10.40.0.20"]
    assert "Its pools start at: 10.40.0.10" in refused("net.delete_dhcp_pool vlan.40 start=1.2.3.4", pools)
    moved = after(pools, "net.update vlan.40 ip_config=10.50.0.1/24 vlan=50").file.subnets["prod-40"]
    assert (moved.vlan, str(moved.cidr), moved.pool) == (50, "10.50.0.0/24", None)
    assert "prod-40" not in after(pools, "net.delete vlan.40").file.subnets
    assert "lan is used by" in refused("net.delete lan")
    assert "has no length" in refused("net.create x vlan=41 ip_config=10.0.0.1")


def test_virtual_switches() -> None:
    base = loads(
        "name: lab\nhosts:\n  hv1: {nics: &n {eth0: {switch: tor1}, eth1: {switch: tor2}, "
        "eth2: {switch: tor1}, eth3: {switch: tor1}}}\n  hv2: {nics: *n}\n"
        "virtual_switches: {vs0: {uplinks: [eth0, eth1]}}"
    )
    both = "host_uplink_config='{hv1:eth2,eth3;hv2:eth2,eth3}'"
    same = after(base, f"net.create_virtual_switch vs1 bond_type=kBalanceSlb {both}")
    assert (same.file.virtual_switches or {})["vs1"].uplinks == ["eth2", "eth3"]
    assert {
        bridge.mode for host in same.hosts.values() for bridge in host.bridges if bridge.switch == "vs1"
    } == {"balance-slb"}
    one = after(
        base, "net.create_virtual_switch vs1 bond_type=kNoUplinkBond host_uplink_config={hv1:eth2} mtu=1500"
    )
    assert [
        (name, bridge.uplinks, bridge.mtu) for name, host in one.hosts.items() for bridge in host.bridges
    ][1::2] == [
        ("hv1", ("eth2",), 1500),
        ("hv2", (), 1500),
    ]
    tcp = after(
        same, "net.update_virtual_switch br1 bond_type=kBalanceTcp lacp_fallback=true quick_mode=true"
    )
    assert tcp.hosts["hv1"].bridges[1].lacp == "active" and tcp.hosts["hv1"].bridges[1].lacp_fallback
    plain = after(tcp, "net.update_virtual_switch vs1 bond_type=kActiveBackup")
    assert plain.hosts["hv1"].bridges[1].lacp == "off" and not plain.hosts["hv1"].bridges[1].lacp_fallback
    differ = after(plain, "net.update_virtual_switch vs1 host_uplink_config={hv2:eth2}")
    assert [host.bridges[1].uplinks for host in differ.hosts.values()] == [("eth2", "eth3"), ("eth2",)]
    again = after(differ, "net.update_virtual_switch vs1 uplinks=eth3")
    assert [host.bridges[1].uplinks for host in again.hosts.values()] == [("eth3",), ("eth3",)]
    carried = after(again, "net.create n vlan=7 vswitch_name=br1")
    assert "vs1 carries n" in refused("net.delete_virtual_switch vs1", carried)
    assert "vs1" not in (after(again, "net.delete_virtual_switch vs1").file.virtual_switches or {})
    assert "vs0 is always there" in refused("net.delete_virtual_switch vs0", base)
    assert "vs1, vs2" in refused("net.create_virtual_switch prod", base)


# --- checks of the file ------------------------------------------------------------------------------------


def test_checks_stay_as_far_as_they_go() -> None:
    before = loads(FILE)
    assert len(after(before, "vm.create x").file.checks) == 2
    assert [check.from_ for check in after(before, "vm.delete foovm").file.checks] == ["web/1"]


# --- answers -----------------------------------------------------------------------------------------------


def test_tables_and_blocks() -> None:
    told = table(("VM name", "VM UUID"), [("web", 1), ("x", None)])
    assert told.text == "VM name  VM UUID\nweb      1\nx"
    assert told.data == [{"vm_name": "web", "vm_uuid": "1"}, {"vm_name": "x", "vm_uuid": ""}]
    assert table(("VM name",), []).text == "VM name"
    told = blocks(
        {"web": {"state": "kOn", "nics": [{"vlan": 1}, {"vlan": 2}], "up": True, "none": None, "empty": {}}}
    )
    assert told.text == (
        'web {\n  nics {\n    vlan: 1\n  }\n  nics {\n    vlan: 2\n  }\n  state: "kOn"\n  up: True\n}'
    )
