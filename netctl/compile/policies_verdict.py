"""What becomes of a packet, and by which rule: from the policies themselves, packet by packet. Pure.

This is the meaning of the grammar, written as plainly as can be and without the ordered list that networks
are programmed from; tests hold the two, and real packets, against each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address

from netctl.compile.policies_peers import Directory, in_scope
from netctl.compile.policies_rules import (
    Direction,
    Outcome,
    Path,
    in_force,
    other,
    peer_of,
    restricts,
    rules_of,
)
from netctl.model.intent import Intent
from netctl.model.policy import InboundRule, IntraServices, OutboundRule, Peer, Policy, selects
from netctl.model.service import ranges

Policies = Mapping[str, Policy]
Said = tuple[Outcome, Path]


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a connection.

    `sender` and `receiver` are NICs (vm/index), None for whoever else; `source` is the sender's address as
    the receiver sees it, `target` the one that the sender sends to. `number` is the port, or the ICMP type.
    """

    sender: str | None
    receiver: str | None
    source: IPv4Address | IPv6Address
    target: IPv4Address | IPv6Address
    protocol: str
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a packet, and why.

    `end` is the NIC where it was decided and `path` the rule in the file; None where no policy has a say.
    `watched` are the rules of monitored policies that would stop it if no policy in force had decided first.
    """

    outcome: Outcome
    end: str | None = None
    path: Path | None = None
    watched: tuple[Path, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class _End:
    """One end of a packet, with what is known of the other."""

    nic: int
    space: str
    direction: Direction
    peers: frozenset[int]
    address: IPv4Address | IPv6Address
    protocol: str
    number: int | None


def verdict(intent: Intent, packet: Packet, directory: Directory | None = None) -> Decision:
    """What becomes of a packet: both ends must let it pass; where none of them has a policy it is open."""
    there = directory or Directory(intent)
    policies = in_force(intent)
    enforced = {name: policy for name, policy in policies.items() if policy.mode == "enforce"}
    monitored = {name: policy for name, policy in policies.items() if policy.mode == "monitor"}
    found = Decision("allow")
    watched: list[Path] = []
    for end in _ends(packet, there):
        said, told = _decide(enforced, monitored, end, there)
        watched += told
        if said is not None and found.outcome == "allow":
            found = Decision(said[0], there.ports[end.nic].name, said[1])
    return replace(found, watched=tuple(watched))


def _ends(packet: Packet, there: Directory) -> Iterator[_End]:
    numbers = {port.name: number for number, port in enumerate(there.ports)}
    for direction, own, address in (
        ("outbound", packet.sender, packet.target),
        ("inbound", packet.receiver, packet.source),
    ):
        if own is None:
            continue
        nic = numbers[own]
        space = there.space(nic)
        peers = there.at(space, address)
        yield _End(
            nic,
            space,
            "outbound" if direction == "outbound" else "inbound",
            peers,
            address,
            packet.protocol,
            packet.number,
        )


def _decide(
    enforced: Policies, monitored: Policies, end: _End, there: Directory
) -> tuple[Said | None, list[Path]]:
    """What one end says, and which monitored rules would have said no."""
    told = []
    said = None
    for judge in (_early, _late):
        said = judge(enforced, end, there)
        if said is not None:
            break
        would = judge(monitored, end, there)
        if would is not None and would[0] != "allow":
            told.append(would[1])
    return said, told


def _early(policies: Policies, end: _End, there: Directory) -> Said | None:
    """Quarantine, then isolation."""
    quarantines = _of_type(policies, "quarantine")
    said = _own(quarantines, end, there) or _of_the_peer(quarantines, end, there)
    if said is None:
        for name, policy in _of_type(policies, "isolation").items():
            if _isolated(policy, end, there):
                return "drop", ("policies", name)
    return said


def _late(policies: Policies, end: _End, there: Directory) -> Said | None:
    """Shared service, then application."""
    shared, rest = _of_type(policies, "shared-service"), _of_type(policies, "application", "shared-service")
    return _of_the_peer(shared, end, there) or _own(rest, end, there)


def _of_type(policies: Policies, *types: str) -> Policies:
    return {name: policy for name, policy in policies.items() if policy.type in types}


def _own(policies: Policies, end: _End, there: Directory) -> Said | None:
    """What the policies say that secure this NIC: what one allows is allowed, else what one rejects is."""
    said = [
        answer
        for name, policy in policies.items()
        if _is(policy.secured or {}, policy, end.nic, there)
        and (answer := _of_policy(name, policy, end, there)) is not None
    ]
    for outcome in ("allow", "reject", "drop"):
        for answer in said:
            if answer[0] == outcome:
                return answer
    return None


def _of_policy(name: str, policy: Policy, end: _End, there: Directory) -> Said | None:
    """What one policy says at a NIC that it secures; None where it has no say."""
    if any(_is(policy.secured or {}, policy, peer, there) for peer in end.peers):
        intra, path = policy.intra_group, ("policies", name, "intra_group")
        if intra == "allow":
            return "allow", path
        if isinstance(intra, IntraServices) and _served(intra.services, end, there):
            return "allow", (*path, "services")
        return "drop", path
    if not restricts(policy, end.direction):
        return None
    rules = list(enumerate(rules_of(policy, end.direction)))
    for action in ("allow", "reject"):
        for index, rule in rules:
            if rule.action == action and _fits(rule, policy, end, there):
                return action, ("policies", name, end.direction, index)
    written = getattr(policy, end.direction) is not None
    return "drop", ("policies", name, end.direction) if written else ("policies", name)


def _of_the_peer(policies: Policies, end: _End, there: Directory) -> Said | None:
    """What policies allow that secure the other end, but not this one."""
    for name, policy in policies.items():
        if _is(policy.secured or {}, policy, end.nic, there):
            continue
        if not any(_is(policy.secured or {}, policy, peer, there) for peer in end.peers):
            continue
        direction = other(end.direction)
        for index, rule in enumerate(rules_of(policy, direction)):
            named = _names(peer_of(rule), policy, end.nic, there)
            if rule.action == "allow" and named and _served(rule.services, end, there):
                return "allow", ("policies", name, direction, index)
    return None


def _isolated(policy: Policy, end: _End, there: Directory) -> bool:
    first, second = policy.between or ({}, {})
    return any(
        _is(own, policy, end.nic, there) and any(_is(far, policy, peer, there) for peer in end.peers)
        for own, far in ((first, second), (second, first))
    )


def _is(selector: dict[str, object], policy: Policy, nic: int, there: Directory) -> bool:
    """Whether a NIC has these categories and is in the policy's scope."""
    return in_scope(policy.scope, there.space(nic)) and selects(selector, there.categories[nic])


def _fits(rule: InboundRule | OutboundRule, policy: Policy, end: _End, there: Directory) -> bool:
    peer = peer_of(rule)
    if isinstance(peer, dict):
        known = any(_is(peer, policy, number, there) for number in end.peers)
    else:
        known = peer == "any" or any(end.address in one for one in there.networks(peer, end.space))
    return known and _served(rule.services, end, there)


def _names(peer: Peer, policy: Policy, nic: int, there: Directory) -> bool:
    """Whether a rule names a NIC as a peer."""
    if not in_scope(policy.scope, there.space(nic)):
        return False
    if isinstance(peer, dict):
        return selects(peer, there.categories[nic])
    return peer == "any" or nic in there.selected(peer, policy.scope)


def _served(services: list[str], end: _End, there: Directory) -> bool:
    found = ranges(services, there.file.service_groups)
    return not found or any(one.covers(end.protocol, end.number) for one in found)
