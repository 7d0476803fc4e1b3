"""Security policies as one ordered list of rules for each space. Pure; no OVN in it.

Each end of a packet goes through the list: the sender's as `outbound`, the receiver's as `inbound`. The first
rule that fits decides; what no rule fits is open. Both ends must let it pass.

    stage 0   quarantine         what quarantine policies of this NIC allow, or reject; everything else drops
              quarantine peer    what those of the other end allow
              isolation          drops
              watched            what monitored quarantine and isolation policies would drop: told, and on to
    stage 1   shared service     what the other end's shared-service policies allow
              application        what application and shared-service policies of this NIC allow; what they
                                 reject; everything else that one of them restricts drops
              watched            the same for policies in mode monitor, but everything passes

All rules of a band do the same, so which of them is asked first means nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Literal

from netctl.compile.policies_peers import EVERYONE, Directory, Peers, in_scope, scope_text
from netctl.model.intent import Intent
from netctl.model.policy import InboundRule, IntraServices, OutboundRule, Peer, Policy
from netctl.model.service import Range

Direction = Literal["inbound", "outbound"]
Outcome = Literal["allow", "reject", "drop"]
Path = tuple[str | int, ...]

DIRECTIONS: tuple[Direction, Direction] = ("outbound", "inbound")


class Band(IntEnum):
    """When a rule's turn comes: the lower the number, the earlier."""

    QUARANTINE_ALLOW = 0
    QUARANTINE_REJECT = 1
    QUARANTINE_DROP = 2
    QUARANTINE_PEER = 3
    ISOLATION = 4
    WATCHED_QUARANTINE_ALLOW = 5
    WATCHED_QUARANTINE_DROP = 6
    WATCHED_QUARANTINE_PEER = 7
    WATCHED_ISOLATION = 8
    SHARED_SERVICE_PEER = 9
    ALLOW = 10
    REJECT = 11
    DROP = 12
    WATCHED_PEER = 13
    WATCHED_ALLOW = 14
    WATCHED_REJECT = 15
    WATCHED_DROP = 16


STAGE_1 = Band.SHARED_SERVICE_PEER
"""The first band of stage 1."""


@dataclass(frozen=True, slots=True)
class Group:
    """NICs that a rule is for, in one space; the same key and space, the same NICs."""

    key: str
    nics: frozenset[int]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the ordered list.

    `outcome` is what the policy says; `monitored` that it is only told, and does not happen: a monitored rule
    of stage 0 goes on to stage 1, one of stage 1 lets pass. `services` empty: every packet.
    """

    policy: str
    path: Path
    direction: Direction
    band: Band
    outcome: Outcome
    group: Group
    peers: Peers
    services: tuple[Range, ...] = ()
    log: bool = False

    @property
    def monitored(self) -> bool:
        """Whether it is only told."""
        return Band.WATCHED_QUARANTINE_ALLOW <= self.band < STAGE_1 or self.band >= Band.WATCHED_PEER

    @property
    def stage(self) -> int:
        """0 for quarantine and isolation, 1 for what comes after."""
        return int(self.band >= STAGE_1)

    @property
    def why(self) -> str:
        """Which rule of the file it comes from, such as `policy app inbound 0`."""
        return " ".join(("policy", *map(str, self.path[1:])))


@dataclass(frozen=True, slots=True)
class _Bands:
    """The bands of one kind of policy in one mode."""

    allow: Band
    reject: Band
    drop: Band
    peer: Band


_ENFORCED = _Bands(Band.ALLOW, Band.REJECT, Band.DROP, Band.SHARED_SERVICE_PEER)
_WATCHED = _Bands(Band.WATCHED_ALLOW, Band.WATCHED_REJECT, Band.WATCHED_DROP, Band.WATCHED_PEER)
_QUARANTINE = _Bands(
    Band.QUARANTINE_ALLOW, Band.QUARANTINE_REJECT, Band.QUARANTINE_DROP, Band.QUARANTINE_PEER
)
_WATCHED_QUARANTINE = _Bands(
    Band.WATCHED_QUARANTINE_ALLOW,
    Band.WATCHED_QUARANTINE_DROP,
    Band.WATCHED_QUARANTINE_DROP,
    Band.WATCHED_QUARANTINE_PEER,
)


@dataclass(frozen=True)
class Policing:
    """The policies of an intent, resolved: who is who, and the ordered list of each space that has one."""

    directory: Directory
    lists: Mapping[str, Sequence[Rule]]

    @classmethod
    def of(cls, intent: Intent) -> Policing:
        """The policies of an intent."""
        directory = Directory(intent)
        return cls(directory, ordered_rules(intent, directory))

    def among(self, nics: frozenset[int]) -> Policing:
        """The rules that are for some of these NICs, and for them only."""
        lists = {
            space: [
                replace(rule, group=replace(rule.group, nics=rule.group.nics & nics))
                for rule in rules
                if rule.group.nics & nics
            ]
            for space, rules in self.lists.items()
        }
        return Policing(self.directory, {space: rules for space, rules in lists.items() if rules})

    @property
    def rules(self) -> Iterator[Rule]:
        """The rules of all spaces."""
        for rules in self.lists.values():
            yield from rules


def in_force(intent: Intent) -> Mapping[str, Policy]:
    """The policies that are looked at: all but those that are only saved, sorted by name."""
    return {name: policy for name, policy in sorted(intent.file.policies.items()) if policy.mode != "save"}


def ordered_rules(intent: Intent, directory: Directory | None = None) -> dict[str, tuple[Rule, ...]]:
    """The rules of each space that has any, by band, then policy; those that can never fit are left out."""
    there = directory or Directory(intent)
    found: dict[str, list[Rule]] = {}
    for name, policy in in_force(intent).items():
        for space in there.spaces:
            if in_scope(policy.scope, space):
                rules = _of_policy(name, policy, space, there)
                found.setdefault(space, []).extend(
                    rule for rule in rules if rule.group.nics and not rule.peers.nobody
                )
    return {
        space: tuple(sorted(rules, key=lambda rule: rule.band)) for space, rules in found.items() if rules
    }


def _of_policy(name: str, policy: Policy, space: str, there: Directory) -> Iterator[Rule]:
    if policy.type == "isolation":
        yield from _isolation(name, policy, space, there)
        return
    group = _group(policy, policy.secured or {}, space, there)
    if not group.nics and not _reaches_peers(policy):
        return
    bands = _bands(policy)
    for direction in DIRECTIONS:
        yield from _intra_group(name, policy, direction, bands, group, space, there)
        for index, rule in enumerate(rules_of(policy, direction)):
            peers = there.peers(peer_of(rule), policy, space)
            services = there.services(rule.services)
            path: Path = ("policies", name, direction, index)
            allows = rule.action == "allow"
            yield Rule(
                policy=name,
                path=path,
                direction=direction,
                band=bands.allow if allows else bands.reject,
                outcome="allow" if allows else "reject",
                group=group,
                peers=peers,
                services=services,
                log=_logged(policy, allows),
            )
            if allows and _reaches_peers(policy):
                yield from _at_the_peer(name, policy, direction, index, bands, space, there)
        if restricts(policy, direction):
            listed = getattr(policy, direction) is not None
            path = ("policies", name, direction) if listed else ("policies", name)
            yield Rule(
                policy=name,
                path=path,
                direction=direction,
                band=bands.drop,
                outcome="drop",
                group=group,
                peers=EVERYONE,
                log=_logged(policy, False),
            )


def _bands(policy: Policy) -> _Bands:
    watched = policy.mode == "monitor"
    if policy.type == "quarantine":
        return _WATCHED_QUARANTINE if watched else _QUARANTINE
    return _WATCHED if watched else _ENFORCED


def _reaches_peers(policy: Policy) -> bool:
    """Whether what a policy allows is allowed at the other end as well."""
    return policy.type in ("quarantine", "shared-service")


def _logged(policy: Policy, allows: bool) -> bool:
    return policy.hit_log or (policy.mode == "monitor" and not allows)


def restricts(policy: Policy, direction: Direction) -> bool:
    """Whether a policy drops what it does not allow in a direction, whoever the peer is."""
    return policy.type == "quarantine" or getattr(policy, direction) is not None


def rules_of(policy: Policy, direction: Direction) -> Sequence[InboundRule | OutboundRule]:
    """The rules of a direction."""
    return (policy.inbound if direction == "inbound" else policy.outbound) or ()


def peer_of(rule: InboundRule | OutboundRule) -> Peer:
    """Who is at the other end."""
    return rule.from_ if isinstance(rule, InboundRule) else rule.to


def other(direction: Direction) -> Direction:
    """The direction as the other end sees it."""
    return "outbound" if direction == "inbound" else "inbound"


def _group(policy: Policy, selector: Mapping[str, object], space: str, there: Directory) -> Group:
    nics = there.select(selector) & there.spaces[space]
    return Group(there.text(selector), nics)


def _intra_group(
    name: str,
    policy: Policy,
    direction: Direction,
    bands: _Bands,
    group: Group,
    space: str,
    there: Directory,
) -> Iterator[Rule]:
    """Between VMs of the secured group. In a restricted direction, what is not allowed drops anyway."""
    secured = there.within(policy.scope, there.select(policy.secured or {}))
    peers = there.of_nics(_in_scope(group.key, policy), secured, space)
    services: tuple[Range, ...] | None = ()
    if isinstance(policy.intra_group, IntraServices):
        services = there.services(policy.intra_group.services)
    elif policy.intra_group == "deny":
        services = None
    path: Path = ("policies", name, "intra_group")
    if services is not None:
        yield Rule(name, path, direction, bands.allow, "allow", group, peers, services, _logged(policy, True))
    if services != () and not restricts(policy, direction):
        yield Rule(name, path, direction, bands.drop, "drop", group, peers, (), _logged(policy, False))


def _in_scope(key: str, policy: Policy) -> str:
    return key if policy.scope == "all" else f"{key} in {scope_text(policy.scope)}"


def _at_the_peer(
    name: str,
    policy: Policy,
    direction: Direction,
    index: int,
    bands: _Bands,
    space: str,
    there: Directory,
) -> Iterator[Rule]:
    """What a rule allows, as a rule for those that it names; their peers are those that are secured."""
    rule = rules_of(policy, direction)[index]
    secured = there.within(policy.scope, there.select(policy.secured or {}))
    named = there.selected(peer_of(rule), policy.scope) - secured
    key = f"{name} {direction} {index}"
    yield Rule(
        policy=name,
        path=("policies", name, direction, index),
        direction=other(direction),
        band=bands.peer,
        outcome="allow",
        group=Group(key, named & there.spaces[space]),
        peers=there.of_nics(_in_scope(there.text(policy.secured or {}), policy), secured, space),
        services=there.services(rule.services),
        log=_logged(policy, True),
    )


def _isolation(name: str, policy: Policy, space: str, there: Directory) -> Iterator[Rule]:
    first, second = policy.between or ({}, {})
    band = Band.WATCHED_ISOLATION if policy.mode == "monitor" else Band.ISOLATION
    sides = [(first, second), (second, first)]
    if there.text(first) == there.text(second):
        sides = sides[:1]
    for own, far in sides:
        group = _group(policy, own, space, there)
        nics = there.within(policy.scope, there.select(far))
        peers = there.of_nics(_in_scope(there.text(far), policy), nics, space)
        for direction in DIRECTIONS:
            yield Rule(
                policy=name,
                path=("policies", name),
                direction=direction,
                band=band,
                outcome="drop",
                group=group,
                peers=peers,
                log=_logged(policy, False),
            )
