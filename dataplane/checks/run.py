"""Run the checks of an intent against its live lab, and ping."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dataplane.checks import places
from dataplane.checks.flight import Flight
from dataplane.checks.packets import MARK_LENGTH
from dataplane.checks.session import Session
from dataplane.checks.verdict import Verdict, flooded, judge
from netctl.errors import InputError
from netctl.model import Intent
from netctl.model.check import Check, Probe

BATCH = 64
"""Checks side by side; each batch ends with one fence for all of them."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a check came out: `expected` and `seen` in words, `evidence` line by line, times as on the wire."""

    check: Check
    name: str
    passed: bool
    seconds: float
    expected: str
    seen: str
    evidence: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """Passed or failed."""
        return "passed" if self.passed else "failed"

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "name": self.name,
            "verdict": self.verdict,
            "seconds": round(self.seconds, 4),
            "expected": self.expected,
            "seen": self.seen,
            "evidence": list(self.evidence),
        }


@dataclass(frozen=True, slots=True)
class Ping:
    """One ping: round trip in milliseconds, None when no answer came back."""

    sequence: int
    rtt_ms: float | None
    seen: str
    evidence: tuple[str, ...] = ()

    @property
    def answered(self) -> bool:
        """Whether the answer came back, and all was as it should be."""
        return self.rtt_ms is not None


OnResult = Callable[[Result], None]
OnPing = Callable[[Ping], None]


def run_checks(
    intent: Intent,
    lab: str,
    *,
    select: Sequence[str] | None = None,
    on_result: OnResult | None = None,
    parallel: bool = True,
) -> list[Result]:
    """Run the intent's checks against the running lab, in the order of the file; one result each.

    Args:
        intent: what the lab is to be; its `checks` are run.
        lab: the lab's name: its nodes are the network namespaces `LAB.NODE`.
        select: only checks whose name contains one of these, or matches it as a pattern (fnmatch).
        on_result: called with each result as soon as it is known.
        parallel: independent checks side by side; otherwise one after the other.

    Raises:
        InputError: a check that cannot be run as it is written, or a selection that fits none.
        ConflictError: the lab is not running.
        ChangeError: the lab is not whole, or the observers lost packets: nothing can be said.
        MachineError: not root.
    """
    wanted = [check for check in intent.file.checks if _selected(describe(check), select)]
    if select and not wanted:
        known = ", ".join(repr(describe(check)) for check in intent.file.checks)
        raise InputError(f"no check fits {' or '.join(select)}", f"Known are: {known or 'none'}.")
    for check in wanted:
        refuse_unsupported(check)
    results: list[Result] = []
    if not wanted:
        return results
    short = any(check.size is not None and check.size < MARK_LENGTH for check in wanted)
    with Session(intent, lab, short=short) as session:
        for batch in _batches(wanted, BATCH if parallel else 1):
            for result in _run_batch(session, batch):
                results.append(result)
                if on_result:
                    on_result(result)
    return results


def ping(
    intent: Intent,
    lab: str,
    source: str,
    target: str,
    count: int = 3,
    *,
    size: int | None = None,
    on_ping: OnPing | None = None,
) -> list[Ping]:
    """Ping from a VM, NIC or machine to another or to an address, one by one. Raises as run_checks."""
    found = []
    with Session(intent, lab, short=size is not None and size < MARK_LENGTH) as session:
        sender = places.source(intent, session.places, source)
        there = places.target(intent, session.places, sender, target)
        for sequence in range(1, count + 1):
            flight = session.flight(sender, there, size=size)
            session.fly([flight])
            verdict = judge("delivered", [flight])
            rtt = flight.after(flight.answers[-1]) if verdict.passed else None
            found.append(Ping(sequence, rtt, verdict.seen, verdict.evidence))
            if on_ping:
                on_ping(found[-1])
    return found


def describe(check: Check) -> str:
    """The check's name, or a sentence: `web1 -> web2 icmp delivered`."""
    if check.name:
        return check.name
    if check.steps is not None:
        return f"a story of {len(check.steps)} steps"
    return sentence(check)


def sentence(probe: Probe) -> str:
    """What a probe states."""
    what = probe.protocol if probe.port is None else f"{probe.protocol}/{probe.port}"
    extra = "" if probe.vlan is None else f" vlan {probe.vlan}"
    extra += "" if probe.size is None else f" size {probe.size}"
    extra += "" if probe.count == 1 else f" x {probe.count}"
    return f"{probe.from_} -> {probe.to} {what}{extra} {probe.expect}"


def refuse_unsupported(check: Check) -> None:
    """InputError for what this version does not check yet: never a check that passes unchecked."""
    unsupported = [
        word
        for word, value in (
            ("steps", check.steps),
            ("vlan", check.vlan),
            ("through", check.through),
            ("on_uplink", check.on_uplink),
            ("via", check.via),
            ("snat", check.snat),
        )
        if value is not None
    ]
    if check.protocol in ("icmp6", "arp"):
        unsupported.append(f"protocol {check.protocol}")
    if unsupported:
        raise InputError(f"check {describe(check)!r}: {', '.join(unsupported)}: not supported yet")


def _selected(name: str, select: Sequence[str] | None) -> bool:
    if not select:
        return True
    low = name.lower()
    return any(each.lower() in low or fnmatch.fnmatchcase(low, each.lower()) for each in select)


def _batches(checks: Sequence[Check], most: int) -> Iterator[Sequence[Check]]:
    for start in range(0, len(checks), most):
        yield checks[start : start + most]


def _run_batch(session: Session, batch: Sequence[Check]) -> Iterator[Result]:
    begin = time.monotonic()
    flights = [flights_of(session, check) for check in batch]
    session.fly([flight for group in flights for flight in group])
    seconds = time.monotonic() - begin
    for check, group in zip(batch, flights, strict=True):
        verdict = judge(check.expect, group)
        if not verdict.passed and flooded(group):
            # Now that the switches have seen the receiver, nobody else may get it.
            again = flights_of(session, check)
            session.fly(again)
            verdict = judge(check.expect, again)
        yield _result(check, verdict, seconds)


def flights_of(session: Session, probe: Probe) -> list[Flight]:
    """The flights of one probe: one for each packet (for tcp: connection)."""
    sender = places.source(session.intent, session.places, probe.from_)
    there = places.target(session.intent, session.places, sender, probe.to)
    patience = 1.0 if probe.expect == "delivered" else 0.0
    return [
        session.flight(sender, there, probe.protocol, probe.port or 0, probe.size, patience)
        for _ in range(probe.count)
    ]


def _result(check: Check, verdict: Verdict, seconds: float) -> Result:
    return Result(
        check, describe(check), verdict.passed, seconds, sentence(check), verdict.seen, verdict.evidence
    )
