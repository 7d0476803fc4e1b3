"""Transit VPCs: a logical switch between the routers of a transit VPC and of those that attach to it.

    red --- red/hub@transit --- hub@transit --- hub/hub@transit --- hub

Each router has one address there, of a network of netctl's own that nobody else sees. The transit VPC knows
the way to all subnets of those that attach; they know the ways that their own routes say.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from netctl.compile.names import Names
from netctl.compile.routers import router_mac
from netctl.compile.rows import Rows, refs
from netctl.model.intent import Intent
from netctl.model.state import Ref


def compile_transit(intent: Intent, names: Names, rows: Rows) -> None:
    """A logical switch for each transit VPC."""
    for hub, definition in intent.file.vpcs.items():
        if definition.type != "transit":
            continue
        why = f"vpc {hub}"
        ports = [
            rows.add(
                "Logical_Switch_Port",
                names.to_router(names.transit(hub), vpc),
                f"vpc {vpc}",
                type="router",
                addresses=("router",),
                options={"router-port": _port_name(names, vpc, hub)},
            )
            for vpc in (hub, *attached(intent, hub))
        ]
        rows.add("Logical_Switch", names.switch(names.transit(hub)), why, ports=refs(ports))


def router_ports(intent: Intent, vpc: str, names: Names, rows: Rows) -> list[Ref]:
    """The ports of a VPC's router on the transit switches."""
    definition = intent.file.vpcs[vpc]
    hubs = [*definition.attach, *([vpc] if definition.type == "transit" else [])]
    return [
        rows.add(
            "Logical_Router_Port",
            _port_name(names, vpc, hub),
            f"vpc {vpc}",
            mac=router_mac(_address(intent, vpc, hub)),
            networks=(f"{_address(intent, vpc, hub)}/32",),
        )
        for hub in sorted(set(hubs))
    ]


def way(intent: Intent, vpc: str, via: str, names: Names) -> tuple[str, IPv4Address] | None:
    """The router port and next hop of a route over a transit VPC; None where `via` is none that it has.

    `via` is a transit VPC that the VPC attaches to, or a subnet of it, or an address there.
    """
    for hub in intent.file.vpcs[vpc].attach:
        inside = {name: s.cidr for name, s in intent.file.subnets.items() if s.vpc == hub}
        if (
            via == hub
            or via in inside
            or any(cidr is not None and _is_in(via, cidr) for cidr in inside.values())
        ):
            return _port_name(names, vpc, hub), _address(intent, hub, hub)
    return None


def routes_back(intent: Intent, hub: str, names: Names) -> Iterator[tuple[str, str, IPv4Address]]:
    """What a transit VPC knows of those that attach: prefix, router port and next hop."""
    for vpc in attached(intent, hub):
        for subnet in sorted(intent.file.subnets):
            definition = intent.file.subnets[subnet]
            if definition.vpc == vpc and definition.cidr is not None:
                yield str(definition.cidr), _port_name(names, hub, hub), _address(intent, vpc, hub)


def attached(intent: Intent, hub: str) -> list[str]:
    """The VPCs that attach to a transit VPC."""
    return sorted(name for name, vpc in intent.file.vpcs.items() if hub in vpc.attach)


def _address(intent: Intent, vpc: str, hub: str) -> IPv4Address:
    return intent.transit_address(vpc, hub)


def _port_name(names: Names, vpc: str, hub: str) -> str:
    return names.router_port(vpc, names.transit(hub))


def _is_in(text: str, network: IPv4Network) -> bool:
    try:
        return IPv4Address(text) in network
    except ValueError:
        return False
