"""Rules for subnets: what each type needs, VLANs, addresses, pools and MTU."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network

from netctl.intent import defaults
from netctl.intent.findings import Findings
from netctl.model.intent import GENEVE_OVERHEAD, LabFile
from netctl.model.subnet import Subnet

SHORTEST_LEASE = 120
"""Seconds of the shortest lease of dnsmasq(8)."""

SMALLEST = 30
"""The longest prefix of a subnet: network, broadcast, gateway and one more address."""


def what_the_type_needs(lab: LabFile, findings: Findings) -> None:
    """VLAN kinds have a VLAN, overlay subnets a VPC; neither has the other's."""
    for name, subnet in lab.subnets.items():
        path = ("subnets", name)
        if subnet.type == "overlay":
            if subnet.vpc is None and findings.sound(*path, "vpc"):
                findings.error(path, f"the overlay subnet {name} is in no VPC", "write vpc: NAME", key=True)
            for key in ("vlan", "virtual_switch"):
                if getattr(subnet, key) is not None:
                    findings.error(
                        (*path, key),
                        f"an overlay subnet has no {key}: Geneve carries it",
                        f"remove `{key}`, or write type: vlan",
                        key=True,
                    )
        else:
            if subnet.vlan is None and findings.sound(*path, "vlan"):
                findings.error(
                    path, f"the {subnet.type} subnet {name} has no VLAN", "write vlan: 1 to 4094", key=True
                )
            if subnet.vpc is not None:
                findings.error(
                    (*path, "vpc"),
                    f"a subnet of type {subnet.type} is in no VPC",
                    "reach it over the VPC's external: [{subnet: ...}]"
                    if subnet.type == "external"
                    else "write type: overlay, or remove `vpc`",
                    key=True,
                )
        if subnet.cidr is None and findings.sound(*path, "cidr"):
            needed = {"overlay": "its VPC routes it", "external": "VPCs leave through it"}.get(subnet.type)
            if needed and not (subnet.type == "overlay" and subnet.cidr6 is not None):
                findings.error(
                    path,
                    f"the {subnet.type} subnet {name} has no addresses, but {needed}",
                    "write cidr: such as 192.168.1.0/24",
                    key=True,
                )
            for key in ("gateway", "pool", "dhcp", "dhcp_server"):
                if getattr(subnet, key):
                    findings.error(
                        (*path, key),
                        f"`{key}` needs the subnet's addresses, and {name} has no cidr",
                        "write cidr: such as 10.10.0.0/24",
                        key=True,
                    )


def one_subnet_a_vlan(lab: LabFile, findings: Findings) -> None:
    """Two subnets on one VLAN of one virtual switch would be one network (and a loop)."""
    seen: dict[tuple[str, int], str] = {}
    for name, subnet in lab.subnets.items():
        if subnet.vlan is None or subnet.type == "overlay":
            continue
        if not findings.sound("subnets", name, "virtual_switch"):
            continue
        place = (subnet.switch, subnet.vlan)
        if place in seen:
            first = seen[place]
            findings.error(
                ("subnets", name, "vlan"),
                f"VLAN {subnet.vlan} of {subnet.switch} is the subnet {first}'s already "
                f"(line {findings.line('subnets', first)})",
                "choose another VLAN or another virtual switch",
            )
        seen.setdefault(place, name)


def _usable(address: IPv4Address, cidr: IPv4Network) -> str:
    """What keeps an address from being somebody's in a network; empty when nothing does."""
    if address not in cidr:
        return f"is not in {cidr}"
    if address == cidr.network_address:
        return f"is the network address of {cidr}"
    if address == cidr.broadcast_address:
        return f"is the broadcast address of {cidr}"
    return ""


def between(cidr: IPv4Network) -> str:
    """The host addresses of a network, for a hint."""
    return f"{cidr.network_address + 1} to {cidr.broadcast_address - 1}"


def networks(lab: LabFile, findings: Findings) -> None:
    """A subnet's network holds hosts."""
    for name, subnet in lab.subnets.items():
        cidr = subnet.cidr
        if cidr is None:
            continue
        path = ("subnets", name, "cidr")
        if cidr.prefixlen > SMALLEST:
            findings.error(
                path, f"{cidr} has no room for a gateway and a VM", f"/{SMALLEST} is the smallest subnet"
            )
        elif cidr.prefixlen < 8 or cidr.is_multicast or cidr.is_loopback or cidr.network_address.is_reserved:
            findings.error(path, f"{cidr} is no network of hosts", "write such as 10.10.0.0/24")


def no_overlap_in_a_vpc(lab: LabFile, findings: Findings) -> None:
    """Subnets of one VPC are routed, so their networks differ; other VPCs' may be the same."""
    by_vpc: dict[str, list[tuple[IPv4Network, str]]] = {}
    for name, subnet in lab.subnets.items():
        if subnet.type == "overlay" and subnet.vpc is not None and subnet.cidr is not None:
            by_vpc.setdefault(subnet.vpc, []).append((subnet.cidr, name))
    for vpc, named in by_vpc.items():
        order = {name: number for number, (_, name) in enumerate(named)}
        # Networks nest or are apart: in sorted order, each need only be held against the last wide one.
        wide: tuple[IPv4Network, str] | None = None
        for cidr, name in sorted(named, key=lambda item: (item[0], order[item[1]])):
            if wide is not None and cidr.subnet_of(wide[0]):
                later, first = sorted((name, wide[1]), key=lambda one: -order[one])
                findings.error(
                    ("subnets", later, "cidr"),
                    f"{lab.subnets[later].cidr} overlaps {lab.subnets[first].cidr} of the subnet {first} "
                    f"(line {findings.line('subnets', first)}), and {vpc} routes both",
                    "choose another network, or put one of them in another VPC",
                )
            else:
                wide = (cidr, name)


def gateways(lab: LabFile, findings: Findings) -> None:
    """Gateway and DHCP server have addresses of the subnet."""
    for name, subnet in lab.subnets.items():
        if subnet.cidr is None or subnet.cidr.prefixlen > SMALLEST:
            continue
        for key, what in (("gateway", "gateway"), ("dhcp_server", "DHCP server")):
            address = getattr(subnet, key)
            wrong = _usable(address, subnet.cidr) if address is not None else ""
            if wrong:
                findings.error(
                    ("subnets", name, key),
                    f"the {what} {address} {wrong}",
                    f"write one of {between(subnet.cidr)}",
                )
        if (
            subnet.dhcp_server is not None
            and subnet.type == "vlan-basic"
            and subnet.dhcp_server == subnet.gateway
        ):
            findings.error(
                ("subnets", name, "dhcp_server"),
                f"{subnet.dhcp_server} is the gateway's",
                "write another address, or leave it out for the subnet's last one",
            )


def pools(lab: LabFile, findings: Findings) -> None:
    """Pools are of the subnet's addresses, apart from each other and from the gateway."""
    for name, subnet in lab.subnets.items():
        cidr = subnet.cidr
        if cidr is None or subnet.pool is None or cidr.prefixlen > SMALLEST:
            continue
        for index, part in enumerate(subnet.pool):
            path = ("subnets", name, "pool", index)
            outside = next((one for one in (part.first, part.last) if _usable(one, cidr)), None)
            if outside is not None:
                findings.error(
                    path,
                    f"{outside} of the pool {_usable(outside, cidr)}",
                    f"write a range within {between(cidr)}",
                )
            elif subnet.router is not None and subnet.router in part:
                default = "" if subnet.gateway else " (the subnet's first address, unless you write another)"
                findings.error(
                    path,
                    f"the pool {part} holds the gateway {subnet.router}{default}",
                    f"leave it out of the pool: {_without(part.first, part.last, subnet.router)}",
                )
            for other in range(index):
                earlier = subnet.pool[other]
                if part.first <= earlier.last and earlier.first <= part.last:
                    findings.error(path, f"the pools {earlier} and {part} overlap", "write each address once")
                    break


def _without(first: IPv4Address, last: IPv4Address, address: IPv4Address) -> str:
    parts = []
    if first < address:
        parts.append(f"{first}-{address - 1}")
    if address < last:
        parts.append(f"{address + 1}-{last}")
    return f"[{', '.join(parts)}]" if parts else "choose other addresses"


def room_in_pools(lab: LabFile, findings: Findings) -> None:
    """A pool has an address for every NIC that needs one."""
    needed: dict[str, int] = {}
    for vm in lab.vms.values():
        for nic in vm.nics:
            if nic.mirror is None and (nic.ip is None or nic.ip == "dhcp"):
                needed[nic.subnet] = needed.get(nic.subnet, 0) + 1
    for vpc in lab.vpcs.values():
        for external in vpc.external:
            if external.router_ip is None:
                needed[external.subnet] = needed.get(external.subnet, 0) + 1
    for outside, speakers in defaults.speakers(lab).items():
        needed[outside] = needed.get(outside, 0) + len(speakers)
    taken = defaults.taken(lab)
    for name, count in sorted(needed.items()):
        subnet = lab.subnets.get(name)
        if subnet is None or subnet.cidr is None or not findings.sound("subnets", name):
            continue
        room = _room(subnet, taken[name])
        if count > room:
            path = ("subnets", name, "pool" if subnet.pool is not None else "cidr")
            findings.error(
                path,
                f"the pool of {name} is exhausted: addresses needed {count}, free {room}",
                "make the pool or the CIDR larger, or give some NICs an address outside of the pool",
                key=True,
            )


def _room(subnet: Subnet, taken: set[IPv4Address]) -> int:
    room, previous = 0, -1
    for part in defaults.pool(subnet):
        first, last = max(int(part.first), previous + 1), int(part.last)
        if first <= last:
            room += last - first + 1
            room -= sum(1 for address in taken if first <= int(address) <= last)
            previous = last
    return room


def mtus(lab: LabFile, findings: Findings) -> None:
    """What a guest sends at once fits in what carries it."""
    if not findings.sound("fabric", "mtu"):
        return
    smallest: dict[str, int] = {}
    for host in lab.hosts:
        for bridge in defaults.bridges(lab, host):
            smallest[bridge.switch] = min(bridge.mtu, smallest.get(bridge.switch, bridge.mtu))
    for name, subnet in lab.subnets.items():
        if subnet.mtu is None:
            continue
        carried = min(smallest.get(subnet.switch, lab.fabric.mtu), lab.fabric.mtu)
        overhead = GENEVE_OVERHEAD if subnet.type == "overlay" else 0
        if subnet.mtu > carried - overhead:
            less = f" less {overhead} for Geneve" if overhead else ""
            findings.error(
                ("subnets", name, "mtu"),
                f"an MTU of {subnet.mtu} does not fit in the {carried}{less} that {subnet.switch} carries",
                f"write {carried - overhead} or less, or raise fabric.mtu",
            )


def lease_times(lab: LabFile, findings: Findings) -> None:
    """The DHCP server of VLAN basic subnets, dnsmasq, leases for two minutes at least."""
    for name, subnet in lab.subnets.items():
        if (
            subnet.type == "vlan-basic"
            and subnet.lease_time is not None
            and subnet.lease_time < SHORTEST_LEASE
        ):
            findings.warn(
                ("subnets", name, "lease_time"),
                f"the leases of {name} will last {SHORTEST_LEASE} s: its DHCP server has no shorter ones",
                f"write lease_time: {SHORTEST_LEASE} or more",
            )


_DOMAIN = re.compile(
    r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*\.?", re.ASCII | re.IGNORECASE
)


def domains(lab: LabFile, findings: Findings) -> None:
    """A domain is one (RFC 1123)."""
    for name, subnet in lab.subnets.items():
        if subnet.domain is not None and (len(subnet.domain) > 253 or not _DOMAIN.fullmatch(subnet.domain)):
            findings.error(
                ("subnets", name, "domain"),
                f"`{subnet.domain[:40]}` is not a domain name",
                "write letters, digits, dashes and dots, such as red.example",
            )


RULES = (
    what_the_type_needs,
    one_subnet_a_vlan,
    networks,
    no_overlap_in_a_vpc,
    gateways,
    pools,
    room_in_pools,
    mtus,
    lease_times,
    domains,
)
