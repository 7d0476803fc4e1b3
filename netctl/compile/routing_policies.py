"""Routing policies of a VPC (ovn-nb(5), Logical_Router_Policy): what passes, and by which way.

OVN asks its route table first and the policies then, and drops what has no route before any policy sees it.
In AHV policies come first: so where one reroutes, everything gets a route, and what has no other is dropped
by the last of the policies instead.

    20000         without NAT, only externally routable prefixes go out and come in
    10 to 10000   the file's, ten times theirs
    1             no route (0 is what OVN has for "no policy")
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from netctl.compile import transit
from netctl.compile.names import Names
from netctl.compile.rows import Rows
from netctl.model.intent import Intent
from netctl.model.state import Ref
from netctl.model.vpc import Reroute, RoutingPolicy

ROUTABLE_PRIORITY = 20000
FACTOR = 10
NO_ROUTE_PRIORITY = 1

EVERYTHING = IPv4Network("0.0.0.0/0")

_ACTIONS = {"permit": "allow", "deny": "drop", "reroute": "reroute"}


def compile_policies(intent: Intent, vpc: str, names: Names, rows: Rows) -> list[Ref]:
    """The policies of a VPC's router."""
    found = [_routing_policy(intent, vpc, policy, names, rows) for policy in _distinct(intent, vpc)]
    found += _routable(intent, vpc, names, rows)
    if everything_by(intent, vpc) is not None:
        found.append(_no_route(intent, vpc, None, names, rows))
        found += [
            _no_route(intent, vpc, policy, names, rows)
            for policy in _distinct(intent, vpc)
            if action_of(policy) == "permit"
            and all(_has(intent, end, 4) for end in (policy.from_, policy.to))
        ]
    return found


def _no_route(intent: Intent, vpc: str, permit: RoutingPolicy | None, names: Names, rows: Rows) -> Ref:
    """Drop what only has the route that everything gets: what a policy permits, or all that none decides."""
    terms = [f"ip4.dst != {_set(_reached(intent, vpc))}"]
    label, priority = "no route", NO_ROUTE_PRIORITY
    if permit is not None:
        terms = [*_terms(intent, vpc, permit, names, 4), *terms]
        label, priority = f"{_label(permit)} no route", FACTOR * permit.priority + 1
    else:
        terms = ["ip4", *terms]
    return rows.add_unnamed(
        "Logical_Router_Policy",
        f"{names.router(vpc)} {label}",
        f"vpc {vpc}",
        priority=priority,
        action="drop",
        match=" && ".join(terms),
    )


def everything_by(intent: Intent, vpc: str) -> IPv4Address | None:
    """The next hop of the route that everything gets, where a policy reroutes and the VPC has no default."""
    definition = intent.file.vpcs[vpc]
    if any(route.to == EVERYTHING for route in definition.routes):
        return None
    return next((hop for policy in definition.routing_policies if (hop := reroute_of(policy))), None)


def reroute_of(policy: RoutingPolicy) -> IPv4Address | None:
    """Where a policy sends packets; None when it does not."""
    return policy.hop


def action_of(policy: RoutingPolicy) -> str:
    """What a policy does: permit, deny or reroute."""
    return "reroute" if isinstance(policy.action, Reroute) else policy.action


def policy_name(names: Names, vpc: str, policy: RoutingPolicy) -> str:
    """The name of a policy's row."""
    return f"{names.router(vpc)} {_label(policy)}"


def _distinct(intent: Intent, vpc: str) -> Iterable[RoutingPolicy]:
    return {
        _label(policy): policy
        for policy in sorted(intent.file.vpcs[vpc].routing_policies, key=lambda policy: policy.priority)
    }.values()


def _label(policy: RoutingPolicy) -> str:
    """What tells it from others: the same whatever else the file has."""
    ports = ",".join(map(str, ports_of(policy)))
    what = f"{policy.protocol}/{ports}" if ports else policy.protocol
    return f"{policy.priority} {policy.from_} {policy.to} {what}"


def ports_of(policy: RoutingPolicy) -> list[int]:
    """The destination ports of a policy, sorted; none for all."""
    return sorted({*policy.ports, *([policy.port] if policy.port else [])})


def _routing_policy(intent: Intent, vpc: str, policy: RoutingPolicy, names: Names, rows: Rows) -> Ref:
    hop = reroute_of(policy)
    return rows.add_unnamed(
        "Logical_Router_Policy",
        policy_name(names, vpc, policy),
        f"routing policy {policy.priority} of vpc {vpc}",
        priority=FACTOR * policy.priority,
        action=_ACTIONS[action_of(policy)],
        match=_match(intent, vpc, policy, names),
        nexthops=(str(hop),) if hop else (),
    )


def _match(intent: Intent, vpc: str, policy: RoutingPolicy, names: Names) -> str:
    """What a policy matches: packets of both versions of IP, where the VPC has both and it means both.

    A reroute leads to an IPv4 address, and `icmp` is IPv4's.
    """
    only4 = policy.protocol == "icmp" or reroute_of(policy) is not None or not _own6(intent, vpc)
    matches = [
        " && ".join(_terms(intent, vpc, policy, names, version))
        for version in ((4,) if only4 else (4, 6))
        if all(_has(intent, end, version) for end in (policy.from_, policy.to))
    ]
    if len(matches) < 2:
        return matches[0] if matches else NOTHING
    return " || ".join(f"({match})" for match in matches)


NOTHING = "0"
"""A match of no packet at all, in OVN's language."""


def _has(intent: Intent, end: str, version: int) -> bool:
    """Whether there are packets of that version from or to there."""
    subnet = intent.file.subnets.get(end)
    if subnet is not None:
        return (subnet.cidr if version == 4 else subnet.cidr6) is not None
    return end in ("any", "external") or (":" in end) == (version == 6)


def _terms(intent: Intent, vpc: str, policy: RoutingPolicy, names: Names, version: int) -> list[str]:
    """What a policy matches of one version of IP, as terms of OVN's match language."""
    terms = ["icmp4" if policy.protocol == "icmp" else f"ip{version}"]
    terms += _end(intent, vpc, policy.from_, f"ip{version}.src", names)
    terms += _end(intent, vpc, policy.to, f"ip{version}.dst", names)
    if policy.protocol in ("tcp", "udp"):
        terms.append(policy.protocol)
        if ports := ports_of(policy):
            terms.append(f"{policy.protocol}.dst == {_set(ports)}")
    return terms


def _end(intent: Intent, vpc: str, text: str, field: str, names: Names) -> list[str]:
    """The match of `from` (fields ip4.src and ip6.src) or `to` (fields ip4.dst and ip6.dst).

    Outside is what the VPC has no subnet for; an external subnet stands for what comes from it or leaves over
    it.
    """
    if text == "any":
        return []
    if text == "external":
        own = _own(intent, vpc) if field.startswith("ip4") else _own6(intent, vpc)
        return [f"{field} != {_set(own)}"] if own else []
    subnet = intent.file.subnets.get(text)
    if subnet is None:
        return [f"{field} == {text}"]
    if subnet.type == "external":
        port = names.router_port(vpc, text)
        return [f'{"inport" if field.endswith("src") else "outport"} == "{port}"']
    return [f"{field} == {subnet.cidr if field.startswith('ip4') else subnet.cidr6}"]


def _routable(intent: Intent, vpc: str, names: Names, rows: Rows) -> list[Ref]:
    """Where prefixes are externally routable, nothing else crosses an external subnet without NAT."""
    prefixes = intent.file.vpcs[vpc].routable
    found = []
    for way in intent.gateways:
        if way.vpc != vpc or way.snat_ip is not None or not prefixes:
            continue
        port = names.router_port(vpc, way.subnet)
        for what, match in (
            ("out", f'outport == "{port}" && ip4.src != {_set([*prefixes, way.router_ip])}'),
            ("in", f'inport == "{port}" && ip4.dst != {_set(prefixes)}'),
        ):
            found.append(
                rows.add_unnamed(
                    "Logical_Router_Policy",
                    f"{port} routable {what}",
                    f"vpc {vpc}",
                    priority=ROUTABLE_PRIORITY,
                    action="drop",
                    match=f"ip4 && {match}",
                )
            )
    return found


def _own(intent: Intent, vpc: str) -> list[IPv4Network]:
    return [s.cidr for s in intent.file.subnets.values() if s.vpc == vpc and s.cidr is not None]


def _own6(intent: Intent, vpc: str) -> list[IPv6Network]:
    return [s.cidr6 for s in intent.file.subnets.values() if s.vpc == vpc and s.cidr6 is not None]


def _reached(intent: Intent, vpc: str) -> list[IPv4Network]:
    """Every network that the VPC has a route to."""
    outside = [intent.file.subnets[way.subnet].cidr for way in intent.gateways if way.vpc == vpc]
    routes = [route.to for route in intent.file.vpcs[vpc].routes]
    attached = [cidr for other in transit.attached(intent, vpc) for cidr in _own(intent, other)]
    return [*_own(intent, vpc), *attached, *(cidr for cidr in outside if cidr is not None), *routes]


def _set(members: Iterable[object]) -> str:
    """A set of constants of OVN's match language."""
    return "{" + ", ".join(sorted({str(member) for member in members})) + "}"
