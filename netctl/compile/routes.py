"""The route table of a VPC (ovn-nb(5), Logical_Router_Static_Route); the longest prefix wins."""

from __future__ import annotations

from ipaddress import IPv4Address

from netctl.compile import routing_policies
from netctl.compile.names import Names
from netctl.compile.rows import Rows
from netctl.model.intent import Intent
from netctl.model.state import Ref


def compile_routes(intent: Intent, vpc: str, names: Names, rows: Rows) -> list[Ref]:
    """The static routes of a VPC: over an external subnet to its gateway, or to an address nearby."""
    found = []
    for route in intent.file.vpcs[vpc].routes:
        if route.via in intent.file.subnets:
            over, hop = route.via, intent.file.subnets[route.via].gateway
        else:
            hop = IPv4Address(route.via)
            over = _subnet_of(intent, vpc, hop)
        found.append(
            rows.add_unnamed(
                "Logical_Router_Static_Route",
                f"{names.router(vpc)} {route.to} {route.via}",
                f"vpc {vpc}",
                ip_prefix=str(route.to),
                nexthop=str(hop),
                output_port=names.router_port(vpc, over),
            )
        )
    hop = routing_policies.everything_by(intent, vpc)
    if hop is not None:
        found.append(
            rows.add_unnamed(
                "Logical_Router_Static_Route",
                f"{names.router(vpc)} for routing policies",
                f"vpc {vpc}",
                ip_prefix=str(routing_policies.EVERYTHING),
                nexthop=str(hop),
                output_port=names.router_port(vpc, _subnet_of(intent, vpc, hop)),
            )
        )
    return found


def _subnet_of(intent: Intent, vpc: str, address: IPv4Address) -> str:
    """The subnet that the VPC has or leaves over, and that has this address."""
    near = [name for name, subnet in intent.file.subnets.items() if subnet.vpc == vpc]
    near += [gateway.subnet for gateway in intent.gateways if gateway.vpc == vpc]
    return next(
        name for name in near if (cidr := intent.file.subnets[name].cidr) is not None and address in cidr
    )
