"""The rules of policies as flows of br.microseg (ovs-actions(7), conjunction).

A rule is a conjunction of its NICs, its peers and its services: n NICs with m peers and k services cost
n + m + k flows, and rules of one band share them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from netctl.compile.flows import FlowSet, Pipeline
from netctl.compile.policies_peers import Directory, Peers
from netctl.compile.policies_rules import Band, Direction, Policing, Rule
from netctl.model import basic
from netctl.model.service import Range

CONTROLLER_ID = 24946
"""The `id` of the actions that are for the daemon that logs and rejects (dataplane.punt)."""

LOG, REJECT = 1, 2
"""What it is to do: the first octet of what an action tells it."""

WATCHED = 4
"""Of the second octet, 1 for outbound or 2 for inbound: the policy is only monitored."""

MICROSEG = Pipeline(
    {
        "admission": "at which NIC a frame is judged (reg1), in which zone (reg6); ARP, RARP and ND pass",
        "tracking": "what connection it belongs to",
        "direction": "who began that: the NIC (reg2=1) or its peer (reg2=2)",
        "quarantine": "quarantine and isolation policies",
        "policies": "shared-service and application policies",
        "commitment": "connections that pass are remembered",
        "passage": "up or down; down with a mark (reg3) for br0.local",
        "copies": "of a frame for many, for the next NICs that are secured (reg4)",
    }
)
"""br.microseg, with policies."""

DIRECTIONS: Mapping[Direction, str] = {"outbound": "reg2=0x1", "inbound": "reg2=0x2"}
"""Who began a connection, as the pipeline keeps it."""

BAND_WIDTH = 1000
"""Priorities of a band."""

SHELF = 1000
"""Rules that share flows. An OpenFlow message has 64 KiB, so a flow is part of 4,000 conjunctions at most."""

_SHELVES = 128
"""The most shelves of a band: four priorities each."""

_STAGES = ("quarantine", "policies")
_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "icmp6": 58}
_VALID = "ct_state=-inv+trk"

_Key = tuple[int, int, tuple[str, ...]]
"""Table, priority and match."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where rules are looked at, and what then: a bridge, its tables by stage, and what a rule does there.

    `priority` is that of a rule, given its shelf; the two above it are the rule's as well. `actions` are what
    is done with its packets: how much more priority, what must fit besides, the actions.
    """

    bridge: str
    tables: tuple[int, int]
    priority: Callable[[Rule, int], int]
    actions: Callable[[Rule], Iterator[tuple[int, tuple[str, ...], tuple[str, ...]]]]


def compile_rules(here: Policing, flows: FlowSet, place: Place | None = None) -> None:
    """The flows of the rules for a host's NICs: in br.microseg, which enforces them, or elsewhere."""
    counts: dict[Band, int] = {}
    for rule in here.rules:
        counts[rule.band] = counts.get(rule.band, 0) + 1
    shelves = {band: _shelves(count) for band, count in counts.items()}
    compiler = _Compiler(here.directory, shelves, flows, place or _ENFORCED)
    for space, rules in here.lists.items():
        for rule in sorted(rules, key=lambda rule: (rule.band, rule.why, rule.group.key)):
            compiler.add(space, rule)
    compiler.finish()


def _shelves(rules: int) -> int:
    """How many shelves so many rules need: a power of two, so that few rules move when it grows."""
    return min(_SHELVES, 1 << max(0, (rules - 1) // SHELF).bit_length())


@dataclass
class _Compiler:
    """Collects flows that rules share: parts of conjunctions, and what is alike for a NIC."""

    there: Directory
    shelves: Mapping[Band, int]
    flows: FlowSet
    place: Place
    parts: dict[_Key, list[tuple[int, str]]] = field(default_factory=dict)
    plain: dict[_Key, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    numbers: dict[int, str] = field(default_factory=dict)

    def add(self, space: str, rule: Rule) -> None:
        """The flows of one rule. Of two rules that are the same for a NIC the first is there."""
        table = self.place.tables[rule.stage]
        words = f"{space} {rule.group.key} {rule.why} {rule.direction} {rule.band.name}"
        number = self._number(words)
        shelf = number % self.shelves[rule.band]
        priority = self.place.priority(rule, shelf)
        nics: list[tuple[str, ...]] = [
            (f"reg1={self.there.ports[nic].number:#x}", DIRECTIONS[rule.direction])
            for nic in sorted(rule.group.nics)
        ]
        terms = [_peers(rule.peers, rule.direction)] if not rule.peers.everyone else []
        terms += [list(_services(rule.services, _families(rule.peers)))] if rule.services else []
        if not terms:
            self._add_plain(table, priority + 2, nics, rule)
            return
        for position, matches in enumerate([nics, *terms], start=1):
            for match in matches:
                part = f"{position}/{len(terms) + 1}"
                self.parts.setdefault((table, priority, match), []).append((number, part))
        for more, extra, action in self.place.actions(rule):
            self._flow(table, priority + more, (f"conj_id={number}", *extra), action, rule.why)

    def _add_plain(self, table: int, priority: int, nics: Iterable[tuple[str, ...]], rule: Rule) -> None:
        """A rule for whatever its NICs send or get: one flow each."""
        families: Sequence[tuple[str, ...]] = [("ip",), ("ipv6",)] if rule.outcome != "drop" else [()]
        for more, extra, action in self.place.actions(rule):
            for nic in nics:
                for family in families:
                    key = (table, priority + more, (*family, *nic, *extra))
                    self.plain.setdefault(key, (action, rule.why))

    def finish(self) -> None:
        """The flows that rules share."""
        for (table, priority, match), found in self.parts.items():
            shared = [f"conjunction({number},{part})" for number, part in sorted(found)]
            self._flow(table, priority, match, shared, "policies")
        for (table, priority, match), (action, why) in self.plain.items():
            self._flow(table, priority, match, action, why)

    def _flow(
        self, table: int, priority: int, match: Iterable[str], actions: Iterable[str], why: str
    ) -> None:
        self.flows.add(self.place.bridge, table, priority, match, actions, why)

    def _number(self, words: str) -> int:
        """A number that stands for these words; the same in every lab that has no others like it."""
        number = int.from_bytes(sha256(words.encode()).digest()[:4], "big") or 1
        while self.numbers.setdefault(number, words) != words:
            number = number % 0xFFFFFFFF + 1
        return number


def _actions(rule: Rule) -> Iterator[tuple[int, tuple[str, ...], tuple[str, ...]]]:
    """What is done with the packets of a rule: how much more priority, what must fit besides, the actions."""
    passes = rule.monitored or rule.outcome == "allow"
    on = (MICROSEG.goto(_STAGES[1] if rule.monitored and not rule.stage else "commitment"),) if passes else ()
    kind = LOG * rule.log + REJECT * (rule.outcome == "reject" and not passes)
    told = 1 + (rule.direction == "inbound") + WATCHED * rule.monitored
    punt = (f"controller(id={CONTROLLER_ID},userdata={kind:02x}.{told:02x})",) if kind else ()
    if punt and passes:
        # A connection once, not every packet of it.
        yield 1, ("ct_state=+new+trk",), (*punt, *on)
        punt = ()
    yield 0, (), (*punt, *on)


def _priority(rule: Rule, shelf: int) -> int:
    return BAND_WIDTH * (len(Band) - rule.band) + 4 * shelf


_ENFORCED = Place(basic.MICROSEG, (MICROSEG[_STAGES[0]], MICROSEG[_STAGES[1]]), _priority, _actions)


def _families(peers: Peers) -> list[str]:
    return [
        *(["ip"] if peers.every4 or peers.ipv4 else []),
        *(["ipv6"] if peers.every6 or peers.ipv6 else []),
    ]


def _peers(peers: Peers, direction: Direction) -> list[tuple[str, ...]]:
    side = "dst" if direction == "outbound" else "src"
    every = [("ip",)] if peers.every4 else [], [("ipv6",)] if peers.every6 else []
    return [
        *every[0],
        *every[1],
        *(("ip", _VALID, f"ct_nw_{side}={address}") for address in peers.ipv4 if not peers.every4),
        *(("ipv6", _VALID, f"ct_ipv6_{side}={address}") for address in peers.ipv6 if not peers.every6),
    ]


def _services(services: Iterable[Range], families: Iterable[str]) -> Iterator[tuple[str, ...]]:
    for family in families:
        for one in services:
            if one.protocol == ("icmp6" if family == "ip" else "icmp"):
                continue
            number = _NUMBERS[one.protocol]
            match = (family, _VALID, f"ct_nw_proto={number}")
            if one.first is None or one.last is None:
                yield match
                continue
            side = "ct_tp_src" if one.protocol.startswith("icmp") else "ct_tp_dst"
            for value in masks(one.first, one.last):
                yield (*match, f"{side}={value}")


def masks(first: int, last: int) -> Iterator[str]:
    """The fewest values with masks that stand for a range of ports, as OVS prints them."""
    while first <= last:
        size = min(first & -first if first else 1 << 16, 1 << ((last - first + 1).bit_length() - 1))
        yield str(first) if size == 1 else f"{first:#x}/{0x10000 - size:#x}"
        first += size
