"""The defaults that the grammar promises: what a file means where it says nothing.

Every function takes a `LabFile` and is total: it answers for a file with mistakes too, so that the rules can
ask before anybody knows that the file is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from itertools import pairwise

from netctl.model.base import AddressRange
from netctl.model.host import HostNic, UplinkSettings, VirtualSwitch
from netctl.model.intent import LabFile, UplinkBridge
from netctl.model.subnet import Subnet

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
            values["lacp"] = None  # what was said of another bond mode does not hold for this one
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


def dhcp_server(subnet: Subnet) -> IPv4Address | None:
    """The address that answers DHCP: VLAN basic and DHCP subnets keep their last one for it."""
    if subnet.dhcp_server is not None:
        return subnet.dhcp_server
    if subnet.cidr is not None and (subnet.dhcp or subnet.type == "vlan-basic"):
        return subnet.cidr.broadcast_address - 1
    return None


def pool(subnet: Subnet) -> tuple[AddressRange, ...]:
    """The ranges to assign from: as written, else every host address but the first."""
    if subnet.pool is not None:
        return tuple(sorted(subnet.pool, key=lambda part: part.first))
    if subnet.cidr is None or subnet.cidr.prefixlen > 30:
        return ()
    return (AddressRange(first=subnet.cidr.network_address + 2, last=subnet.cidr.broadcast_address - 1),)


def claims(lab: LabFile) -> Mapping[str, Mapping[IPv4Address, str]]:
    """Addresses that somebody has already, by managed subnet, each with who has it (the first one)."""
    result: dict[str, dict[IPv4Address, str]] = {}
    by_vlan: dict[int | None, list[str]] = {}
    for name, subnet in lab.subnets.items():
        if subnet.cidr is None:
            continue
        taken = result[name] = {}
        if subnet.router is not None:
            taken[subnet.router] = "the gateway"
        server = dhcp_server(subnet)
        if server is not None:
            taken.setdefault(server, "the DHCP server")
        if subnet.type != "overlay":
            by_vlan.setdefault(subnet.vlan, []).append(name)
    for machine, definition in lab.physical.items():
        for name in by_vlan.get(definition.vlan, ()) if definition.ip else ():
            assert definition.ip is not None
            result[name].setdefault(definition.ip.ip, machine)
    for name, address, who in _vpc_addresses(lab):
        if name in result:
            result[name].setdefault(address, who)
    for vm, definition_ in lab.vms.items():
        for index, nic in enumerate(definition_.nics):
            if isinstance(nic.ip, IPv4Address) and nic.subnet in result:
                result[nic.subnet].setdefault(nic.ip, f"{vm}/{index}")
    return result


def _vpc_addresses(lab: LabFile) -> Iterator[tuple[str, IPv4Address, str]]:
    """(subnet, address, whose) of what VPCs hold in their external and their own subnets."""
    own: dict[str, list[str]] = {}
    for name, subnet in lab.subnets.items():
        if subnet.vpc is not None:
            own.setdefault(subnet.vpc, []).append(name)
    for name, vpc in lab.vpcs.items():
        near = [external.subnet for external in vpc.external]
        for external in vpc.external:
            for address, what in ((external.router_ip, "router"), (external.snat_ip, "SNAT address")):
                if address is not None:
                    yield external.subnet, address, f"the {what} of {name}"
        for address, target in vpc.floating_ips.items():
            for subnet_name in near:
                yield subnet_name, address, f"the floating IP of {target}"
        for balancer, definition in vpc.load_balancers.items():
            for subnet_name in (*near, *own.get(name, ())):
                yield subnet_name, definition.vip, f"the load balancer {balancer}"
