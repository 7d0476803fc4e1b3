"""The controller against private real servers: databases alone where they are enough, else OVS and OVN."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from netctl import reconcile
from netctl.compile import compile_intent
from netctl.drivers import Databases, replica
from netctl.errors import ChangeError, ConflictError
from netctl.intent import loads
from netctl.model import Intent
from netctl.model.change import Plan
from netctl.model.state import Endpoints, State
from netctl.plan import plan
from tests.live.private import Private

A = """
name: ctl
hosts: {hv1: {}, hv2: {}}
vpcs: {shop: {}}
subnets:
  web: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}
  app: {type: overlay, vpc: shop, cidr: 192.168.1.0/24}
  db: {type: overlay, vpc: shop, cidr: 192.168.2.0/24}
vms:
  web1: {host: hv1, nics: [{subnet: web, ip: 10.10.0.11}]}
  app1: {host: hv1, nics: [{subnet: app}]}
  db1: {host: hv2, nics: [{subnet: db}]}
"""

# Another VLAN, a VPC less, a VPC more, NICs that move, a bond that becomes a port.
B = """
name: ctl
hosts: {hv1: {nics: {eth0: {switch: tor1}}}, hv2: {}}
vpcs: {store: {}}
subnets:
  web: {type: vlan, vlan: 11, cidr: 10.10.0.0/24}
  app: {type: overlay, vpc: store, cidr: 192.168.1.0/24, gateway: 192.168.1.254, mtu: 1300}
  more: {type: overlay, vpc: store, cidr: 192.168.9.0/24}
vms:
  web1: {host: hv2, nics: [{subnet: more}, {subnet: web}]}
  app1: {host: hv1, nics: [{subnet: app, link: down}]}
"""

NODES = ("hv1", "hv2", "tor1", "tor2")


@pytest.fixture
def private() -> Iterator[Private]:
    with tempfile.TemporaryDirectory(prefix="ctl-") as directory:  # short: a socket's path has 108 characters
        made = Private(Path(directory))
        yield made
        made.close()


@pytest.fixture
def servers(private: Private) -> Private:
    """OVN central and the databases of all nodes, with nobody behind these."""
    private.central()
    for node in NODES:
        private.database(node)
    return private


def compiled(text: str, private: Private) -> State:
    return compile_intent(loads(text, "lab.yaml"), private.endpoints().southbound)


def write(desired: State, private: Private) -> Plan:
    """Converge, and let northd do its part; nobody is behind the nodes' databases, so they need no wait."""
    with Databases(private.endpoints(*NODES), desired.owner) as databases:
        changes = reconcile.write(desired, databases)
        databases.wait_for_northd()
    return changes


def dump(private: Private) -> dict[str, object]:
    return {
        "nb": private.dump("nb", "OVN_Northbound"),
        **{node: private.dump(node, "Open_vSwitch") for node in NODES},
    }


# --- databases ---------------------------------------------------------------------------------------------


def test_what_was_written_is_read_again(servers: Private) -> None:
    for text in (A, B):
        desired = compiled(text, servers)
        assert write(desired, servers)
        with Databases(servers.endpoints(*NODES), "ctl") as databases:
            observed = databases.read()
        assert not plan(desired, observed)
        assert not plan(observed, desired)
        assert not write(desired, servers)


def test_there_and_back_again_leaves_no_trace(servers: Private) -> None:
    write(compiled(A, servers), servers)
    before = dump(servers)
    write(compiled(B, servers), servers)
    assert dump(servers) != before
    write(compiled(A, servers), servers)
    assert dump(servers) == before


def random_lab(dice: random.Random) -> str:
    """Some subnets, VPCs and VMs out of a few names, so that what goes and what comes meet."""
    vpcs = dice.sample(["v1", "v2", "v3"], dice.randint(1, 3))
    vlans, networks = dice.sample(range(1, 5), 4), dice.sample(range(8), 8)
    subnets: dict[str, Any] = {}
    for name in dice.sample(["s1", "s2", "s3", "s4"], dice.randint(1, 4)):
        if dice.random() < 0.4:
            subnets[name] = {"type": "vlan", "vlan": vlans.pop(), "cidr": "10.0.0.0/24"}
        else:
            cidr = f"10.{networks.pop()}.0.0/24"
            subnets[name] = {"type": "overlay", "vpc": dice.choice(vpcs), "cidr": cidr}
    vms = {
        f"vm{number}": {
            "host": dice.choice(["hv1", "hv2"]),
            "nics": [{"subnet": dice.choice(list(subnets))} for _ in range(dice.randint(1, 2))],
        }
        for number in dice.sample(range(6), dice.randint(0, 5))
    }
    lab = {"name": "ctl", "hosts": {"hv1": {}, "hv2": {}}, "vpcs": {name: {} for name in vpcs}}
    return yaml.safe_dump({**lab, "subnets": subnets, "vms": vms})


@pytest.mark.parametrize("seed", range(2))
def test_from_anywhere_to_anywhere(servers: Private, seed: int) -> None:
    """northd must survive it too (it does not survive everything: see netctl.plan.halfway)."""
    dice = random.Random(seed)
    northd = (servers.directory / "northd.pid").read_text()
    for _ in range(int(os.environ.get("NETCTL_STEPS", "25"))):
        desired = compiled(random_lab(dice), servers)
        write(desired, servers)
        with Databases(servers.endpoints(*NODES), "ctl") as databases:
            assert not plan(desired, databases.read())
        assert Path(f"/proc/{northd.strip()}").exists()
        log = (servers.directory / "northd.log").read_text()
        assert "EMER" not in log and "ERR" not in log, log[-2000:]


def test_nothing_wanted_leaves_nothing(servers: Private) -> None:
    write(State("ctl"), servers)
    before = dump(servers)
    write(compiled(A, servers), servers)
    write(State("ctl"), servers)
    after = dump(servers)
    assert after["nb"] == before["nb"]
    for node in NODES:
        left = after[node]
        assert isinstance(left, dict)
        assert not left["Bridge"] and not left["Port"] and not left["Interface"]
        (root,) = left["Open_vSwitch"]
        assert root["external_ids"] == ["map", []]


def test_a_plan_changes_only_what_depends_on_the_change(servers: Private) -> None:
    write(compiled(A, servers), servers)
    more = A + "  web9: {host: hv2, nics: [{subnet: web}]}\n"
    lines = str(write(compiled(more, servers), servers)).splitlines()
    assert lines == [
        "~ subnet web: Logical_Switch web: ports +web9/0",
        "+ vm web9: Logical_Switch_Port web9/0",
        "~ host hv2: Bridge brAtlas of hv2: ports +tap4",
        "+ vm web9: Interface tap4 of hv2",
        "+ vm web9: Port tap4 of hv2",
    ]


def test_what_others_made_survives(servers: Private) -> None:
    write(compiled(A, servers), servers)
    nb, vs = servers.nbctl, servers.vsctl
    nb("ls-add", "foreign", "--", "lsp-add", "foreign", "foreign/0", "--", "lr-add", "elsewhere")
    nb("lsp-add", "web", "guest", "--", "lrp-add", "shop", "uplink", "00:00:00:00:00:07", "10.7.0.1/24")
    nb("set", "logical_switch", "web", "other_config:mcast_snoop=true", "external_ids:theirs=1")
    nb("set", "logical_switch_port", "web1/0", "options:qos_max_rate=1000000")
    nb("acl-add", "web", "from-lport", "1", "ip", "allow")
    nb("set", "NB_Global", ".", "options:theirs=1")
    vs("hv1", "add-br", "theirs", "--", "add-port", "theirs", "p1", "--", "add-port", "br0", "p2")
    vs("hv1", "add-port", "brAtlas", "ovn-hv2-0", "--", "set", "interface", "ovn-hv2-0", "type=geneve")
    vs("hv1", "set", "open", ".", "external_ids:theirs=1", "other_config:theirs=1")
    vs("hv1", "set", "bridge", "brAtlas", "external_ids:ct-zone-web1=4", "other_config:mac-aging-time=9")
    vs("hv1", "set", "interface", "tap1", "external_ids:ovn-installed=true", "ingress_policing_rate=7")
    foreign = dump(servers)
    write(compiled(B, servers), servers)
    assert servers.nbctl("lsp-list", "foreign").split()[1] == "(foreign/0)"
    assert "(guest)" in servers.nbctl("lsp-list", "web")
    write(compiled(A, servers), servers)
    with_router = _without_shop(foreign)
    assert _without_shop(dump(servers)) == with_router


def _without_shop(dumped: dict[str, object]) -> dict[str, object]:
    """Less what was in rows of ours that went with B: OVSDB collects what nobody refers to any more."""
    nb = dumped["nb"]
    assert isinstance(nb, dict)
    vs = dumped["hv1"]
    assert isinstance(vs, dict)
    gone = {"uplink"}
    nb = {
        **nb,
        "Logical_Router": [row for row in nb["Logical_Router"] if row["name"] != "shop"],
        "Logical_Router_Port": [row for row in nb["Logical_Router_Port"] if row["name"] not in gone],
        "Logical_Switch_Port": [row for row in nb["Logical_Switch_Port"] if row["name"] != "web1/0"],
    }
    vs = {**vs, "Interface": [row for row in vs["Interface"] if row["name"] != "tap1"]}
    return {**dumped, "nb": nb, "hv1": vs}


TAMPERING = {
    "addresses of a port": ("nb", "lsp-set-addresses", "web1/0", "unknown"),
    "no port security": ("nb", "lsp-set-port-security", "web1/0"),
    "a port that is disabled": ("nb", "lsp-set-enabled", "web1/0", "disabled"),
    "a port elsewhere": ("nb", "set", "logical_switch_port", "web1/0", "options:requested-chassis=hv2"),
    "a port of no chassis": ("nb", "remove", "logical_switch_port", "web1/0", "options", "requested-chassis"),
    "a port that is gone": ("nb", "lsp-del", "web1/0"),
    "a port with another name": ("nb", "set", "logical_switch_port", "web1/0", "name=other"),
    "a port without its mark": ("nb", "clear", "logical_switch_port", "web1/0", "external_ids"),
    "another VLAN": ("nb", "set", "logical_switch_port", "web@vs0", "tag=99"),
    "no localnet": ("nb", "lsp-set-type", "web@vs0", "l2gateway"),
    "a switch that is gone": ("nb", "ls-del", "web"),
    "a switch without its mark": ("nb", "clear", "logical_switch", "web", "external_ids"),
    "a router that is gone": ("nb", "lr-del", "shop"),
    "a router without its mark": ("nb", "clear", "logical_router", "shop", "external_ids"),
    "another router address": ("nb", "set", "logical_router_port", "shop/app", "networks=10.9.9.9/24"),
    "another router MAC": ("nb", "set", "logical_router_port", "shop/app", "mac=\"00:00:00:00:00:01\""),
    "a router port off": ("nb", "set", "logical_router_port", "shop/app", "enabled=false"),
    "a copy of a switch": ("nb", "--", "create", "logical_switch", "name=web", "external_ids:netctl=ctl"),
    "a bridge that is gone": ("hv1", "del-br", "br0"),
    "a bridge without its mark": ("hv1", "clear", "bridge", "br0", "external_ids"),
    "another datapath": ("hv1", "set", "bridge", "br0", "datapath_type=system"),
    "another MAC": ("hv1", "set", "bridge", "br0", "other_config:hwaddr=00:00:00:00:00:01"),
    "not secure": ("hv1", "clear", "bridge", "brAtlas", "fail_mode"),
    "RSTP": ("hv1", "set", "bridge", "br0", "rstp_enable=true"),
    "a tap that is gone": ("hv1", "del-port", "tap3"),
    "an access port": ("hv1", "set", "port", "tap3", "tag=7"),
    "another bond": ("hv1", "set", "port", "br0-up", "bond_mode=balance-slb"),
    "a tap of another port": ("hv1", "set", "interface", "tap3", "external_ids:iface-id=app1/0"),
    "a tap without its marks": ("hv1", "clear", "interface", "tap3", "external_ids"),
    "a port without its marks": (
        "hv1", "clear", "port", "tap3", "external_ids", "--", "clear", "interface", "tap3", "external_ids",
    ),
    "another type": ("hv1", "set", "interface", "tap3", "type=internal"),
    "another MTU": ("hv1", "set", "interface", "br0", "mtu_request=576"),
    "another OVN": ("hv1", "set", "open", ".", "external_ids:ovn-remote=tcp:127.0.0.1:1"),
    "no mappings": ("hv1", "remove", "open", ".", "external_ids", "ovn-bridge-mappings"),
    "nothing left": ("hv1", "clear", "open", ".", "external_ids", "--", "clear", "open", ".", "bridges"),
    "a switch port": ("tor1", "set", "port", "hv1.eth0", "tag=5"),
}  # fmt: skip


def test_tampering_is_seen_and_put_right(servers: Private) -> None:
    """All in turn on the same servers: what one leaves behind the next would see."""
    desired = compiled(A, servers)
    write(desired, servers)
    before = dump(servers)
    for what, (where, *command) in TAMPERING.items():
        if where == "nb":
            servers.nbctl(*command)
        else:
            servers.vsctl(where, *command)
        assert dump(servers) != before, what
        assert reconcile.preview(desired, servers.endpoints(*NODES)), what
        assert write(desired, servers) or "mark" in what, what
        assert dump(servers) == before, what


@pytest.mark.parametrize(
    ("where", "command"),
    [
        ("hv1", ("add-br", "br0")),
        ("hv1", ("add-br", "other", "--", "add-port", "other", "tap1")),
        ("nb", ("ls-add", "other", "--", "lsp-add", "other", "web1/0")),
    ],
)
def test_a_taken_name_is_a_conflict(servers: Private, where: str, command: tuple[str, ...]) -> None:
    servers.nbctl(*command) if where == "nb" else servers.vsctl(where, *command)
    with pytest.raises(ConflictError) as error:
        write(compiled(A, servers), servers)
    assert command[-1] in error.value.message
    with Databases(servers.endpoints(*NODES), "ctl") as databases:
        observed = databases.read()
    left = observed.northbound if where == "nb" else observed.nodes[where]
    assert not [row for row in left.values() if row.columns]


def test_two_labs_on_one_northbound(servers: Private) -> None:
    """With prefixes they can share an OVN; what one does to its rows does nothing to the other's."""
    texts = {"one": A.replace("name: ctl", "name: one"), "two": A.replace("name: ctl", "name: two")}
    endpoints = servers.endpoints()
    states = {}
    for name, text in texts.items():
        compiled_ = compile_intent(loads(text, "lab.yaml"), endpoints.southbound, prefix=f"{name}.")
        states[name] = State(name, compiled_.northbound)
        with Databases(endpoints, name) as databases:
            databases.write(plan(states[name], databases.read()))
    with Databases(endpoints, "one") as databases:
        databases.write(plan(State("one"), databases.read()))
        assert not databases.read().northbound
    with Databases(endpoints, "two") as databases:
        assert not plan(states["two"], databases.read())


# --- trouble -----------------------------------------------------------------------------------------------


def test_nobody_there_is_told_in_words(private: Private) -> None:
    desired = compiled(A, private)
    endpoints = private.endpoints(*NODES)
    with pytest.raises(ChangeError, match=r"northbound database does not answer at unix:.*No such file"):
        reconcile.converge(desired, endpoints)
    private.central()
    with pytest.raises(ChangeError, match=r"database of hv1 does not answer at unix:.*No such file"):
        reconcile.verify(desired, endpoints)
    private.kill("nb")
    with pytest.raises(ChangeError, match=r"northbound database does not answer at unix:.*refused"):
        reconcile.verify(desired, endpoints)


def test_a_server_that_hangs_is_told_in_words(servers: Private, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "CONNECT_LIMIT", 0.5)
    monkeypatch.setattr(replica.connect, "__defaults__", (0.5,))
    desired = compiled(A, servers)
    for name, label in (("hv2", "hv2"), ("nb", "northbound")):
        servers.kill(name, signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(ChangeError, match=f"{label}.* does not answer at .*no answer within 0.5 s"):
            reconcile.verify(desired, servers.endpoints(*NODES))
        assert time.monotonic() - start < 3
        servers.kill(name, signal.SIGCONT)


def test_a_server_that_dies_meanwhile_is_told_in_words(servers: Private) -> None:
    desired = compiled(A, servers)
    with Databases(servers.endpoints(*NODES), "ctl") as databases:
        changes = plan(desired, databases.read())
        servers.kill("hv1")
        with pytest.raises(ChangeError, match=r"database of hv1 does not answer at .*connection was closed"):
            databases.write(changes)
    servers.database("hv1")
    write(desired, servers)
    assert not write(desired, servers)


def test_a_preview_of_what_is_not_there(private: Private) -> None:
    desired = compiled(A, private)
    everything = reconcile.preview(desired, Endpoints("", "", {}))
    assert len(everything) == sum(len(database) for _, database in desired.databases())
    assert {change.action for change in everything.changes} == {"create"}
    # Where a socket is but nobody listens, nothing is known: the rack tells that a daemon is missing.
    private.central()
    private.kill("nb")
    known = reconcile.preview(desired, Endpoints(private.remote("nb"), "", {}))
    assert "northbound" not in {change.database for change in known.changes}


def test_nothing_is_left_open(servers: Private) -> None:
    desired = compiled(A, servers)
    write(desired, servers)
    open_before, threads_before = set(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(3):
        reconcile.verify(desired, servers.endpoints(*NODES))
        with pytest.raises(ChangeError):
            reconcile.verify(compiled(B, servers), servers.endpoints(*NODES))
        with pytest.raises(ChangeError):
            reconcile.verify(desired, Endpoints("unix:/nowhere", "", servers.endpoints(*NODES).nodes))
    assert set(os.listdir("/proc/self/fd")) == open_before
    assert threading.active_count() == threads_before


def test_nothing_to_do_is_cheap(servers: Private) -> None:
    desired = compiled(A, servers)
    write(desired, servers)
    took = []
    for _ in range(5):
        start = time.process_time()
        reconcile.verify(desired, servers.endpoints(*NODES))
        took.append(time.process_time() - start)
    assert min(took) < 0.1


# --- with OVS and OVN --------------------------------------------------------------------------------------

SMALL = """
name: ctl
fabric: {switches: {tor1: {}}}
hosts: {hv1: {nics: {eth0: {switch: tor1}}}}
subnets:
  web: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}
vms:
  web1: {host: hv1, nics: [{subnet: web}]}
  off: {host: hv1, nics: [{subnet: web, link: down}]}
"""


@pytest.fixture
def host(private: Private) -> Private:
    private.central()
    private.node("hv1", "eth0", "tap1", "tap2")
    private.node("tor1", "hv1.eth0")
    return private


@pytest.fixture
def small() -> Intent:
    return loads(SMALL, "small.yaml")


def test_ready(host: Private, small: Intent) -> None:
    endpoints = host.endpoints("hv1", "tor1")
    desired = compile_intent(small, endpoints.southbound)
    with Databases(endpoints, "ctl") as databases:
        assert reconcile.converge(desired, databases)
        assert host.vsctl("hv1", "get", "interface", "br0", "mtu").strip() == "9000"  # vswitchd has done it
        with pytest.raises(ChangeError, match="host hv1 is not registered"):
            reconcile.wait_ready(small, databases, 0.2)
        host.controller("hv1")
        reconcile.wait_ready(small, databases, 20)
        assert host.nbctl("get", "logical_switch_port", "web1/0", "up").strip() == "true"
        assert "brAtlas" in host.vsctl("hv1", "list-br")
        reconcile.verify(desired, databases)
    # ovn-controller added a patch pair to our bridges by now, and keys to our rows: no difference.
    assert "patch" in host.vsctl("hv1", "list-ports", "br0")
    assert not reconcile.converge(desired, endpoints)


def test_a_controller_that_is_gone_is_noticed(host: Private, small: Intent) -> None:
    endpoints = host.endpoints("hv1", "tor1")
    desired = compile_intent(small, endpoints.southbound)
    reconcile.converge(desired, endpoints)
    host.controller("hv1")
    reconcile.wait_ready(small, endpoints, 20)
    host.kill("hv1-controller")
    with pytest.raises(ChangeError, match="ovn-controller of hv1 has not answered"):
        reconcile.wait_ready(small, endpoints, 1)
    host.controller("hv1")
    reconcile.wait_ready(small, endpoints, 20)
    host.kill("northd")
    with pytest.raises(ChangeError, match="not ready after 1 s"):
        reconcile.wait_ready(small, endpoints, 1)


def test_a_device_that_is_not_there_is_named(host: Private, small: Intent) -> None:
    endpoints = host.endpoints("hv1", "tor1")
    more = SMALL + "  web9: {host: hv1, nics: [{subnet: web}]}\n"
    intent = loads(more, "small.yaml")
    reconcile.converge(compile_intent(intent, endpoints.southbound), endpoints)
    host.controller("hv1")
    with pytest.raises(ChangeError, match=r"hv1: could not open network device tap3 \(No such device\)"):
        reconcile.wait_ready(intent, endpoints, 3)
    host.device("hv1", "tap3")
    reconcile.wait_ready(intent, endpoints, 20)


def test_what_a_killed_host_left_in_ovn_is_removed(host: Private, small: Intent) -> None:
    endpoints = host.endpoints("hv1", "tor1")
    reconcile.converge(compile_intent(small, endpoints.southbound), endpoints)
    host.controller("hv1")
    reconcile.wait_ready(small, endpoints, 20)
    host.kill("hv1-controller")
    host.sbctl("chassis-add", "theirs", "geneve", "192.0.2.7")
    gone = loads("name: ctl\nfabric: {switches: {tor1: {}}}\nhosts: {}\n", "gone.yaml")
    without = host.endpoints("tor1")
    reconcile.converge(compile_intent(gone, endpoints.southbound), without)
    reconcile.wait_ready(gone, without, 20)
    assert host.sbctl("--bare", "--columns=name", "list", "chassis").split() == ["theirs"]
    assert host.sbctl("--bare", "--columns=name", "list", "chassis_private").split() == []


def test_a_switch_that_does_not_act_is_told_in_words(
    host: Private, small: Intent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Databases.wait_for_switches, "__defaults__", (0.5,))
    host.kill("tor1-vswitchd", signal.SIGSTOP)
    endpoints = host.endpoints("hv1", "tor1")
    desired = compile_intent(small, endpoints.southbound)
    with pytest.raises(ChangeError, match=r"ovs-vswitchd did not act within 0.5 s .* tor1"):
        reconcile.converge(desired, endpoints)
    with pytest.raises(ChangeError, match=r"ovs-vswitchd did not act within 0.5 s .* tor1"):
        reconcile.converge(desired, endpoints)  # also when there is nothing left to write
    host.kill("tor1-vswitchd", signal.SIGCONT)
    assert not reconcile.converge(desired, endpoints)
