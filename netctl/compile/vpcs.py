"""VPCs: a logical router each, with a port per overlay subnet (ovn-nb(5))."""

from __future__ import annotations

from ipaddress import IPv4Address

from netctl.compile.names import Names
from netctl.compile.rows import Rows, refs
from netctl.model.intent import Intent
from netctl.model.state import Ref

ROUTER_PREFIX = "0a:58"
"""First octets of a router port's MAC, then its address; locally administered, as no VM's assigned one is.

Two ports of one subnet have different addresses, so different MACs too.
"""


def router_mac(address: IPv4Address) -> str:
    """The MAC of the router port with this address."""
    return f"{ROUTER_PREFIX}:{address.packed.hex(':')}"


def compile_vpcs(intent: Intent, names: Names, rows: Rows) -> None:
    """A logical router for each VPC."""
    members: dict[str, list[str]] = {name: [] for name in intent.file.vpcs}
    for name, subnet in intent.file.subnets.items():
        if subnet.type == "overlay" and subnet.vpc is not None and subnet.router is not None:
            members[subnet.vpc].append(name)
    for vpc, subnets in members.items():
        widest = max((intent.subnet_mtu(subnet) for subnet in subnets), default=0)
        ports = [_port(intent, vpc, subnet, widest, names, rows) for subnet in subnets]
        rows.add("Logical_Router", names.router(vpc), f"vpc {vpc}", ports=refs(ports))


def _port(intent: Intent, vpc: str, name: str, widest: int, names: Names, rows: Rows) -> Ref:
    """The router's port in a subnet.

    Where another subnet of the VPC has larger packets, the router must tell their senders (RFC 1191).
    """
    subnet = intent.file.subnets[name]
    assert subnet.router is not None and subnet.cidr is not None
    mtu = intent.subnet_mtu(name)
    return rows.add(
        "Logical_Router_Port",
        names.router_port(vpc, name),
        f"subnet {name}",
        mac=router_mac(subnet.router),
        networks=(f"{subnet.router}/{subnet.cidr.prefixlen}",),
        options={"gateway_mtu": str(mtu)} if mtu < widest else {},
    )
