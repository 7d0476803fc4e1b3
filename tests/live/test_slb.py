"""balance-slb: nothing arrives twice, whatever the switches know or have forgotten."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import combinations, permutations
from typing import Any

import pytest
import yaml

from tests.live.conftest import Lab, netctl, private_lab
from tests.live.wires import BROADCAST, MULTICAST, NOBODY, Stations, stations, wait_until

KINDS = {"vlan": 0, "vlan-basic": 1, "overlay": 2}
"""The NIC of each VM in a subnet of each type."""

INTENT: dict[str, Any] = yaml.safe_load("""
hosts:
  hv1: {}
  hv2: {}
  hv3: {nics: {eth0: {switch: tor1}, eth1: {switch: tor1}, eth2: {switch: tor2}}}
virtual_switches: {vs0: {per_host: {hv2: {bond: balance-slb}, hv3: {bond: balance-slb}}}}
vpcs: {shop: {}}
subnets:
  lan: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}
  old: {type: vlan-basic, vlan: 20, cidr: 10.20.0.0/24}
  app: {type: overlay, vpc: shop, cidr: 192.168.1.0/24}
""")
INTENT["vms"] = {
    name: {
        "host": host,
        "nics": [{"subnet": subnet, "port_security": False} for subnet in ("lan", "old", "app")],
    }
    for name, host in {"a": "hv1", "b": "hv2", "c": "hv3", "d": "hv3"}.items()
}


@pytest.fixture(scope="module")
def slb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """hv1 active-backup, hv2 balance-slb to both switches, hv3 to both with two uplinks at one."""
    with private_lab("t", tmp_path_factory.mktemp("slb")) as made:
        made.up(INTENT)
        yield made


def names(kind: str) -> list[str]:
    return [f"{vm}/{KINDS[kind]}" for vm in INTENT["vms"]]


def make_switches_forget(lab: Lab) -> None:
    for switch in ("tor1", "tor2"):
        lab.tool(switch, "ovs-appctl", "fdb/flush", "br")


def assert_once(lab: Lab, all_: Stations, pairs: list[tuple[str, str]], count: int = 20) -> None:
    """Frames of each pair arrive once each, although the switches know nobody."""
    for source, to in pairs:
        make_switches_forget(lab)
        numbers = []
        for _ in range(count):
            numbers += all_.send(source, all_.macs[to])
            time.sleep(0.002)
        found = all_.collect(0.2)
        assert [dict(found[number]) for number in numbers] == [{to: 1}] * count, (source, to)


WINDOW = 2.5
"""Seconds after which an answer no longer counts, with what OVS needs to notice that."""


def test_what_is_for_somebody_silent_or_forgotten_arrives_once(slb: Lab) -> None:
    """First nobody has said anything; then all have, but the switches forget, as when they restart."""
    with stations(slb, *(name for kind in KINDS for name in names(kind))) as all_:
        time.sleep(WINDOW)
        pairs = [pair for kind in KINDS for pair in combinations(names(kind), 2)]
        assert_once(slb, all_, pairs)
        time.sleep(WINDOW)
        assert_once(slb, all_, [(to, source) for source, to in pairs])


def test_who_is_forgotten_while_it_answers_is_known_again_with_its_next_frame(slb: Lab) -> None:
    """The only copies that there are: until then. Nothing is ever lost."""
    with stations(slb, "a/0", "b/0") as all_:
        for source, to in (("a/0", "b/0"), ("b/0", "a/0")) * 3:
            all_.send(source, all_.macs[to])
        all_.collect(0.1)
        make_switches_forget(slb)
        numbers = all_.send("a/0", all_.macs["b/0"], 5)
        found = all_.collect(0.1)
        assert {found[number]["b/0"] for number in numbers} <= {1, 2}
        all_.send("b/0", all_.macs["a/0"])
        all_.collect(0.8)  # OVS, as a switch, may learn half a second late
        numbers = all_.send("a/0", all_.macs["b/0"], 5)
        found = all_.collect(0.1)
        assert [dict(found[number]) for number in numbers] == [{"b/0": 1}] * 5


@pytest.mark.parametrize("kind", ["vlan", "vlan-basic"])
def test_what_is_for_all_or_nobody_arrives_once(slb: Lab, kind: str) -> None:
    with stations(slb, *names(kind)) as all_:
        for source in all_.names:
            make_switches_forget(slb)
            numbers = [
                number
                for _ in range(5)
                for to in (BROADCAST, MULTICAST, NOBODY)
                for number in all_.send(source, to)
            ]
            found = all_.collect(0.2)
            want = {name: 1 for name in all_.names if name != source}
            assert [dict(found[number]) for number in numbers] == [want] * len(numbers), source


def move(lab: Lab, source: str) -> None:
    """Move a source of hv2 to its other uplink, as a rebalance does."""
    (bond,) = netctl("bond", "hv2", "--lab", lab.name, "--json").json()["bonds"]
    (found,) = [each for each in bond["sources"] if each["source"] == source]
    to = {"eth0": "eth1", "eth1": "eth0"}[found["member"]]
    lab.tool("hv2", "ovs-appctl", "bond/migrate", "br0-up", str(found["hash"]), to)


def test_a_receiver_that_moves_to_another_uplink_loses_nothing(slb: Lab) -> None:
    """Whoever answers is heard by whichever uplink the switches now send."""
    with stations(slb, "a/0", "b/0", "a/1", "b/1") as all_:
        for index in (0, 1):
            for _ in range(60):  # OVS tells the uplink of who has sent more than 1 KiB
                all_.send(f"b/{index}", all_.macs[f"a/{index}"])
        wait_until(lambda: {"b/0", "b/1"} <= known(slb).keys(), 10, "OVS has counted what b sends")
        all_.collect()
        numbers: dict[int, str] = {}
        for turn in range(160):
            for index in (0, 1):
                for source, to in permutations((f"a/{index}", f"b/{index}"), 2):
                    numbers |= dict.fromkeys(all_.send(source, all_.macs[to]), to)
            time.sleep(0.01)
            if turn == 60:
                for source in ("b/0", "b/1"):
                    number, member = known(slb)[source]
                    other = {"eth0": "eth1", "eth1": "eth0"}[member]
                    slb.tool("hv2", "ovs-appctl", "bond/migrate", "br0-up", str(number), other)
        found = all_.collect()
        wrong = {number: found[number] for number, to in numbers.items() if found[number] != {to: 1}}
        assert not wrong


def known(lab: Lab) -> dict[str, tuple[int, str]]:
    """Hash and uplink of each source of hv2 that OVS tells them of."""
    (bond,) = netctl("bond", "hv2", "--lab", lab.name, "--json").json()["bonds"]
    return {each["source"]: (each["hash"], each["member"]) for each in bond["sources"] if each["member"]}
