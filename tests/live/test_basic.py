"""VLAN basic subnets, asked with frames: who gets what, how often, with which tag. What breaks is mended."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.conftest import Lab, Ping, netctl, private_lab
from tests.live.frames import BROADCAST, Wires, arp, ethernet, ipv4, marker, wires
from tests.live.wires import wait_until

pytestmark = pytest.mark.live

INTENT = """
hosts:
  hv1: {nics: {eth0: {switch: tor1}, eth1: {switch: tor2}, eth2: {switch: tor1}}}
  hv2: {nics: {eth0: {switch: tor1}, eth1: {switch: tor2}, eth2: {switch: tor2}}}
fabric: {switches: {tor1: {}, tor2: {}}}
virtual_switches:
  vs0: {uplinks: [eth0, eth1]}
  vs1: {uplinks: [eth2]}
subnets:
  ten: {type: vlan-basic, vlan: 10, cidr: 10.10.0.0/24}
  twenty: {type: vlan-basic, vlan: 20, cidr: 10.20.0.0/24}
  thirty: {type: vlan-basic, vlan: 30, cidr: 10.30.0.0/24}
  second: {type: vlan-basic, vlan: 50, virtual_switch: vs1, cidr: 10.50.0.0/24}
  ovn: {type: vlan, vlan: 60, cidr: 10.60.0.0/24}
vms:
  a1: {host: hv1, nics: [{subnet: ten, ip: 10.10.0.11}]}
  a2: {host: hv1, nics: [{subnet: ten, ip: 10.10.0.12}]}
  a3: {host: hv2, nics: [{subnet: ten, ip: 10.10.0.13}]}
  b1: {host: hv1, nics: [{subnet: twenty}]}
  b2: {host: hv2, nics: [{subnet: twenty}]}
  c1: {host: hv2, nics: [{subnet: thirty}]}
  trunk: {host: hv1, nics: [{subnet: ten, ip: 10.10.0.14, mode: trunk, trunked: [10, 20]}]}
  open: {host: hv1, nics: [{subnet: ten, ip: 10.10.0.15, port_security: false}]}
  d1: {host: hv1, nics: [{subnet: second}]}
  d2: {host: hv2, nics: [{subnet: second}]}
  o1: {host: hv1, nics: [{subnet: ovn}]}
physical:
  bare: {switch: tor1, vlan: 10, ip: 10.10.0.99/24}
checks:
  - {from: a1, to: a2, expect: delivered}
  - {from: a1, to: a3, expect: delivered}
  - {from: a1, to: bare, expect: delivered}
  - {from: trunk, vlan: 20, to: b2, expect: delivered}
  - {from: d1, to: d2, expect: delivered}
  - {from: a1, to: b1, expect: dropped}
"""

TEN = {"a1", "a2", "a3", "trunk", "open", "bare"}
TWENTY = {"b1", "b2"}
SECOND = {"d1", "d2"}
UNKNOWN = "02:00:00:00:00:77"
MULTICAST = "01:00:5e:01:02:03"


def plain(nics: Collection[str]) -> dict[str, list[int | None]]:
    """Once each, untagged."""
    return {nic: [None] for nic in nics}


def opened(lab: Lab) -> Any:
    """The wires of all NICs of a lab: by VM, or vm/index where it has several."""
    status = netctl("status", lab.name, "--json").json()
    several = {nic["vm"] for nic in status["nics"] if nic["nic"]}
    nics, macs, ips = {}, {}, {}
    for nic in status["nics"]:
        name = f"{nic['vm']}/{nic['nic']}" if nic["vm"] in several else nic["vm"]
        nics[name] = lab.namespace(nic["vm"]), f"eth{nic['nic']}"
        macs[name] = nic["mac"]
        if nic["ip"]:
            ips[name] = nic["ip"]
    for machine in status["machines"]:
        nics[machine["name"]] = lab.namespace(machine["name"]), "eth0"
        link = lab.run(machine["name"], "cat", "/sys/class/net/eth0/address")
        macs[machine["name"]] = link.strip()
    return wires(nics, macs, ips)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab for the tests that only send frames."""
    with private_lab("b", tmp_path_factory.mktemp("basic")) as made:
        made.up(INTENT)
        yield made


@pytest.fixture
def wire(running: Lab) -> Iterator[Wires]:
    with opened(running) as found:
        yield found


def test_the_checks_of_the_lab_pass(running: Lab) -> None:
    netctl("test", running.file, "--lab", running.name)


def test_status_shows_the_nics_bound(running: Lab) -> None:
    status = netctl("status", running.name, "--json").json()
    assert status["trouble"] == []
    assert all(nic["bound"] for nic in status["nics"])


@pytest.mark.parametrize("target", [BROADCAST, MULTICAST, UNKNOWN], ids=["broadcast", "multicast", "unknown"])
@pytest.mark.parametrize("sender", ["a1", "a3", "open", "bare", "trunk"])
def test_what_goes_to_all_reaches_each_of_the_vlan_once(wire: Wires, sender: str, target: str) -> None:
    mark = marker()
    others = TEN - {sender}
    got = wire.who_gets(sender, ethernet(target, wire.macs[sender], mark), mark, others)
    assert got == plain(others)


@pytest.mark.parametrize("sender", ["b1", "b2"])
def test_a_trunk_gets_its_other_vlan_tagged(wire: Wires, sender: str) -> None:
    mark = marker()
    others = TWENTY - {sender}
    got = wire.who_gets(sender, wire.broadcast(sender, mark), mark, {*others, "trunk"})
    assert got == {**plain(others), "trunk": [20]}


def test_a_trunk_sends_into_its_other_vlan(wire: Wires) -> None:
    mark = marker()
    got = wire.who_gets("trunk", wire.broadcast("trunk", mark, 20), mark, TWENTY, fence_vlan=20)
    assert got == plain(TWENTY)


@pytest.mark.parametrize("vlan", [10, 30, 50, 60, 1, 4095, 0], ids=lambda vlan: f"vlan{vlan}")
def test_a_trunk_sends_into_no_vlan_that_it_does_not_have_tagged(wire: Wires, vlan: int) -> None:
    mark = marker()
    assert wire.who_gets("trunk", wire.broadcast("trunk", mark, vlan), mark, TEN - {"trunk"}) == {}


@pytest.mark.parametrize("vlan", [10, 20, 0], ids=lambda vlan: f"vlan{vlan}")
@pytest.mark.parametrize("sender", ["a1", "open"])
def test_a_tag_on_an_access_nic_reaches_nobody(wire: Wires, sender: str, vlan: int) -> None:
    mark = marker()
    assert wire.who_gets(sender, wire.broadcast(sender, mark, vlan), mark, TEN - {sender}) == {}


@pytest.mark.parametrize("outer", [10, 20, 30, 0x88A80000 | 20], ids=["10", "20", "30", "20-802.1ad"])
@pytest.mark.parametrize("inner", [10, 20, 30, 0x88A80000 | 20], ids=["10", "20", "30", "20-802.1ad"])
@pytest.mark.parametrize("sender", ["a1", "trunk", "bare"])
def test_two_tags_reach_nobody(wire: Wires, sender: str, outer: int, inner: int) -> None:
    """Nor right after a frame with the first tag alone, for which a switch has cached what to do."""
    wire.send(sender, ethernet(BROADCAST, wire.macs[sender], b"", tags=(outer,)))
    mark = marker()
    frame = ethernet(BROADCAST, wire.macs[sender], mark, tags=(outer, inner))
    assert wire.who_gets(sender, frame, mark, TEN - {sender}) == {}


def test_two_tags_from_the_fabric_reach_nobody(running: Lab, wire: Wires) -> None:
    """A frame that the hosts' links carry, whose first tag is a VLAN here; and one without the second."""
    for tags, reached in (((10,), TEN - {"bare"}), ((10, 20), set()), ((10, 10), set())):
        mark = marker()
        frame = ethernet(BROADCAST, UNKNOWN, mark, tags=tags).hex()
        to = "output:hv1.eth0,output:hv2.eth0"
        running.tool("tor1", "ovs-ofctl", "packet-out", "br", f"in_port=local packet={frame} actions={to}")
        got = wire.who_gets("bare", wire.broadcast("bare", b"none"), mark, TEN - {"bare"})
        assert got == plain(reached)


def test_virtual_switches_are_apart(wire: Wires) -> None:
    mark = marker()
    assert wire.who_gets("d1", wire.broadcast("d1", mark), mark, {"d2"}) == plain({"d2"})


@pytest.mark.parametrize(("sender", "receiver"), [("a1", "a2"), ("a1", "a3"), ("a3", "a1"), ("a1", "trunk")])
def test_a_known_receiver_is_the_only_one(wire: Wires, sender: str, receiver: str) -> None:
    wire.who_gets(receiver, wire.broadcast(receiver, b"here"), marker(), TEN - {receiver})
    mark = marker()
    frame = ethernet(wire.macs[receiver], wire.macs[sender], mark)
    assert wire.who_gets(sender, frame, mark, TEN - {sender}) == plain({receiver})


def test_a_frame_to_oneself_comes_back_to_nobody(wire: Wires) -> None:
    wire.who_gets("a1", wire.broadcast("a1", b"here"), marker(), TEN - {"a1"})
    mark = marker()
    assert wire.who_gets("a1", ethernet(wire.macs["a1"], wire.macs["a1"], mark), mark, TEN - {"a1"}) == {}


def test_the_first_broadcast_of_all_does_not_come_back(running: Lab, wire: Wires) -> None:
    """Nobody has learned anything yet."""
    netctl("fail", "daemon", "hv1", "ovs-vswitchd", "--lab", running.name)
    netctl("heal", "all", "--lab", running.name)
    mark = marker()
    assert wire.who_gets("a1", wire.broadcast("a1", mark), mark, TEN - {"a1"}) == plain(TEN - {"a1"})


@pytest.mark.parametrize("target", ["01:80:c2:00:00:00", "01:80:c2:00:00:02", "01:80:c2:00:00:0e"])
def test_what_no_bridge_forwards_reaches_nobody(wire: Wires, target: str) -> None:
    """Spanning trees, LACP and LLDP of a guest."""
    mark = marker()
    assert wire.who_gets("open", ethernet(target, wire.macs["open"], mark), mark, TEN - {"open"}) == {}


SPOOFS = {
    "another MAC address": lambda me, other: ethernet(BROADCAST, other, b""),
    "a multicast MAC address": lambda me, other: ethernet(BROADCAST, MULTICAST, b""),
    "another's IP address": lambda me, other: ipv4(BROADCAST, me, "10.10.0.12", "10.10.0.255", b""),
    "another's IP address in ARP": lambda me, other: arp(me, me, "10.10.0.12", "10.10.0.13", b""),
    "another's MAC address in ARP": lambda me, other: arp(me, other, "10.10.0.11", "10.10.0.13", b""),
    "IPv6": lambda me, other: ethernet(BROADCAST, me, b"\x60" + bytes(39), kind=0x86DD),
}


@pytest.mark.parametrize("what", SPOOFS)
def test_what_is_not_the_senders_own_reaches_nobody(wire: Wires, what: str) -> None:
    mark = marker()
    frame = SPOOFS[what](wire.macs["a1"], wire.macs["a2"]) + mark
    assert wire.who_gets("a1", frame, mark, TEN - {"a1"}) == {}


def test_what_is_the_senders_own_arrives(wire: Wires) -> None:
    """The same frames with the right addresses: nothing else drops them."""
    me = wire.macs["a1"]
    own = [
        ethernet(BROADCAST, me, b""),
        ipv4(BROADCAST, me, "10.10.0.11", "10.10.0.255", b""),
        arp(me, me, "10.10.0.11", "10.10.0.11", b""),
    ]
    for frame in own:
        mark = marker()
        assert wire.who_gets("a1", frame + mark, mark, TEN - {"a1"}) == plain(TEN - {"a1"})


def test_a_trunks_other_vlan_takes_any_ip_address_but_only_its_mac(wire: Wires) -> None:
    me = wire.macs["trunk"]
    for source, reached in ((me, TWENTY), (wire.macs["b1"], set())):
        mark = marker()
        frame = ethernet(BROADCAST, source, b"\x45" + bytes(19) + mark, tags=(20,), kind=0x0800)
        assert wire.who_gets("trunk", frame, mark, TWENTY, fence_vlan=20) == plain(reached)


def test_without_port_security_others_live_behind_a_nic(wire: Wires) -> None:
    mark = marker()
    others = TEN - {"open"}
    assert wire.who_gets("open", ethernet(BROADCAST, UNKNOWN, mark), mark, others) == plain(others)
    for sender in ("a1", "a3"):
        mark = marker()
        frame = ethernet(UNKNOWN, wire.macs[sender], mark)
        assert wire.who_gets(sender, frame, mark, TEN - {sender}) == plain({"open"})

    # It moves to where it speaks next; not at once, since vswitchd looks over its cached decisions apart from
    # the packets, and may count an earlier frame after a later one.
    def moved() -> bool:
        mark = marker()
        wire.who_gets("bare", ethernet(BROADCAST, UNKNOWN, mark), mark, TEN - {"bare"})
        mark = marker()
        frame = ethernet(UNKNOWN, wire.macs["a1"], mark)
        return wire.who_gets("a1", frame, mark, TEN - {"a1"}) == plain({"bare"})

    wait_until(moved, 5, "a MAC address has moved")


# --- mending -------------------------------------------------------------------------------------------

SMALL = """
hosts: {hv1: {}, hv2: {}}
subnets:
  ten: {type: vlan-basic, vlan: 10, cidr: 10.10.0.0/24}
  twenty: {type: vlan-basic, vlan: 20, cidr: 10.20.0.0/24}
vms:
  a1: {host: hv1, nics: [{subnet: ten, ip: 10.10.0.11}]}
  a2: {host: hv1, nics: [{subnet: ten, ip: 10.10.0.12}]}
  a3: {host: hv2, nics: [{subnet: ten, ip: 10.10.0.13}]}
  b1: {host: hv1, nics: [{subnet: twenty}]}
checks:
  - {from: a1, to: a2, expect: delivered}
  - {from: a3, to: a1, expect: delivered}
  - {from: a1, to: b1, expect: dropped}
"""


def flows(lab: Lab, bridge: str, node: str = "hv1") -> list[str]:
    text = lab.tool(node, "ovs-ofctl", "-OOpenFlow15", "--names", "--no-stats", "dump-flows", bridge)
    return sorted(line.strip() for line in text.splitlines() if "hard_timeout" not in line)


def mended(lab: Lab) -> None:
    """Seen by plan and status, mended by apply, and then nothing is left to do."""
    plan = netctl("plan", lab.file, code=10)
    assert "flow of" in plan.out
    status = netctl("status", lab.name, "--json").json()
    assert status["state"] == "degraded"
    assert any("flows are not as they must be" in line for line in status["trouble"])
    assert not next(nic for nic in status["nics"] if nic["vm"] == "a1")["bound"]
    netctl("apply", lab.file)
    netctl("plan", lab.file)
    netctl("test", lab.file, "--lab", lab.name)
    assert netctl("status", lab.name, "--json").json()["state"] == "ready"


def test_flows_changed_by_hand_are_mended(lab: Lab) -> None:
    lab.up(SMALL)
    before = {bridge: flows(lab, bridge) for bridge in ("br0.local", "br.microseg", "br.nf")}

    def by_hand(*words: str) -> None:
        lab.tool("hv1", "ovs-ofctl", "-OOpenFlow15", *words)

    def changes() -> Iterator[None]:
        for bridge in before:
            yield by_hand("del-flows", bridge)
        yield by_hand("--strict", "del-flows", "br0.local", "priority=200,in_port=br0.local.u")
        yield by_hand("mod-flows", "br0.local", "table=7,actions=drop")
        yield by_hand("add-flow", "br0.local", "priority=200,in_port=br0.local.u,actions=drop")
        yield by_hand("add-flow", "br.nf", "priority=100,in_port=br.nf.d0,idle_timeout=3600,actions=drop")

    for _ in changes():
        mended(lab)
        assert {bridge: flows(lab, bridge) for bridge in before} == before


def test_flows_of_others_stay(lab: Lab) -> None:
    lab.up(SMALL)
    ofctl = ("ovs-ofctl", "-OOpenFlow15")
    lab.tool("hv1", *ofctl, "add-flow", "br.nf", "cookie=0x77,priority=5,dl_type=0x1234,actions=drop")
    netctl("plan", lab.file)
    lab.tool("hv1", *ofctl, "del-flows", "br.nf", "table=0,in_port=br.nf.u0")
    netctl("plan", lab.file, code=10)
    netctl("apply", lab.file)
    assert any("cookie=0x77" in line for line in flows(lab, "br.nf"))
    netctl("test", lab.file, "--lab", lab.name)


def test_a_switch_that_was_killed_gets_its_flows_back(lab: Lab) -> None:
    lab.up(SMALL)
    before = flows(lab, "br0.local")
    os.kill(int(Path(f"/run/netctl/{lab.name}/hv1/ovs-vswitchd.pid").read_text()), signal.SIGKILL)
    status = netctl("status", lab.name, "--json").json()
    assert status["state"] == "degraded"
    netctl("apply", lab.file)
    assert flows(lab, "br0.local") == before
    netctl("test", lab.file, "--lab", lab.name)


def test_bridges_that_lost_their_fail_mode_get_it_back(lab: Lab) -> None:
    lab.up(SMALL)
    lab.tool("hv1", "ovs-vsctl", "del-fail-mode", "br0.local")
    netctl("plan", lab.file, code=10)
    netctl("apply", lab.file)
    netctl("plan", lab.file)
    netctl("test", lab.file, "--lab", lab.name)


def test_nics_come_and_go_beside_a_ping_that_loses_nothing(lab: Lab) -> None:
    lab.up(SMALL)
    intent: dict[str, Any] = yaml.safe_load(SMALL)
    near, far = Ping(lab, "a1", "10.10.0.12"), Ping(lab, "a1", "10.10.0.13")
    intent["vms"]["a4"] = {"host": "hv1", "nics": [{"subnet": "ten", "ip": "10.10.0.14"}]}
    intent["vms"]["b2"] = {"host": "hv2", "nics": [{"subnet": "twenty", "mode": "trunk", "trunked": [10]}]}
    lab.apply(intent)
    lab.run("a4", "ping", "-c1", "-W2", "10.10.0.13")
    intent["vms"]["a4"]["host"] = "hv2"
    lab.apply(intent)
    lab.run("a2", "ping", "-c1", "-W2", "10.10.0.14")
    lab.run("a3", "ping", "-c1", "-W2", "10.10.0.14")
    del intent["vms"]["a4"], intent["vms"]["b2"]
    lab.apply(intent)
    assert (near.lost(), far.lost()) == (0, 0)


def test_the_last_basic_subnet_takes_its_bridges_along(lab: Lab) -> None:
    intent: dict[str, Any] = yaml.safe_load(SMALL)
    lab.up(intent)
    for subnet in intent["subnets"].values():
        subnet["type"] = "vlan"
    lab.apply(intent)
    assert set(lab.tool("hv1", "ovs-vsctl", "list-br").split()) == {"br0", "brAtlas"}
    netctl("test", lab.file, "--lab", lab.name)
    lab.apply(yaml.safe_load(SMALL))
    netctl("test", lab.file, "--lab", lab.name)


def test_a_nic_with_its_link_down_gets_nothing_and_sends_nothing(lab: Lab) -> None:
    intent: dict[str, Any] = yaml.safe_load(SMALL)
    lab.up(intent)
    intent["vms"]["a2"]["nics"][0]["link"] = "down"
    intent["checks"] = [{"from": "a1", "to": "a2", "expect": "dropped"}]
    lab.apply(intent)
    netctl("test", lab.file, "--lab", lab.name)
    assert not any("output:tap2" in line for line in flows(lab, "br0.local"))
    lab.apply(yaml.safe_load(SMALL))
    netctl("test", lab.file, "--lab", lab.name)
