"""The command `hits`: what policies did with packets, counted and logged."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from json import dumps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netctl.cli import output
from netctl.cli.options import PROOF_PANEL, Json, LabArgument
from netctl.errors import InputError

if TYPE_CHECKING:
    from dataplane.hits import Hit
    from netctl.cli.operations import Running
    from netctl.compile.policies_rules import Policing, Rule
    from netctl.model import Intent

LAST = 20
"""How many hits are shown when nothing is said."""

POLL = 0.1
"""Seconds between looks at what is followed."""

_PASSED = {"allow": "allowed", "drop": "dropped", "reject": "rejected"}
WATCHED = {"allow": "would be allowed", "drop": "would be dropped", "reject": "would be rejected"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=PROOF_PANEL)(hits)


def hits(
    lab: LabArgument = None,
    policy: Annotated[
        list[str] | None, typer.Option("--policy", metavar="POLICY", help="Only of this; may be given again.")
    ] = None,
    last: Annotated[int, typer.Option("--last", metavar="N", min=0, help="How many hits to show.")] = LAST,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show hits as they come, until Ctrl-C.")
    ] = False,
    json: Json = False,
) -> None:
    """What policies did with packets: counters of each rule, and the hits that were logged.

    Logged is what policies with `hit_log: true` decide, and what those in mode monitor would have stopped: a
    connection that passes once, of what is stopped every packet, 100 a second of each rule on each host at
    most. With --follow --json each hit is a line of its own.
    """
    from netctl.cli import operations

    running = operations.locate(lab)
    _refuse_unknown(running, policy or [])
    book = Book.of(running)
    wanted = set(policy or ())
    if follow:
        for hit in _follow(running, book, wanted):
            output.say(dumps(hit.to_dict()) if json else _line(hit))
        return
    from dataplane.hits import read

    found = list(book.entries(iter(read(running.name, running.intent.hosts)), wanted))
    counters = [counter for counter in _counters(running, book) if not wanted or counter.policy in wanted]
    shown = found[-last:] if last else []
    if json:
        output.emit(
            {
                "lab": running.name,
                "rules": [counter.to_dict() for counter in counters],
                "hits": [hit.to_dict() for hit in shown],
            }
        )
        return
    if not counters:
        output.say(f"{running.name} has no policies in force")
        return
    output.table(
        ("policy", "rule", "line", "what", "packets"),
        [(one.policy, one.rule, one.line or "", one.outcome, one.packets) for one in counters],
    )
    if shown:
        output.heading(f"The last {len(shown)} of {output.plural(len(found), 'hit')}")
        output.table(
            ("time", "host", "policy", "rule", "what", "from", "to", "service"),
            map(_cells, shown),
            fold="service",
        )


def _follow(running: Running, book: Book, wanted: set[str]) -> Iterator[Entry]:
    """Hits as they come, in the words of the intent that the lab has by then, until the lab is gone."""
    from dataplane import store
    from dataplane.hits import Follower
    from netctl.cli import operations

    name, version, before = running.name, store.version(running.name), book
    follower = Follower(name, running.intent.hosts)
    output.note(f"following the hits of {name}; Ctrl-C ends it")
    while (now := store.version(name)) is not None:
        if now != version:
            running, version, before = operations.locate(name), now, book
            book = Book.of(running)
        for hit in follower.new(running.intent.hosts):
            entry = book.entry(hit) or before.entry(hit)
            if entry is not None and (not wanted or entry.policy in wanted):
                yield entry
        time.sleep(POLL)
    output.note(f"{name} is no longer there")


@dataclass(frozen=True, slots=True)
class Entry:
    """A hit in the words of the intent."""

    time: float
    host: str
    policy: str
    rule: str
    line: int | None
    outcome: str
    direction: str
    source: str
    target: str
    addresses: tuple[str, str]
    protocol: str
    source_port: int | None
    number: int | None

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "time": _iso(self.time),
            "host": self.host,
            "policy": self.policy,
            "rule": self.rule,
            "line": self.line,
            "outcome": self.outcome,
            "direction": self.direction,
            "from": self.source or None,
            "to": self.target or None,
            "source": self.addresses[0] or None,
            "target": self.addresses[1] or None,
            "protocol": self.protocol,
            "source_port": self.source_port,
            "icmp_type" if self.protocol.startswith("icmp") else "port": self.number,
        }


@dataclass(frozen=True, slots=True)
class Counter:
    """How many packets a rule has had."""

    policy: str
    rule: str
    line: int | None
    outcome: str
    packets: int

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return dict(
            policy=self.policy, rule=self.rule, line=self.line, outcome=self.outcome, packets=self.packets
        )


class Book:
    """What rules and addresses are, to put hits into words."""

    def __init__(self, running: Running, policing: Policing) -> None:
        from netctl.model.flow import cookie

        self._intent, self._policing = running.intent, policing
        self.rules: dict[str, Rule] = {}
        for rule in policing.rules:
            self.rules.setdefault(rule.why, rule)
        self.cookies = {cookie(running.name, why): why for why in self.rules}
        self._by_mac = {port.mac: number for number, port in enumerate(running.intent.ports)}

    @classmethod
    def of(cls, running: Running) -> Book:
        """The book of a lab."""
        from netctl.compile.policies_rules import Policing

        return cls(running, Policing.of(running.intent))

    def entries(self, found: Iterator[Hit], wanted: set[str]) -> Iterator[Entry]:
        """The hits of some policies, or of all; those of rules that are no longer there are left out."""
        for hit in found:
            entry = self.entry(hit)
            if entry is not None and (not wanted or entry.policy in wanted):
                yield entry

    def line(self, path: tuple[str | int, ...]) -> int | None:
        """The line of a rule in the file."""
        return line_of(self._intent, path)

    def entry(self, hit: Hit) -> Entry | None:
        """A hit in words; None where its rule is none of the intent's."""
        if hit.label:
            words, _, outcome = hit.label.rpartition(" ")
            why, watched = f"policy {words}", hit.passed and outcome != "allow"
        else:
            why = self.cookies.get(hit.cookie, "")
            outcome = self.rules[why].outcome if why else ""
            watched = bool(hit.passed)
        rule = self.rules.get(why)
        if rule is None:
            return None
        source, target = self._ends(hit)
        return Entry(
            time=hit.time,
            host=hit.host,
            policy=rule.policy,
            rule=rule_words(rule),
            line=self.line(rule.path),
            outcome=(WATCHED if watched else _PASSED)[outcome],
            direction="inbound" if hit.inbound else "outbound",
            source=source,
            target=target,
            addresses=(str(hit.source or ""), str(hit.target or "")),
            protocol=hit.protocol,
            source_port=hit.source_port,
            number=hit.number,
        )

    def _ends(self, hit: Hit) -> tuple[str, str]:
        """Who sent and who was to get it: the NIC of the log by its MAC, the other by its address there."""
        there = self._policing.directory
        own = self._by_mac.get(hit.target_mac if hit.inbound else hit.source_mac)
        if own is None:
            return "", ""
        address = hit.source if hit.inbound else hit.target
        peers = there.at(there.space(own), address) if address is not None else frozenset()
        peer = there.ports[min(peers)].name if peers else ""
        name = there.ports[own].name
        return (peer, name) if hit.inbound else (name, peer)


def line_of(intent: Intent, path: tuple[str | int, ...]) -> int | None:
    """The line of a rule in the file, or of what is nearest above it there; None where that is not known."""
    return intent.locate(*path)[0] if intent.locate is not None else None


def rule_words(rule: Rule) -> str:
    """A rule as hits call it: `inbound 0`; what the policy says as a whole is `-`."""
    return " ".join(map(str, rule.path[2:])) or "-"


def _counters(running: Running, book: Book) -> list[Counter]:
    from netctl.drivers import Databases
    from netctl.drivers.counters import of_acls, of_flows

    hosts = [host for host in running.intent.hosts if host not in running.rack.silent]
    packets: dict[str, int] = dict.fromkeys(book.rules, 0)
    with Databases(running.rack.reachable(), running.name) as databases:
        found: list[Mapping[str, int]] = [of_flows(databases, hosts, book.cookies)]
        if databases.endpoints.northbound and databases.endpoints.southbound:
            found.append(of_acls(databases, hosts))
    for counts in found:
        for why, count in counts.items():
            if why in packets:
                packets[why] += count
    return [
        Counter(
            rule.policy,
            rule_words(rule),
            book.line(rule.path),
            (WATCHED if rule.monitored else _PASSED)[rule.outcome],
            packets[why],
        )
        for why, rule in sorted(book.rules.items(), key=lambda item: (item[1].policy, _order(item[1])))
    ]


def _order(rule: Rule) -> tuple[str, int]:
    last = rule.path[-1]
    return (str(rule.path[2]) if len(rule.path) > 2 else "", last if isinstance(last, int) else 1 << 30)


def _refuse_unknown(running: Running, policies: list[str]) -> None:
    known = running.intent.file.policies
    for name in policies:
        if name not in known:
            raise InputError(
                f"{running.name} has no policy {name}",
                f"Its policies are {', '.join(sorted(known))}." if known else "It has none.",
            )


def _iso(when: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when))
    return f"{whole}.{int(when % 1 * 1000):03d}Z"


def _cells(hit: Entry) -> tuple[str, ...]:
    ends = [name or address for name, address in zip((hit.source, hit.target), hit.addresses, strict=True)]
    return (
        time.strftime("%H:%M:%S", time.localtime(hit.time)) + f".{int(hit.time % 1 * 1000):03d}",
        hit.host,
        hit.policy,
        hit.rule,
        hit.outcome,
        *ends,
        hit.protocol if hit.number is None else f"{hit.protocol}/{hit.number}",
    )


def _line(hit: Entry) -> str:
    when, host, policy, rule, outcome, source, target, service = _cells(hit)
    return f"{when}  {host}  {source} -> {target} {service}  {outcome} by {policy} {rule}".rstrip(" -")
