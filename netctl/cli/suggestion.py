"""What `policy suggest` makes of hits: rules that would allow what a monitored policy would have stopped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netctl.cli.hits import Entry
    from netctl.model import Intent
    from netctl.model.policy import Policy

_PROTOCOLS = ("icmp", "icmp6", "tcp", "udp")

ANY = "any"
"""The service that is every packet: where a hit is of a protocol that services do not know."""


def whole(policy: Policy, added: Mapping[str, Any]) -> dict[str, Any]:
    """What is added, each list after what it has already."""
    there = policy.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return {
        key: [*(there.get(key) or ()), *more] if isinstance(more, list) else more
        for key, more in added.items()
    }


def suggestion(intent: Intent, policy: Policy, found: Iterable[Entry]) -> dict[str, Any]:
    """The keys of a policy with what would have to be in them besides: lists of rules, and intra_group."""
    from netctl.compile.policies_peers import Directory, in_scope
    from netctl.model.policy import IntraServices, selects

    there = Directory(intent)
    numbers = {port.name: number for number, port in enumerate(there.ports)}
    keys = _category_keys(intent)
    peers: dict[str, dict[str, tuple[Any, set[str]]]] = {"inbound": {}, "outbound": {}}
    inside: set[str] = set()
    for hit in found:
        end = 0 if hit.direction == "inbound" else 1
        other = numbers.get((hit.source, hit.target)[end])
        peer: dict[str, str] | str = _network(hit.addresses[end])
        if other is not None and in_scope(policy.scope, there.space(other)):
            have = there.categories[other]
            if selects(policy.secured or {}, have):
                inside.add(_service(hit))
                continue
            peer = {key: value for key, value in sorted(have.items()) if key in keys} or peer
        peers[hit.direction].setdefault(str(peer), (peer, set()))[1].add(_service(hit))
    result: dict[str, Any] = {}
    for direction, key in (("inbound", "from"), ("outbound", "to")):
        rules = [
            {key: peer, **({} if ANY in services else {"services": sorted(services)})}
            for _, (peer, services) in sorted(peers[direction].items())
        ]
        if rules:
            result[direction] = rules
    if isinstance(policy.intra_group, IntraServices) and inside:
        inside.update(policy.intra_group.services)
    if inside:
        result["intra_group"] = "allow" if ANY in inside else {"services": sorted(inside)}
    return result


def _service(hit: Entry) -> str:
    if hit.protocol not in _PROTOCOLS:
        return ANY
    return hit.protocol if hit.number is None else f"{hit.protocol}/{hit.number}"


def _network(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}" if address else "any"


def _category_keys(intent: Intent) -> set[str]:
    """The categories that any policy asks for."""

    def keys(selector: Mapping[str, Any]) -> Iterable[str]:
        for key, part in selector.items():
            if key in ("all", "any"):
                for inner in part:
                    yield from keys(inner)
            elif key == "not":
                yield from keys(part)
            else:
                yield key

    found: set[str] = set()
    for policy in intent.file.policies.values():
        selectors = [policy.secured, *(policy.between or ())]
        selectors += [rule.from_ for rule in policy.inbound or () if isinstance(rule.from_, dict)]
        selectors += [rule.to for rule in policy.outbound or () if isinstance(rule.to, dict)]
        for selector in selectors:
            found.update(keys(selector or {}))
    return found
