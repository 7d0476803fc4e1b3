"""Properties of what netctl assigns: whatever the order, stable, reversible, no two alike, in the pool."""

from __future__ import annotations

import os
import random
from collections import Counter
from ipaddress import IPv4Address

from hypothesis import given, settings
from hypothesis import strategies as st

from netctl.intent import defaults
from netctl.intent.assignment import assign
from netctl.model import Assignments
from netctl.model.intent import LabFile

examples = settings(max_examples=max(1, int(os.environ.get("NETCTL_EXAMPLES", "600")) // 4), deadline=None)

HOSTS = [f"hv{number}" for number in range(1, 6)]
SUBNETS = {
    "web": {"type": "vlan", "vlan": 10, "cidr": "10.0.0.0/26", "pool": ["10.0.0.5-10.0.0.44"]},
    "app": {
        "type": "overlay",
        "vpc": "shop",
        "cidr": "10.0.0.0/24",
        "pool": ["10.0.0.100-10.0.0.119", "10.0.0.7-10.0.0.40"],
    },
    "far": {"type": "vlan", "vlan": 20, "cidr": "10.9.0.0/24", "clusters": ["pe2"]},
    "raw": {"type": "vlan", "vlan": 30},
}
VM_NAMES = [f"vm{number}" for number in range(12)]


@st.composite
def vms(draw: st.DrawFn) -> dict[str, dict[str, object]]:
    """VMs by name. Static addresses are a name's own, and out of the pool: who has what another claims
    moves, and stays away."""
    result: dict[str, dict[str, object]] = {}
    for name in draw(st.lists(st.sampled_from(VM_NAMES), unique=True, max_size=12)):
        number = int(name[2:])
        nics: list[dict[str, object]] = []
        for _ in range(draw(st.integers(0, 2))):
            nics.append({"subnet": draw(st.sampled_from(["web", "app", "raw"]))})
        if number % 4 == 0:
            nics.append(
                {"subnet": "web", "ip": f"10.0.0.{50 + number}", "mac": f"50:6b:8d:00:00:{number:02x}"}
            )
        vm: dict[str, object] = {"nics": nics}
        if number % 5 == 1:
            vm["host"] = HOSTS[number % 3]
        elif number % 5 == 2:
            vm["affinity"] = HOSTS[1:3]
        elif number % 5 == 3:
            nics.append({"subnet": "far"})
        result[name] = vm
    return result


def lab(machines: dict[str, dict[str, object]]) -> LabFile:
    return LabFile.model_validate(
        {
            "name": "lab",
            "hosts": {host: {} for host in HOSTS},
            "clusters": {"pe1": {"hosts": HOSTS[:3]}, "pe2": {"hosts": HOSTS[3:]}},
            "vpcs": {"shop": {}},
            "subnets": SUBNETS,
            "vms": machines,
            "physical": {"p": {"switch": "tor1", "vlan": 10, "ip": "10.0.0.7/26"}, "q": {"switch": "tor1"}},
        }
    )


def shuffled(file: LabFile, seed: int) -> LabFile:
    chance = random.Random(seed)
    order = {}
    for section in ("hosts", "subnets", "vms", "physical"):
        items = list(getattr(file, section).items())
        chance.shuffle(items)
        order[section] = dict(items)
    return file.model_copy(update=order)


def sound(file: LabFile, found: Assignments) -> None:
    """No two the same, everything in its pool, everybody where they may be."""
    numbers = [number for number, _, _ in found.nics.values()]
    assert len(set(numbers)) == len(numbers)
    assert set(found.nics) == {f"{vm}/{n}" for vm, it in file.vms.items() for n in range(len(it.nics))}
    macs = [mac for _, mac, _ in found.nics.values() if mac] + list(found.machines.values())
    macs += [nic.mac for vm in file.vms.values() for nic in vm.nics if nic.mac]
    assert len(set(macs)) == len(macs)
    assert len(set(found.hosts.values())) == len(file.hosts)
    used: Counter[tuple[str, str]] = Counter()
    for vm, it in file.vms.items():
        host = it.host or found.placement[vm]
        assert host in file.hosts
        assert not it.affinity or host in it.affinity
        for index, nic in enumerate(it.nics):
            _, mac, ip = found.nics[f"{vm}/{index}"]
            assert bool(mac) is (nic.mac is None)
            subnet = file.subnets[nic.subnet]
            assert bool(ip) is (nic.ip is None and subnet.cidr is not None)
            assert not subnet.clusters or host in HOSTS[3:]
            if ip:
                assert any(IPv4Address(ip) in part for part in defaults.pool(subnet))
            used[nic.subnet, ip or str(nic.ip)] += nic.ip is not None or bool(ip)
    assert all(count <= 1 for count in used.values())
    assert used["web", "10.0.0.7"] == 0
    places = [(found.placement.get(vm) or file.vms[vm].host, slot) for vm, slot in found.slots.items()]
    assert len(set(places)) == len(file.vms)


@examples
@given(vms(), st.integers())
def test_order_of_the_file_does_not_matter(machines: dict[str, dict[str, object]], seed: int) -> None:
    file = lab(machines)
    found = assign(file)
    sound(file, found)
    assert assign(shuffled(file, seed)) == found
    assert assign(file, found) == found


@examples
@given(vms(), vms())
def test_adding_moves_nothing(
    machines: dict[str, dict[str, object]], more: dict[str, dict[str, object]]
) -> None:
    small = lab(machines)
    large = lab({**more, **machines})
    before = assign(small)
    after = assign(large, before)
    sound(large, after)
    assert {name: after.nics[name] for name in before.nics} == before.nics
    assert {name: after.placement[name] for name in before.placement} == before.placement
    assert {name: after.slots[name] for name in before.slots} == before.slots
    assert (after.hosts, after.machines) == (before.hosts, before.machines)


@examples
@given(vms(), vms(), vms())
def test_there_and_back_again(
    one: dict[str, dict[str, object]], two: dict[str, dict[str, object]], three: dict[str, dict[str, object]]
) -> None:
    """A, any B, any C, A: as it was, where the VMs that A and the others share are the same in each."""
    a = lab(one)
    found = assign(a)
    for other in (two, three):
        between = lab({**other, **{name: one[name] for name in one if name in other}})
        found_there = assign(between, found)
        sound(between, found_there)
        back = assign(a, found_there)
        sound(a, back)
        assert back == found


@examples
@given(st.lists(st.tuples(vms(), st.integers()), min_size=2, max_size=6))
def test_a_long_history_stays_sound(history: list[tuple[dict[str, dict[str, object]], int]]) -> None:
    found: Assignments | None = None
    for machines, seed in history:
        file = lab(machines)
        following = assign(file, found)
        sound(file, following)
        assert assign(shuffled(file, seed), found) == following
        found = following
