"""The route table of a VPC (ovn-nb(5), Logical_Router_Static_Route); the longest prefix wins."""

from __future__ import annotations

from ipaddress import IPv4Address

from netctl.compile import routing_policies, transit
from netctl.compile.names import Names
from netctl.compile.rows import Rows
from netctl.model.intent import Intent
from netctl.model.state import Ref


def compile_routes(intent: Intent, vpc: str, names: Names, rows: Rows) -> list[Ref]:
    """The static routes of a VPC: over an external subnet to its gateway, or to an address nearby."""
    found = []
    for route in intent.file.vpcs[vpc].routes:
        port, hop = _way(intent, vpc, route.via, names)
        found.append(
            rows.add_unnamed(
                "Logical_Router_Static_Route",
                f"{names.router(vpc)} {route.to} {route.via}",
                f"vpc {vpc}",
                ip_prefix=str(route.to),
                nexthop=str(hop),
                output_port=port,
            )
        )
    if intent.file.vpcs[vpc].type == "transit":
        for prefix, port, hop in transit.routes_back(intent, vpc, names):
            found.append(
                rows.add_unnamed(
                    "Logical_Router_Static_Route",
                    f"{names.router(vpc)} {prefix} attached",
                    f"vpc {vpc}",
                    ip_prefix=prefix,
                    nexthop=str(hop),
                    output_port=port,
                )
            )
    everything = routing_policies.everything_by(intent, vpc)
    if everything is not None:
        found.append(
            rows.add_unnamed(
                "Logical_Router_Static_Route",
                f"{names.router(vpc)} for routing policies",
                f"vpc {vpc}",
                ip_prefix=str(routing_policies.EVERYTHING),
                nexthop=str(everything),
                output_port=names.router_port(vpc, _subnet_of(intent, vpc, everything)),
            )
        )
    return found


def _way(intent: Intent, vpc: str, via: str, names: Names) -> tuple[str, IPv4Address]:
    """The router port and the next hop that `via` stands for."""
    outside = {gateway.subnet for gateway in intent.gateways if gateway.vpc == vpc}
    over = transit.way(intent, vpc, via, names) if via not in outside else None
    if over is not None:
        return over
    hop = intent.file.subnets[via].gateway if via in outside else IPv4Address(via)
    assert hop is not None
    return names.router_port(vpc, via if via in outside else _subnet_of(intent, vpc, hop)), hop


def _subnet_of(intent: Intent, vpc: str, address: IPv4Address) -> str:
    """The subnet that the VPC has or leaves over, and that has this address."""
    near = [name for name, subnet in intent.file.subnets.items() if subnet.vpc == vpc]
    near += [gateway.subnet for gateway in intent.gateways if gateway.vpc == vpc]
    return next(
        name for name in near if (cidr := intent.file.subnets[name].cidr) is not None and address in cidr
    )
