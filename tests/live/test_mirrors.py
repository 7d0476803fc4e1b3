"""Port mirrors on real Open vSwitch: who gets copies of what, and that nobody else notices."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.conftest import Lab, Ping, netctl, private_lab
from tests.live.frames import BROADCAST, Wires, ethernet, marker, wires

INTENT: dict[str, Any] = yaml.safe_load("""
hosts: {hv1: {}, hv2: {}}
subnets:
  lan: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}
  basic: {type: vlan-basic, vlan: 20, cidr: 10.20.0.0/24}
  side: {type: vlan, vlan: 30, cidr: 10.30.0.0/24}
  app: {type: overlay, vpc: shop, cidr: 192.168.0.0/24}
vpcs: {shop: {}}
vms:
  web: {host: hv1, nics: [{subnet: lan, ip: 10.10.0.11}]}
  web2: {host: hv2, nics: [{subnet: lan, ip: 10.10.0.12}]}
  old: {host: hv1, nics: [{subnet: basic, ip: 10.20.0.11}]}
  old2: {host: hv2, nics: [{subnet: basic, ip: 10.20.0.12}]}
  near: {host: hv1, nics: [{subnet: basic, ip: 10.20.0.13}]}
  app1: {host: hv1, nics: [{subnet: app, ip: 192.168.0.11}]}
  app2: {host: hv2, nics: [{subnet: app, ip: 192.168.0.12}]}
  ids: {host: hv1, nics: [{subnet: side, ip: 10.30.0.11}, {mirror: web}, {mirror: old/0}, {mirror: hv1/eth0}]}
  peer: {host: hv2, nics: [{subnet: side, ip: 10.30.0.12}]}
checks:
  - {from: web, to: web2, expect: delivered}
  - {from: web2, to: web, expect: delivered}
  - {from: old, to: near, expect: delivered}
  - {from: web, to: web2, vlan: 99, expect: dropped}
  - {from: web, to: old2, expect: dropped}
  - {from: ids, to: peer, expect: delivered}
""")
ADDRESS = {name: vm["nics"][0]["ip"] for name, vm in INTENT["vms"].items()}


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with private_lab("acl", tmp_path_factory.mktemp("mirrors")) as lab:
        lab.up(INTENT)
        yield lab


@pytest.fixture
def wired(mirrored: Lab) -> Iterator[Wires]:
    """All NICs of the lab: `web` for web's first, `ids/1` for ids' second."""
    places = {}
    macs = {}
    for nic in netctl("status", mirrored.name, "--json").json()["nics"]:
        name = nic["vm"] if nic["nic"] == 0 else f"{nic['vm']}/{nic['nic']}"
        places[name] = (mirrored.namespace(nic["vm"]), f"eth{nic['nic']}")
        macs[name] = nic["mac"]
    with wires(places, macs, ADDRESS) as made:
        yield made


def echo_reply(target: str, source: str, sender: str, receiver: str, payload: bytes) -> bytes:
    """What no stack answers, not even with an error that quotes it."""
    message = struct.pack("!BBHHH", 0, 0, 0, 1, 1) + payload
    message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 0, 0, 64, 1, 0)
    head += IPv4Address(sender).packed + IPv4Address(receiver).packed
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return ethernet(target, source, head + message, kind=0x0800)


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def sent(wired: Wires, source: str, receiver: str, fence_at: Collection[str]) -> dict[str, list[int | None]]:
    """Who gets a packet, and with which tag, once for each time; the uplinks' copies are told once.

    The receiver is heard of first: switches flood what is for somebody whom they do not know.
    """
    mark = marker()
    wired.who_gets(receiver, wired.broadcast(receiver, marker()), mark, {source})
    frame = echo_reply(wired.macs[receiver], wired.macs[source], ADDRESS[source], ADDRESS[receiver], mark)
    got = wired.who_gets(source, frame, mark, fence_at)
    if "ids/3" in got:
        # A ToR that does not know whom it is for sends it to both uplinks, also back to where it is from.
        got["ids/3"] = got["ids/3"][:1]
    return got


def test_what_a_nic_sends_and_gets_is_copied_once(wired: Wires) -> None:
    fence = {"web2", "ids/1", "ids/3"}
    assert sent(wired, "web", "web2", fence) == {"web2": [None], "ids/1": [None], "ids/3": [10]}
    assert sent(wired, "web2", "web", {"web", "ids/1", "ids/3"}) == {
        "web": [None],
        "ids/1": [None],
        "ids/3": [10],
    }


def test_vlan_basic_as_well_also_to_the_next_vm(wired: Wires) -> None:
    assert sent(wired, "old", "old2", {"old2", "near", "ids/2", "ids/3"}) == {
        "old2": [None],
        "ids/2": [None],
        "ids/3": [20],
    }
    assert sent(wired, "old", "near", {"old2", "near", "ids/2"}) == {"near": [None], "ids/2": [None]}
    assert sent(wired, "old2", "near", {"old", "near", "ids/2", "ids/3"}) == {"near": [None], "ids/3": [20]}


def test_an_uplink_shows_tunnels_as_they_are_on_the_wire(wired: Wires) -> None:
    assert sent(wired, "app1", "app2", {"app2", "ids/3"}) == {"app2": [None], "ids/3": [None]}
    assert sent(wired, "app2", "app1", {"app1", "ids/3"}) == {"app1": [None], "ids/3": [None]}


def test_a_broadcast_is_copied_once_and_of_a_bond_by_each_uplink(wired: Wires) -> None:
    """A NIC's mirror gets it once; a bond's as often as the ToRs send it, though Open vSwitch takes one."""
    mark = marker()
    got = wired.who_gets("old2", wired.broadcast("old2", mark), mark, {"old", "near", "ids/2", "ids/3"})
    by_uplinks = got.pop("ids/3")
    assert got == {"old": [None], "near": [None], "ids/2": [None]}
    assert by_uplinks in ([20], [20, 20]), "the second may come behind the fence, which comes twice as well"


def test_what_a_nic_must_not_send_is_copied_and_not_delivered(wired: Wires) -> None:
    """A mirror shows what came out of the VM, whatever became of it."""
    mark = marker()
    forged = ethernet(BROADCAST, "02:00:00:00:00:99", mark)
    assert wired.who_gets("web", forged, mark, {"web2", "ids/1"}) == {"ids/1": [None]}


@pytest.mark.parametrize("nic", ["ids/1", "ids/2", "ids/3"])
def test_what_a_mirror_sends_goes_nowhere(wired: Wires, nic: str) -> None:
    mark = marker()
    wired.send(nic, wired.broadcast(nic, mark))
    fences = {"web": {"web2", "ids/1"}, "old": {"old2", "near"}, "app1": {"app2"}}
    for source, fence_at in fences.items():
        assert wired.who_gets(source, wired.broadcast(source, marker()), mark, fence_at) == {}


def test_checks_do_not_take_copies_for_packets(mirrored: Lab) -> None:
    netctl("test", mirrored.file)


def test_status_and_captures_know_it(mirrored: Lab) -> None:
    shown = netctl("status", mirrored.name).out
    assert "gets copies of web/0" in shown and "gets copies of hv1/eth0" in shown
    pcap = mirrored.file.with_suffix(".pcapng")
    ping = Ping(mirrored, "web", ADDRESS["web2"])
    netctl("capture", "--lab", mirrored.name, "ids/1", "-w", pcap, "--count", "4")
    ping.lost()
    assert pcap.stat().st_size > 400


def test_a_mirror_outlives_the_controller_of_its_bridge(mirrored: Lab, wired: Wires) -> None:
    os.kill(int(Path(f"/run/netctl/{mirrored.name}/hv1/ovn-controller.pid").read_text()), signal.SIGKILL)
    netctl("apply", mirrored.file)
    assert netctl("plan", mirrored.file).code == 0
    assert sent(wired, "web", "web2", {"web2", "ids/1"})["ids/1"] == [None]


def test_a_mirror_changes_and_goes_live(lab: Lab) -> None:
    vms = INTENT["vms"]

    def intent(*nics: dict[str, str]) -> dict[str, Any]:
        ids = {**vms["ids"], "nics": [vms["ids"]["nics"][0], *nics]}
        return {**INTENT, "vms": {**vms, "ids": ids}, "checks": []}

    lab.up(intent({"mirror": "web"}))
    pings = [
        Ping(lab, "web", ADDRESS["web2"]),
        Ping(lab, "old", ADDRESS["near"]),
        Ping(lab, "ids", ADDRESS["peer"]),
    ]
    moved = lab.write(intent({"mirror": "old"}))
    assert "Mirror ids/1" in netctl("plan", moved, code=10).out
    netctl("apply", moved)
    assert netctl("plan", moved).code == 0
    at = {"web2": "eth0", "near": "eth0", "web": "eth0", "old": "eth0", "ids": "eth1"}
    macs = {nic["vm"]: nic["mac"] for nic in netctl("status", lab.name, "--json").json()["nics"]}
    with wires({vm: (lab.namespace(vm), it) for vm, it in at.items()}, macs, ADDRESS) as made:
        assert sent(made, "web", "web2", {"web2"}) == {"web2": [None]}
        assert sent(made, "old", "near", {"near", "ids"}) == {"near": [None], "ids": [None]}
    netctl("apply", lab.write(intent()))
    assert "Mirror" not in lab.tool("hv1", "ovs-vsctl", "list", "mirror")
    assert [ping.lost() for ping in pings] == [0, 0, 0]
