"""Rules for routers that learn of VPCs by BGP."""

from __future__ import annotations

from netctl.intent import defaults
from netctl.intent.findings import Findings
from netctl.intent.source import Path_
from netctl.model.intent import LabFile


def routers(lab: LabFile, findings: Findings) -> None:
    """A router has an address, on a VLAN that a VPC leaves over."""
    outside = {external.subnet for vpc in lab.vpcs.values() for external in vpc.external}
    for name, machine in lab.physical.items():
        path: Path_ = ("physical", name)
        if machine.kind != "router" or not findings.sound(*path):
            continue
        if machine.ip is None:
            findings.error(
                path, f"the router {name} has no address", "write ip: such as 172.20.0.1/24", key=True
            )
            continue
        if not (findings.sound("subnets") and findings.sound("vpcs")):
            continue
        if not any(name in defaults.routers(lab, subnet) for subnet in outside if subnet in lab.subnets):
            vlan = "no VLAN" if machine.vlan is None else f"VLAN {machine.vlan}"
            findings.warn(
                path,
                f"no VPC leaves over the network of {name} ({machine.ip} in {vlan}): it learns nothing",
                "write the VLAN and an address of an external subnet of a VPC",
                key=True,
            )


def reach(lab: LabFile, findings: Findings) -> None:
    """A router's own network has the addresses of whoever speaks to it, and of the next hops."""
    for subnet in defaults.speakers(lab):
        if not findings.sound("subnets", subnet):
            continue
        ends = [end for part in defaults.pool(lab.subnets[subnet]) for end in (part.first, part.last)]
        ends += [
            external.router_ip
            for vpc in lab.vpcs.values()
            for external in vpc.external
            if external.subnet == subnet and external.router_ip is not None
        ]
        for name in defaults.routers(lab, subnet):
            ip = lab.physical[name].ip
            beyond = [end for end in ends if ip is not None and end not in ip.network]
            if beyond and findings.sound("physical", name):
                findings.error(
                    ("physical", name, "ip"),
                    f"{name} ({ip}) does not reach {beyond[0]}: VPCs and their BGP speakers get addresses "
                    f"of {subnet}'s pool",
                    f"write the prefix length of {subnet} ({lab.subnets[subnet].cidr}), or a smaller pool",
                )


RULES = (routers, reach)
