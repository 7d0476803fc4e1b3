"""VPCs as `netctl status` tells of them: ways out, the hosts that are gateways now, policies, balancers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from netctl.cli import output

if TYPE_CHECKING:
    from netctl.cli.operations import Running
    from netctl.model import Intent
    from netctl.model.vpc import RoutingPolicy, Vpc


def gather(running: Running) -> list[dict[str, Any]]:
    """The state of a lab's VPCs as data. What cannot be asked is None."""
    from netctl import reconcile

    intent = running.intent
    if not intent.file.vpcs:
        return []
    reachable = running.rack.reachable()
    active = reconcile.gateways(intent, reachable) if intent.gateways else {}
    packets = _packets(running)
    return [_vpc(intent, name, vpc, active, packets) for name, vpc in sorted(intent.file.vpcs.items())]


def _packets(running: Running) -> Mapping[str, int]:
    """Packets by the name of a routing policy's row; only asked for where there are policies."""
    from netctl.drivers import Databases
    from netctl.drivers.counters import of_routing_policies

    if not any(vpc.routing_policies for vpc in running.intent.file.vpcs.values()):
        return {}
    endpoints = running.rack.reachable()
    if not endpoints.northbound or not endpoints.southbound:
        return {}
    hosts = [host for host in running.intent.hosts if host not in running.rack.silent]
    with Databases(endpoints, running.name) as databases:
        return of_routing_policies(databases, hosts)


def _vpc(
    intent: Intent, name: str, vpc: Vpc, active: Mapping[str, str | None], packets: Mapping[str, int]
) -> dict[str, Any]:
    from netctl.compile.names import Names
    from netctl.compile.routing_policies import policy_name

    return {
        "name": name,
        "type": vpc.type,
        "attach": sorted(vpc.attach),
        "subnets": sorted(subnet for subnet, it in intent.file.subnets.items() if it.vpc == name),
        "external": [
            {
                "subnet": way.subnet,
                "nat": way.snat_ip is not None,
                "router_ip": str(way.router_ip),
                "snat_ip": None if way.snat_ip is None else str(way.snat_ip),
                "gateway_hosts": list(way.hosts),
                "gateway": active.get(f"{name}/{way.subnet}"),
            }
            for way in intent.gateways
            if way.vpc == name
        ],
        "routes": [{"to": str(route.to), "via": route.via} for route in vpc.routes],
        "routable": [str(prefix) for prefix in vpc.routable],
        "floating_ips": {str(address): target for address, target in vpc.floating_ips.items()},
        "routing_policies": [
            {**_policy(policy), "packets": packets.get(policy_name(Names(), name, policy))}
            for policy in sorted(vpc.routing_policies, key=lambda policy: -policy.priority)
        ],
        "load_balancers": [
            {
                "name": balancer,
                "vip": str(it.vip),
                "port": it.port,
                "protocol": it.protocol,
                "backends": it.backends,
            }
            for balancer, it in sorted(vpc.load_balancers.items())
        ],
    }


def _policy(policy: RoutingPolicy) -> dict[str, Any]:
    from netctl.compile.routing_policies import action_of, ports_of, reroute_of

    hop = reroute_of(policy)
    return {
        "priority": policy.priority,
        "from": policy.from_,
        "to": policy.to,
        "protocol": policy.protocol,
        "ports": ports_of(policy),
        "action": action_of(policy),
        "reroute": None if hop is None else str(hop),
    }


def show(report: list[dict[str, Any]]) -> None:
    """VPCs as tables."""
    if not report:
        return
    output.heading("VPCs")
    output.table(
        ("VPC", "subnets", "leaves over", "as", "gateway", "routes"),
        [row for vpc in report for row in _ways(vpc)],
    )
    outside = [
        *(
            (vpc["name"], address, target)
            for vpc in report
            for address, target in vpc["floating_ips"].items()
        ),
        *(
            (vpc["name"], f"{it['vip']} {it['protocol']}/{it['port']}", ", ".join(it["backends"]))
            for vpc in report
            for it in vpc["load_balancers"]
        ),
    ]
    if outside:
        output.heading("floating IPs and load balancers")
        output.table(("VPC", "address", "leads to"), outside)
    policies = [(vpc["name"], policy) for vpc in report for policy in vpc["routing_policies"]]
    if policies:
        output.heading("routing policies")
        output.table(
            ("VPC", "priority", "from", "to", "packets of", "action", "matched"),
            [
                (name, p["priority"], p["from"], p["to"], _of(p), _action(p), p["packets"])
                for name, p in policies
            ],
        )


def _ways(vpc: dict[str, Any]) -> list[tuple[Any, ...]]:
    """A row for each way out, the first with what the VPC has itself."""
    subnets, routes = ", ".join(vpc["subnets"]), ", ".join(f"{r['to']} via {r['via']}" for r in vpc["routes"])
    ways = [
        (way["subnet"], way["snat_ip"] or f"{way['router_ip']}, no NAT", way["gateway"] or "nobody")
        for way in vpc["external"]
    ] + [(hub, "transit", "") for hub in vpc["attach"]]
    first, *rest = ways or [("", "", "")]
    return [(vpc["name"], subnets, *first, routes), *(("", "", *way, "") for way in rest)]


def _of(policy: dict[str, Any]) -> str:
    ports = ",".join(map(str, policy["ports"]))
    return f"{policy['protocol']}/{ports}" if ports else str(policy["protocol"])


def _action(policy: dict[str, Any]) -> str:
    return f"{policy['action']} {policy['reroute'] or ''}".strip()
