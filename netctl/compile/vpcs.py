"""VPCs: a logical router each, with a port per overlay subnet (ovn-nb(5)).

What else a VPC has is in files beside this one, by feature.
"""

from __future__ import annotations

from collections.abc import Mapping

from netctl.compile import external, load_balancers, nat, routes, routing_policies, transit
from netctl.compile.names import Names
from netctl.compile.routers import router_mac
from netctl.compile.rows import Rows, refs
from netctl.model.intent import Intent
from netctl.model.state import Ref
from netctl.model.subnet import Subnet

RA = {"address_mode": "slaac", "send_periodic": "true"}
"""Router advertisements in a subnet with IPv6: guests give themselves addresses (RFC 4862).

Whoever asks is answered at once; those at intervals keep the default route of guests that stay for days.
"""


def compile_vpcs(intent: Intent, names: Names, rows: Rows) -> None:
    """A logical router for each VPC."""
    members: dict[str, list[str]] = {name: [] for name in intent.file.vpcs}
    for name, subnet in sorted(intent.file.subnets.items()):
        if subnet.type == "overlay" and subnet.vpc is not None:
            members[subnet.vpc].append(name)
    for vpc, subnets in members.items():
        ways = [gateway for gateway in intent.gateways if gateway.vpc == vpc]
        widest = max(map(intent.subnet_mtu, _near(intent, vpc, members)), default=0)
        ports = [_port(intent, vpc, subnet, widest, names, rows) for subnet in subnets]
        ports += transit.router_ports(intent, vpc, names, rows)
        ports += [external.router_port(intent, way, widest, names, rows) for way in ways]
        load_balancers.compile_load_balancers(intent, vpc, names, rows)
        rows.add(
            "Logical_Router",
            names.router(vpc),
            f"vpc {vpc}",
            ports=refs(ports),
            nat=refs(nat.compile_nat(intent, vpc, _behind(intent, vpc, members), names, rows)),
            static_routes=refs(routes.compile_routes(intent, vpc, names, rows)),
            policies=refs(routing_policies.compile_policies(intent, vpc, names, rows)),
            load_balancer=load_balancers.references(intent, vpc, names),
        )
    transit.compile_transit(intent, names, rows)
    external.compile_failover(intent, rows)


def _behind(intent: Intent, vpc: str, members: Mapping[str, list[str]]) -> list[str]:
    """The subnets that leave by a VPC: its own, and those of the VPCs that attach to it."""
    return [*members[vpc], *(name for other in transit.attached(intent, vpc) for name in members[other])]


def _near(intent: Intent, vpc: str, members: Mapping[str, list[str]]) -> list[str]:
    """All subnets that packets to or from a VPC may come from or go to."""
    connected = {vpc}
    while True:
        more = {other for one in connected for other in _attached_either_way(intent, one)} - connected
        if not more:
            break
        connected |= more
    outside = [way.subnet for way in intent.gateways if way.vpc in connected]
    return [*(name for one in connected for name in members[one]), *outside]


def _attached_either_way(intent: Intent, vpc: str) -> list[str]:
    return [*intent.file.vpcs[vpc].attach, *transit.attached(intent, vpc)]


def _port(intent: Intent, vpc: str, name: str, widest: int, names: Names, rows: Rows) -> Ref:
    """The router's port in a subnet.

    Where another subnet of the VPC has larger packets, the router must tell their senders (RFC 1191).
    """
    subnet = intent.file.subnets[name]
    mtu = intent.subnet_mtu(name)
    return rows.add(
        "Logical_Router_Port",
        names.router_port(vpc, name),
        f"subnet {name}",
        mac=router_mac(subnet.router or subnet.router6),
        networks=_networks(subnet),
        ipv6_ra_configs={**RA, "mtu": str(mtu)} if subnet.cidr6 is not None else {},
        options={"gateway_mtu": str(mtu)} if mtu < widest else {},
    )


def _networks(subnet: Subnet) -> tuple[str, ...]:
    pairs = ((subnet.router, subnet.cidr), (subnet.router6, subnet.cidr6))
    return tuple(f"{router}/{cidr.prefixlen}" for router, cidr in pairs if router and cidr)
