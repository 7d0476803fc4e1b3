"""Rules for IPv6: networks in which guests give themselves addresses, and what needs IPv4 all the same."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Network

from netctl.intent import defaults
from netctl.intent.findings import Findings
from netctl.intent.source import Path_
from netctl.model.intent import GENEVE_OVERHEAD, LabFile
from netctl.model.ipv6 import PREFIX_LENGTH

LEAST_MTU = 1280
"""Octets of a packet that every link with IPv6 carries (RFC 8200, 5)."""


def networks6(lab: LabFile, findings: Findings) -> None:
    """Guests give themselves addresses in a /64, which VPCs route and no two of their subnets share."""
    seen: dict[tuple[str, IPv6Network], str] = {}
    for name, subnet in lab.subnets.items():
        cidr6, path = subnet.cidr6, ("subnets", name, "cidr6")
        if cidr6 is None:
            continue
        address = cidr6.network_address
        if subnet.type == "external":
            findings.error(
                path,
                f"{name} is external, and VPCs leave with IPv4 only in this version",
                "remove `cidr6`; inside the VPC, subnets have IPv6",
                key=True,
            )
        elif address.is_multicast or address.is_loopback or address.is_link_local or not int(address):
            findings.error(path, f"{cidr6} is no network of hosts", "write such as 2001:db8:1::/64")
        elif cidr6.prefixlen != PREFIX_LENGTH:
            start = cidr6 if cidr6.prefixlen < PREFIX_LENGTH else cidr6.supernet(new_prefix=PREFIX_LENGTH)
            findings.error(
                path,
                f"{cidr6} is no /64: guests give themselves the second half of their addresses (RFC 4862)",
                f"write {start.network_address}/64",
            )
        elif subnet.type == "overlay" and subnet.vpc is not None:
            first = seen.setdefault((subnet.vpc, cidr6), name)
            if first != name:
                findings.error(
                    path,
                    f"{cidr6} is the network of the subnet {first} already "
                    f"(line {findings.line('subnets', first)}), and {subnet.vpc} routes both",
                    "choose another network, or put one of them in another VPC",
                )


def mtus6(lab: LabFile, findings: Findings) -> None:
    """A subnet with IPv6 carries what IPv6 asks for."""
    if not findings.sound("fabric", "mtu"):
        return
    for name, subnet in lab.subnets.items():
        if subnet.cidr6 is None:
            continue
        if subnet.mtu is not None:
            if subnet.mtu < LEAST_MTU:
                findings.error(
                    ("subnets", name, "mtu"),
                    f"IPv6 needs an MTU of {LEAST_MTU}, {name} has {subnet.mtu}",
                    f"write {LEAST_MTU} or more, or remove `cidr6`",
                )
            continue
        carried = min(
            (b.mtu for host in lab.hosts for b in defaults.bridges(lab, host) if b.switch == subnet.switch),
            default=lab.fabric.mtu,
        )
        room = min(carried, lab.fabric.mtu) - (GENEVE_OVERHEAD if subnet.type == "overlay" else 0)
        if room < LEAST_MTU:
            findings.error(
                ("subnets", name, "cidr6"),
                f"IPv6 needs an MTU of {LEAST_MTU}, and {subnet.switch} leaves {room} for {name}",
                f"raise fabric.mtu by {LEAST_MTU - room}, or remove `cidr6`",
                key=True,
            )


def only_ipv6(lab: LabFile, findings: Findings) -> None:
    """A NIC in a subnet without IPv4 has no IPv4 address, nor what is made of one."""
    for name, vm in lab.vms.items():
        for index, nic in enumerate(vm.nics):
            if not _without_ipv4(lab, nic.subnet):
                continue
            path: Path_ = ("vms", name, "nics", index, "ip")
            if isinstance(nic.ip, IPv4Address):
                findings.error(
                    path,
                    f"{nic.subnet} has IPv6 only, and {nic.ip} is IPv4's",
                    f"write subnets.{nic.subnet}.cidr, or leave `ip` out: IPv6's follows from the MAC",
                )
    for name, vpc in lab.vpcs.items():
        named: list[tuple[Path_, str, str, bool]] = [
            (("vpcs", name, "floating_ips", str(address)), target, "a floating IP", True)
            for address, target in vpc.floating_ips.items()
        ]
        named += [
            (
                ("vpcs", name, "load_balancers", balancer, "backends", index),
                backend.rpartition(":")[0],
                "a backend",
                False,
            )
            for balancer, it in vpc.load_balancers.items()
            for index, backend in enumerate(it.backends)
        ]
        for path, target, what, at_key in named:
            owner, _, number = target.partition("/")
            nics = lab.vms[owner].nics if owner in lab.vms else []
            position = int(number) if number.isascii() and number.isdigit() else 0
            subnet = nics[position].subnet if position < len(nics) else ""
            if _without_ipv4(lab, subnet):
                findings.error(
                    path,
                    f"{target} has no IPv4 address, which {what} needs: {subnet} has IPv6 only",
                    f"write subnets.{subnet}.cidr",
                    key=at_key,
                )


def _without_ipv4(lab: LabFile, name: str) -> bool:
    subnet = lab.subnets.get(name)
    return subnet is not None and subnet.cidr is None and subnet.cidr6 is not None


RULES = (networks6, mtus6, only_ipv6)
