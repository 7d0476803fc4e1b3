"""Trunked NICs: the native VLAN untagged, exactly the listed ones tagged, on VLAN and VLAN basic subnets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.conftest import Lab, Ping, netctl, private_lab
from tests.live.frames import BROADCAST, Wires, ethernet, ipv4, marker
from tests.live.test_basic import opened, plain

pytestmark = pytest.mark.live

CONTRACT = Path(__file__).parents[1] / "unit" / "contract" / "trunk.yaml"

INTENT = """
hosts: {hv1: {}, hv2: {}}
subnets:
  ten: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}
  twenty: {type: vlan, vlan: 20, cidr: 10.20.0.0/24}
  thirty: {type: vlan, vlan: 30, cidr: 10.30.0.0/24}
  forty: {type: vlan-basic, vlan: 40, cidr: 10.40.0.0/24}
vms:
  trunk: {host: hv1, nics: [{subnet: ten, ip: 10.10.0.11, mode: trunk, trunked: [10, 20, 40, 99]}]}
  other: {host: hv2, nics: [{subnet: ten, mode: trunk, trunked: [99]}]}
  a1: {host: hv1, nics: [{subnet: ten, ip: 10.10.0.12}]}
  a2: {host: hv2, nics: [{subnet: ten, ip: 10.10.0.13}]}
  b1: {host: hv1, nics: [{subnet: twenty}]}
  b2: {host: hv2, nics: [{subnet: twenty}]}
  c1: {host: hv1, nics: [{subnet: thirty}]}
  c2: {host: hv2, nics: [{subnet: thirty}]}
  d2: {host: hv2, nics: [{subnet: forty}]}
physical:
  bare: {switch: tor1, vlan: 99, ip: 10.99.0.1/24}
"""

MEMBERS: dict[int, set[str]] = {
    10: {"a1", "a2", "other"},
    20: {"b1", "b2"},
    40: {"d2"},
    99: {"bare"},
}
"""Who hears the trunk untagged, by the VLAN that it speaks in; `other` has VLAN 99 tagged."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with private_lab("r", tmp_path_factory.mktemp("trunk")) as made:
        made.up(INTENT)
        yield made


@pytest.fixture
def wire(running: Lab) -> Iterator[Wires]:
    with opened(running) as found:
        yield found


def test_the_contract(lab: Lab) -> None:
    lab.up(CONTRACT.read_text())
    netctl("test", lab.file, "--lab", lab.name)
    assert netctl("status", lab.name, "--json").json()["state"] == "ready"


def test_a_vlan_without_a_subnet_is_warned_about(running: Lab) -> None:
    done = netctl("validate", running.file)
    assert "no subnet is on VLAN 99" in done.out + done.err


@pytest.mark.parametrize("vlan", [20, 40, 99])
def test_it_sends_into_what_it_has_tagged(wire: Wires, vlan: int) -> None:
    mark = marker()
    tagged: dict[str, list[int | None]] = {"other": [99]} if vlan == 99 else {}
    members = MEMBERS[vlan]
    got = wire.who_gets(
        "trunk", wire.broadcast("trunk", mark, vlan), mark, {*members, *tagged}, fence_vlan=vlan
    )
    assert got == {**plain(members), **tagged}


def test_it_sends_untagged_into_its_native_vlan(wire: Wires) -> None:
    mark = marker()
    got = wire.who_gets("trunk", wire.broadcast("trunk", mark), mark, MEMBERS[10])
    assert got == plain(MEMBERS[10])


@pytest.mark.parametrize("vlan", [10, 30, 1, 4095, 0])
def test_it_sends_into_no_other(wire: Wires, vlan: int) -> None:
    mark = marker()
    assert wire.who_gets("trunk", wire.broadcast("trunk", mark, vlan), mark, MEMBERS[10]) == {}


@pytest.mark.parametrize(
    ("sender", "tag"), [("b1", 20), ("b2", 20), ("d2", 40), ("bare", 99), ("a1", None), ("a2", None)]
)
def test_it_hears_what_it_has_with_the_tag_of_its_vlan(wire: Wires, sender: str, tag: int | None) -> None:
    mark = marker()
    (members,) = (found for found in [*MEMBERS.values()] if sender in found)
    expected: dict[str, list[int | None]] = {**plain(members - {sender}), "trunk": [tag]}
    if tag == 99:
        expected["other"] = [99]
    got = wire.who_gets(sender, wire.broadcast(sender, mark), mark, expected)
    assert got == expected


@pytest.mark.parametrize("sender", ["c1", "c2"])
def test_it_hears_no_other(wire: Wires, sender: str) -> None:
    mark = marker()
    (mate,) = {"c1", "c2"} - {sender}
    assert wire.who_gets(sender, wire.broadcast(sender, mark), mark, {mate}) == plain({mate})


def test_unicasts_of_its_vlans(wire: Wires) -> None:
    wire.who_gets("b2", wire.broadcast("b2", b"here"), marker(), {"b1"})
    mark = marker()
    frame = ethernet(wire.macs["b2"], wire.macs["trunk"], mark, tags=(20,))
    assert wire.who_gets("trunk", frame, mark, MEMBERS[20], fence_vlan=20) == plain({"b2"})
    mark = marker()
    frame = ipv4(wire.macs["trunk"], wire.macs["b2"], wire.ips["b2"], "10.20.0.200", mark)
    assert wire.who_gets("b2", frame, mark, {"b1"}) == {"trunk": [20]}


def test_another_mac_address_reaches_nobody(wire: Wires) -> None:
    mark = marker()
    frame = ethernet(BROADCAST, wire.macs["b1"], mark, tags=(20,))
    assert wire.who_gets("trunk", frame, mark, MEMBERS[20], fence_vlan=20) == {}


@pytest.mark.parametrize("inner", [10, 30, 40, 99])
@pytest.mark.parametrize("outer", [10, 20, 30])
def test_a_second_tag_leads_nowhere(wire: Wires, outer: int, inner: int) -> None:
    mark = marker()
    frame = ethernet(BROADCAST, wire.macs["trunk"], mark, tags=(outer, inner))
    got = wire.who_gets("trunk", frame, mark, MEMBERS[10])
    # What OVS has cached for the first tag alone may carry the frame along, but nowhere else.
    assert set(got) <= (MEMBERS[20] if outer == 20 else set())


def test_its_list_changes_beside_a_ping_that_loses_nothing(lab: Lab) -> None:
    lab.up(INTENT)
    intent: dict[str, Any] = yaml.safe_load(INTENT)
    ping = Ping(lab, "trunk", "10.10.0.13")
    for listed in ([20, 30], [20], [10, 20, 40, 99]):
        intent["vms"]["trunk"]["nics"][0]["trunked"] = listed
        intent["checks"] = [
            {"from": "trunk", "vlan": 20, "to": "b2", "expect": "delivered"},
            {"from": "trunk", "vlan": 30, "to": "c2", "expect": "delivered" if 30 in listed else "dropped"},
            {"from": "trunk", "vlan": 40, "to": "d2", "expect": "delivered" if 40 in listed else "dropped"},
        ]
        lab.apply(intent)
        netctl("test", lab.file, "--lab", lab.name)
        netctl("plan", lab.file)
    assert ping.lost() == 0
