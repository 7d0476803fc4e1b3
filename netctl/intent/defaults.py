"""The defaults that the grammar promises: what a file means where it says nothing.

Every function takes a `LabFile` and is total: it answers for a file with mistakes too, so that the rules can
ask before anybody knows that the file is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import pairwise

from netctl.model import bgp
from netctl.model.base import AddressRange
from netctl.model.host import HostNic, UplinkSettings, VirtualSwitch
from netctl.model.intent import LabFile, UplinkBridge
from netctl.model.subnet import Subnet
from netctl.model.vpc import ExternalAttachment

DEFAULT_SWITCHES = ("tor1", "tor2")
DEFAULT_CLUSTER = "default"
DEFAULT_VIRTUAL_SWITCH = "vs0"


def switches(lab: LabFile) -> tuple[str, ...]:
    """The ToRs, in the file's order."""
    named = lab.fabric.switches
    return DEFAULT_SWITCHES if named is None else tuple(named)


def links(lab: LabFile) -> tuple[tuple[str, str], ...]:
    """The links between ToRs: as written, else one line in the order of the switches."""
    if lab.fabric.links is not None:
        return tuple((link[0], link[1]) for link in lab.fabric.links)
    names = switches(lab)
    return tuple(pairwise(names))


def has_loop(names: tuple[str, ...], pairs: tuple[tuple[str, str], ...]) -> bool:
    """Whether links close a loop (two between the same switches do)."""
    above = {name: name for name in names}

    def top(name: str) -> str:
        while above.setdefault(name, name) != name:
            name = above[name]
        return name

    for a, b in pairs:
        if top(a) == top(b):
            return True
        above[top(a)] = top(b)
    return False


def cluster_of(lab: LabFile) -> dict[str, str]:
    """The cluster of each host that is in one."""
    if lab.clusters is None:
        return dict.fromkeys(lab.hosts, DEFAULT_CLUSTER)
    return {host: name for name, cluster in lab.clusters.items() for host in cluster.hosts}


def nics(lab: LabFile, host: str) -> dict[str, HostNic]:
    """The physical NICs of a host, sorted: as written, else eth0 on the first ToR and eth1 on the second."""
    written = lab.hosts[host].nics
    if written is None:
        return {f"eth{index}": HostNic(switch=name) for index, name in enumerate(switches(lab)[:2])}
    return dict(sorted(written.items(), key=lambda item: int(item[0][3:])))


def virtual_switches(lab: LabFile) -> dict[str, VirtualSwitch]:
    """The virtual switches by number; vs0 is always there."""
    named = {DEFAULT_VIRTUAL_SWITCH: VirtualSwitch(), **(lab.virtual_switches or {})}
    return dict(sorted(named.items(), key=lambda item: int(item[0][2:])))


def settings(switch: VirtualSwitch, host: str) -> UplinkSettings:
    """How a virtual switch uses its uplinks on a host: what `per_host` says, else as for all hosts."""
    own = switch.per_host.get(host)
    names = UplinkSettings.model_fields
    values = {name: getattr(switch, name) for name in names}
    if own is not None:
        values |= {name: value for name in names if (value := getattr(own, name)) is not None}
        if own.bond is not None and own.lacp is None and own.bond != switch.bond:
            # What was said of another bond mode does not hold for this one.
            values |= {"lacp": None, "lacp_fallback": own.lacp_fallback or False}
    return UplinkSettings.model_construct(**values)


def uplinks(lab: LabFile, host: str) -> dict[str, tuple[str, ...]]:
    """The uplinks of each virtual switch on a host; who names none gets every NIC that no other claims."""
    wanted = {name: settings(switch, host).uplinks for name, switch in virtual_switches(lab).items()}
    claimed = {nic for names in wanted.values() for nic in names or ()}
    rest = tuple(nic for nic in nics(lab, host) if nic not in claimed)
    return {name: rest if names is None else tuple(names) for name, names in wanted.items()}


def bridges(lab: LabFile, host: str) -> tuple[UplinkBridge, ...]:
    """The uplink bridges of a host, by number."""
    of_switch = uplinks(lab, host)
    result = []
    for name, switch in virtual_switches(lab).items():
        chosen = settings(switch, host)
        bond = chosen.bond or "active-backup"
        result.append(
            UplinkBridge(
                switch=name,
                uplinks=of_switch[name],
                mode=bond,
                lacp=chosen.lacp or ("active" if bond == "balance-tcp" else "off"),
                lacp_fallback=bool(chosen.lacp_fallback),
                mtu=chosen.mtu or lab.fabric.mtu,
            )
        )
    return tuple(result)


def pool(subnet: Subnet) -> tuple[AddressRange, ...]:
    """The ranges to assign from: as written, else every host address but the first."""
    if subnet.pool is not None:
        return tuple(sorted(subnet.pool, key=lambda part: part.first))
    if subnet.cidr is None or subnet.cidr.prefixlen > 30:
        return ()
    return (AddressRange(first=subnet.cidr.network_address + 2, last=subnet.cidr.broadcast_address - 1),)


def gateway_hosts(lab: LabFile, external: ExternalAttachment) -> list[str]:
    """The hosts that may be the gateway: as written, else every host with an uplink towards the VLAN."""
    if external.gateway_hosts or external.subnet not in lab.subnets:
        return external.gateway_hosts
    switch = lab.subnets[external.subnet].switch
    return [
        host
        for host in sorted(lab.hosts)
        if any(bridge.switch == switch and bridge.uplinks for bridge in bridges(lab, host))
    ]


def routers(lab: LabFile, subnet: str) -> list[str]:
    """The bare machines in an external subnet that run BGP."""
    there = lab.subnets[subnet]
    return [
        name
        for name, machine in lab.physical.items()
        if machine.kind == "router"
        and machine.ip is not None
        and machine.vlan == there.vlan
        and there.cidr is not None
        and machine.ip.ip in there.cidr
    ]


def speakers(lab: LabFile) -> dict[str, list[str]]:
    """Who speaks BGP (netctl.model.bgp.key), by external subnet with a router."""
    found: dict[str, list[str]] = {}
    for vpc, definition in lab.vpcs.items():
        for external in definition.external:
            if external.subnet in lab.subnets and routers(lab, external.subnet):
                found.setdefault(external.subnet, []).extend(
                    bgp.key(vpc, external.subnet, host) for host in gateway_hosts(lab, external)
                )
    return found


@dataclass(frozen=True, slots=True)
class Claim:
    """An address of a managed subnet that the file gives to somebody. `owner` says what it is there."""

    subnet: str
    address: IPv4Address
    owner: str
    path: tuple[str | int, ...]


def claims(lab: LabFile) -> Iterator[Claim]:
    """Every address that the file gives to somebody, by the subnets that it is in or meant for.

    A bare machine's or a VPC's address counts in every subnet of its VLAN or VPC that has it.
    """
    by_vlan: dict[int | None, list[str]] = {}
    by_vpc: dict[str, list[str]] = {}
    for name, subnet in lab.subnets.items():
        if subnet.cidr is None:
            continue
        if subnet.router is not None:
            yield Claim(name, subnet.router, f"the gateway of {name}", ("subnets", name, "gateway"))
        server = subnet.dhcp_address
        if server is not None and server != subnet.router:
            yield Claim(name, server, f"the DHCP server of {name}", ("subnets", name, "dhcp_server"))
        if subnet.type != "overlay":
            by_vlan.setdefault(subnet.vlan, []).append(name)
        elif subnet.vpc is not None:
            by_vpc.setdefault(subnet.vpc, []).append(name)

    def among(names: Iterable[str], address: IPv4Address) -> Iterator[str]:
        for name in names:
            cidr = lab.subnets[name].cidr
            if cidr is not None and address in cidr:
                yield name

    for machine, it in lab.physical.items():
        if it.ip is not None:
            for name in among(by_vlan.get(it.vlan, ()), it.ip.ip):
                yield Claim(name, it.ip.ip, f"the address of {machine}", ("physical", machine, "ip"))
    for vpc, that in lab.vpcs.items():
        outside = [one.subnet for one in that.external if one.subnet in lab.subnets]
        for index, one in enumerate(that.external):
            if one.subnet not in lab.subnets or lab.subnets[one.subnet].cidr is None:
                continue
            here: tuple[str | int, ...] = ("vpcs", vpc, "external", index)
            if one.router_ip is not None:
                yield Claim(one.subnet, one.router_ip, f"the router of {vpc}", (*here, "router_ip"))
            if one.snat_ip is not None and one.snat_ip != one.router_ip:
                yield Claim(one.subnet, one.snat_ip, f"the SNAT address of {vpc}", (*here, "snat_ip"))
        for address, target in that.floating_ips.items():
            for name in among(outside, address):
                yield Claim(
                    name, address, f"the floating IP of {target}", ("vpcs", vpc, "floating_ips", str(address))
                )
        vips: dict[IPv4Address, str] = {}
        for balancer, its in that.load_balancers.items():
            owner = vips.setdefault(its.vip, f"the VIP of {balancer}")  # one address, several ports
            for name in among([*outside, *by_vpc.get(vpc, ())], its.vip):
                yield Claim(name, its.vip, owner, ("vpcs", vpc, "load_balancers", balancer, "vip"))
    for vm, definition in lab.vms.items():
        for index, nic in enumerate(definition.nics):
            its_subnet = lab.subnets.get(nic.subnet)
            if isinstance(nic.ip, IPv4Address) and its_subnet is not None and its_subnet.cidr is not None:
                where = ("vms", vm, "nics", index, "ip")
                yield Claim(nic.subnet, nic.ip, f"the address of {vm}/{index}", where)


def taken(lab: LabFile) -> dict[str, set[IPv4Address]]:
    """The addresses that are not for assigning, by managed subnet."""
    result: dict[str, set[IPv4Address]] = {
        name: set() for name, subnet in lab.subnets.items() if subnet.cidr is not None
    }
    for claim in claims(lab):
        result[claim.subnet].add(claim.address)
    return result
