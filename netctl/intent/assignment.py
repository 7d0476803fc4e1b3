"""What netctl decides where the file leaves it open: addresses, MACs, NIC and host numbers, placement.

What was decided before stays as long as it may. The rest goes in the order of the names to the first that is
free, so the result does not depend on the file's order, adding things moves nothing, and going to another
intent and back gives the same (unless the other claims, by name, what was assigned here).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from heapq import heapify, heappop, heappush
from ipaddress import IPv4Address, IPv4Network

from netctl.errors import InputError
from netctl.intent import defaults
from netctl.model import bgp
from netctl.model.intent import Assignments, LabFile
from netctl.model.vm import Vm

VM_OUI = "50:6b:8d"
"""The OUI of assigned VM MAC addresses (AHV's)."""

MACHINE_PREFIX = "06:61:68"
"""First octets of assigned MACs of bare machines; locally administered, as no VM's assigned one is."""

HOST_PREFIX = "0a:61:68:76"
"""First octets of br0's MAC on each host; locally administered. No VM or bare machine may claim one."""

RESERVED_MACS = {HOST_PREFIX: "hosts", "0a:58": "VPCs' routers", bgp.MAC_PREFIX: "speakers of BGP"}
"""Prefixes of MAC addresses that nobody may claim, and whose they are."""

HOST_NETWORK = IPv4Network("100.64.0.0/16")
"""Where br0's addresses come from: the hosts' own untagged network (RFC 6598 space)."""


TRANSIT_NETWORK = IPv4Network("169.254.0.0/16")
"""Where routers' addresses in transit VPCs come from (RFC 3927): no guest and no other router sees them."""


def host_address(number: int) -> IPv4Address:
    """br0's address, the Geneve endpoint."""
    return HOST_NETWORK.network_address + number


def host_mac(number: int) -> str:
    """br0's MAC address."""
    return f"{HOST_PREFIX}:{number >> 8:02x}:{number & 255:02x}"


def assign(lab: LabFile, assignments: Assignments | None = None) -> Assignments:
    """Assignments for everything that the file leaves open. Raises InputError when a pool is exhausted."""
    given = assignments or Assignments()
    placement, slots = _placement(lab, given)
    nics, routers = _nics(lab, given)
    return Assignments(
        hosts=_hosts(lab, given.hosts),
        placement=placement,
        nics=nics,
        machines=_machines(lab, given.machines),
        slots=slots,
        routers=routers,
        transits=_transits(lab, given.transits),
        speakers=_speakers(lab, given.speakers, nics, routers),
    )


def _keep_or_number(names: Iterable[str], given: Mapping[str, int], barred: frozenset[int]) -> dict[str, int]:
    """Every name's own number: the given one, else the lowest from 1 that is free."""
    ordered = sorted(names)
    result: dict[str, int] = {}
    used = set(barred)
    for name in ordered:
        number = given.get(name, 0)
        if number > 0 and number not in used:
            result[name] = number
            used.add(number)
    following = 1
    for name in ordered:
        if name not in result:
            while following in used:
                following += 1
            result[name] = following
            used.add(following)
    return dict(sorted(result.items()))


def _hosts(lab: LabFile, given: Mapping[str, int]) -> dict[str, int]:
    """Numbers of the hosts; no two in the lab, and none whose address a bare machine beside them has."""
    network = int(HOST_NETWORK.network_address)
    barred = frozenset(
        int(machine.ip.ip) - network
        for machine in lab.physical.values()
        if machine.ip is not None and machine.ip.ip in HOST_NETWORK
    )
    last = HOST_NETWORK.num_addresses - 2
    return _keep_or_number(lab.hosts, {name: n for name, n in given.items() if n <= last}, barred)


# --- placement -----------------------------------------------------------------------------------


def hosts_for(lab: LabFile, vm: Vm) -> list[str]:
    """Hosts that a VM may run on, sorted: in its affinity, and where all of its subnets are."""
    allowed = set(vm.affinity) & set(lab.hosts) if vm.affinity else set(lab.hosts)
    clusters = [
        subnet.clusters
        for nic in vm.nics
        if (subnet := lab.subnets.get(nic.subnet)) is not None and subnet.clusters is not None
    ]
    if clusters:
        of = defaults.cluster_of(lab)
        allowed = {host for host in allowed if all(of.get(host) in names for names in clusters)}
    return sorted(allowed)


def _placement(lab: LabFile, given: Assignments) -> tuple[dict[str, str], dict[str, int]]:
    """Hosts of the VMs that the file does not place, and every VM's slot on its host.

    Whoever comes next takes the lowest slot that is free anywhere, which is one of the least loaded hosts'.
    """
    everywhere = sorted(lab.hosts)
    free = {host: _Slots() for host in everywhere}
    choices: dict[str, list[str]] = {}
    result: dict[str, tuple[str, int]] = {}
    ordered = sorted(lab.vms)
    for name in ordered:
        vm = lab.vms[name]
        if vm.host is not None:
            choices[name] = [vm.host] if vm.host in free else []
        elif not vm.affinity and not any(
            nic.subnet in lab.subnets and lab.subnets[nic.subnet].clusters for nic in vm.nics
        ):
            choices[name] = everywhere
        else:
            choices[name] = hosts_for(lab, vm)
    # What was decided stays.
    homeless: dict[str, str] = {}
    for name in ordered:
        vm = lab.vms[name]
        host = vm.host or given.placement.get(name, "")
        if host not in free or (vm.host is None and not _may(host, choices[name], everywhere)):
            continue
        slot = given.slots.get(name, -1)
        if slot >= 0 and free[host].take(slot):
            result[name] = (host, slot)
        elif vm.host is None:
            homeless[name] = host
    for name, host in homeless.items():
        result[name] = (host, free[host].take_lowest())
    # Then those that the file places, then the rest.
    for placed in (True, False):
        lowest: list[tuple[int, str]] = []
        if not placed:
            lowest = [(free[host].lowest(), host) for host in everywhere]
            heapify(lowest)
        for name in ordered:
            vm = lab.vms[name]
            if name in result or (vm.host is not None) is not placed or not choices[name]:
                continue
            if len(choices[name]) == 1:
                host = choices[name][0]
            elif choices[name] is everywhere:
                while lowest[0][0] != free[lowest[0][1]].lowest():  # an outdated entry
                    _, host = heappop(lowest)
                    heappush(lowest, (free[host].lowest(), host))
                host = lowest[0][1]
            else:
                host = min(choices[name], key=lambda host: (free[host].lowest(), host))
            result[name] = (host, free[host].take_lowest())
    return (
        {name: host for name, (host, _) in sorted(result.items()) if lab.vms[name].host is None},
        {name: slot for name, (_, slot) in sorted(result.items())},
    )


def _may(host: str, choice: list[str], everywhere: list[str]) -> bool:
    return choice is everywhere or host in choice


class _Slots:
    """The slots of a host: which are taken, and the lowest that is free."""

    def __init__(self) -> None:
        self.used: set[int] = set()
        self.first = 0

    def take(self, slot: int) -> bool:
        if slot in self.used:
            return False
        self.used.add(slot)
        return True

    def lowest(self) -> int:
        while self.first in self.used:
            self.first += 1
        return self.first

    def take_lowest(self) -> int:
        slot = self.lowest()
        self.used.add(slot)
        return slot


# --- NICs and machines ---------------------------------------------------------------------------


def _nics(lab: LabFile, assigned: Assignments) -> tuple[dict[str, tuple[int, str, str]], dict[str, str]]:
    """Numbers, MAC and IP addresses of the NICs, and the addresses of VPCs in their external subnets."""
    given = assigned.nics
    every = {
        f"{vm}/{index}": nic
        for vm, definition in lab.vms.items()
        for index, nic in enumerate(definition.nics)
    }
    numbers = _keep_or_number(every, {name: entry[0] for name, entry in given.items()}, frozenset())
    macs = _macs(
        lab,
        VM_OUI,
        [name for name, nic in every.items() if nic.mac is None],
        {name: entry[1] for name, entry in given.items()},
    )
    of_subnet: dict[str, list[str]] = {name: [] for name in lab.subnets}
    for name, nic in every.items():
        if nic.mirror is None and not isinstance(nic.ip, IPv4Address) and nic.subnet in of_subnet:
            of_subnet[nic.subnet].append(name)
    routers = [
        f"{vpc}/{external.subnet}"
        for vpc, definition in lab.vpcs.items()
        for external in definition.external
        if external.router_ip is None and external.subnet in lab.subnets
    ]
    for name in routers:
        of_subnet[name.partition("/")[2]].append(name)
    before = {**assigned.routers, **{name: entry[2] for name, entry in given.items()}}
    addresses: dict[str, str] = {}
    taken = defaults.taken(lab)
    for subnet, names in of_subnet.items():
        if names and lab.subnets[subnet].cidr is not None:
            addresses |= _addresses(lab, subnet, names, taken[subnet], before)
    nics = {name: (numbers[name], macs.get(name, ""), addresses.get(name, "")) for name in sorted(every)}
    return nics, {name: addresses[name] for name in sorted(routers) if name in addresses}


def _addresses(
    lab: LabFile,
    subnet: str,
    names: list[str],
    claimed: set[IPv4Address],
    given: Mapping[str, str],
) -> dict[str, str]:
    ranges = [(int(part.first), int(part.last)) for part in defaults.pool(lab.subnets[subnet])]
    used = {int(address) for address in claimed}
    result: dict[str, str] = {}
    ordered = sorted(names)
    for name in ordered:
        try:
            address = int(IPv4Address(given[name]))
        except (KeyError, ValueError):
            continue
        if address not in used and any(first <= address <= last for first, last in ranges):
            used.add(address)
            result[name] = given[name]
    free = _free(ranges, used)
    for name in ordered:
        if name not in result:
            number = next(free, None)
            if number is None:
                raise InputError(
                    f"the pool of the subnet {subnet} is exhausted",
                    f"Give subnets.{subnet} a larger pool or CIDR.",
                )
            result[name] = str(IPv4Address(number))
    return result


def _free(ranges: list[tuple[int, int]], used: set[int]) -> Iterator[int]:
    previous = -1
    for first, last in ranges:
        for number in range(max(first, previous + 1), last + 1):
            if number not in used:
                yield number
        previous = max(previous, last)


def _transits(lab: LabFile, given: Mapping[str, str]) -> dict[str, str]:
    """An address for each VPC in each transit VPC, one of its own in the whole lab."""
    wanted = [f"{name}/{hub}" for name, vpc in lab.vpcs.items() for hub in vpc.attach]
    wanted += [f"{name}/{name}" for name, vpc in lab.vpcs.items() if vpc.type == "transit"]
    base = int(TRANSIT_NETWORK.network_address)
    before = {}
    for name, address in given.items():
        with contextlib.suppress(ValueError):
            before[name] = int(IPv4Address(address)) - base
    numbers = _keep_or_number(set(wanted), before, frozenset())
    return {name: str(IPv4Address(base + number)) for name, number in numbers.items()}


def _speakers(
    lab: LabFile,
    given: Mapping[str, tuple[int, str]],
    nics: Mapping[str, tuple[int, str, str]],
    routers: Mapping[str, str],
) -> dict[str, tuple[int, str]]:
    """Number and address of each speaker of BGP, out of what the external subnets' pools have left."""
    wanted = defaults.speakers(lab)
    if not wanted:
        return {}
    every = {name for names in wanted.values() for name in names}
    numbers = _keep_or_number(every, {name: number for name, (number, _) in given.items()}, frozenset())
    before = {name: address for name, (_, address) in given.items()}
    taken = defaults.taken(lab)
    for name, address in routers.items():
        taken[name.partition("/")[2]].add(IPv4Address(address))
    for name, (_, _, assigned) in nics.items():
        vm, _, index = name.partition("/")
        if assigned:
            taken[lab.vms[vm].nics[int(index)].subnet].add(IPv4Address(assigned))
    found: dict[str, str] = {}
    for subnet, names in wanted.items():
        found |= _addresses(lab, subnet, names, taken[subnet], before)
    return {name: (numbers[name], found[name]) for name in sorted(every)}


def _machines(lab: LabFile, given: Mapping[str, str]) -> dict[str, str]:
    return _macs(lab, MACHINE_PREFIX, [name for name, it in lab.physical.items() if it.mac is None], given)


def _macs(lab: LabFile, prefix: str, names: list[str], given: Mapping[str, str]) -> dict[str, str]:
    """A MAC address each: by a hash of the lab's and the owner's name, the next one when that is taken."""
    used = {nic.mac for vm in lab.vms.values() for nic in vm.nics if nic.mac}
    used |= {machine.mac for machine in lab.physical.values() if machine.mac}
    result: dict[str, str] = {}
    ordered = sorted(names)
    for name in ordered:
        mac = given.get(name, "")
        if mac.startswith(f"{prefix}:") and mac not in used:
            used.add(mac)
            result[name] = mac
    for name in ordered:
        if name not in result:
            tail = int.from_bytes(sha256(f"{lab.name}/{name}".encode()).digest()[:3])
            while (mac := f"{prefix}:{tail >> 16:02x}:{tail >> 8 & 255:02x}:{tail & 255:02x}") in used:
                tail = (tail + 1) % 2**24
            used.add(mac)
            result[name] = mac
    return dict(sorted(result.items()))
