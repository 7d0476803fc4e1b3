"""Run the checks of an intent against its live lab, and ping."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dataplane.checks import places
from dataplane.checks.flight import PATIENCE, Awaits, Flight
from dataplane.checks.lost import where
from dataplane.checks.packets import MARK_LENGTH
from dataplane.checks.session import Session, require
from dataplane.checks.story import Verb, refuse_without_verbs, tell
from dataplane.checks.tagged import LARGEST
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


_PING = Probe()

OnStart = Callable[[Sequence[Check]], None]
OnResult = Callable[[Result], None]
OnPing = Callable[[Ping], None]


def run_checks(
    intent: Intent,
    lab: str,
    *,
    select: Sequence[str] | None = None,
    on_start: OnStart | None = None,
    on_failure: OnResult | None = None,
    on_result: OnResult | None = None,
    parallel: bool = True,
    verbs: Mapping[str, Verb] | None = None,
) -> list[Result]:
    """Run the intent's checks against the running lab, in the order of the file; one result each.

    Args:
        intent: what the lab is to be; its `checks` are run.
        lab: the lab's name: its nodes are the network namespaces `LAB.NODE`.
        select: only checks whose name contains one of these, or matches it as a pattern (fnmatch).
        on_start: called with the checks that begin now.
        on_failure: called with the result of a check that failed while the lab is still as the check found
            it, and with a story before what it made fail is healed.
        on_result: called with each result as soon as it is known.
        parallel: independent checks side by side; otherwise one after the other. Stories always run alone.
        verbs: what stories do to the lab, by the names of story.VERBS.

    Raises:
        InputError: a check that cannot be run as it is written, or a selection that fits none.
        ConflictError: the lab is not running.
        ChangeError: the lab is not whole, or the observers lost packets: nothing can be said.
        MachineError: not root.
    """
    wanted = selected(intent.file.checks, select)
    if select and not wanted:
        known = ", ".join(repr(describe(check)) for check in intent.file.checks)
        raise InputError(f"no check fits {' or '.join(select)}", f"Known are: {known or 'none'}.")
    for check in wanted:
        _refuse_unsupported(intent, check, verbs or {})
    require(lab, places.places(intent).values())
    results: list[Result] = []
    for batch in _batches(wanted, BATCH if parallel else 1):
        if on_start:
            on_start(batch)
        if batch[0].steps is not None:
            result, intent = _run_story(intent, lab, batch[0], verbs or {}, on_failure)
            found: Iterable[Result] = [result]
        else:
            found = _run_batch(intent, lab, batch, on_failure)
        for result in found:
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
            verdict = judge(_PING, [flight])
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


def _refuse_unsupported(intent: Intent, check: Check, verbs: Mapping[str, Verb]) -> None:
    """InputError for what cannot be checked: never a check that passes unchecked."""
    refuse_without_verbs(check, verbs)
    probes = [step.check or step.traffic for step in check.steps] if check.steps else [check]
    for probe in probes:
        if probe is None:
            continue
        word = next((word for word, fits in _UNSUPPORTED if fits(probe)), "")
        if word:
            raise InputError(f"check {describe(check)!r}: {word} cannot be checked yet")
        if probe.on_uplink is not None and probe.from_ in intent.machines:
            raise InputError(
                f"check {describe(check)!r}: {probe.from_} is a bare machine and has no uplinks",
                "Leave `on_uplink` out, or send from a VM.",
            )


_UNSUPPORTED: tuple[tuple[str, Callable[[Probe], bool]], ...] = (
    (
        f"a tagged payload of more than {LARGEST} octets",
        lambda probe: probe.vlan is not None and (probe.size or 0) > LARGEST,
    ),
)


def selected(checks: Sequence[Check], select: Sequence[str] | None) -> list[Check]:
    """The checks whose name contains one of these, or matches it as a pattern; all without any."""
    return [check for check in checks if _selected(describe(check), select)]


def _selected(name: str, select: Sequence[str] | None) -> bool:
    if not select:
        return True
    low = name.lower()
    return any(each.lower() in low or fnmatch.fnmatchcase(low, each.lower()) for each in select)


def _batches(checks: Sequence[Check], most: int) -> Iterator[Sequence[Check]]:
    """Checks that run side by side; a story is a batch of its own."""
    batch: list[Check] = []
    for check in checks:
        if batch and (check.steps is not None or batch[0].steps is not None or len(batch) == most):
            yield batch
            batch = []
        batch.append(check)
    if batch:
        yield batch


def _session(intent: Intent, lab: str, probes: Iterable[Probe], *, points: bool = False) -> Session:
    """A session that can see all that these probes ask about."""
    probes = list(probes)
    return Session(
        intent,
        lab,
        short=any(probe.size is not None and probe.size < MARK_LENGTH for probe in probes),
        tagged=any(probe.vlan is not None for probe in probes),
        points=points or any(probe.on_uplink is not None or probe.via is not None for probe in probes),
        functions=any(probe.through is not None for probe in probes),
    )


def _run_batch(
    intent: Intent, lab: str, batch: Sequence[Check], on_failure: OnResult | None
) -> Iterator[Result]:
    with _session(intent, lab, batch) as session:
        proofs = _prove(session, batch)
    failed = [probe for probe, proof in zip(batch, proofs, strict=True) if not proof.verdict.passed]
    reasons = _explain(intent, lab, failed)
    for check, proof in zip(batch, proofs, strict=True):
        verdict = proof.verdict
        if not verdict.passed:
            verdict = _with_reason(verdict, reasons.get(id(check)))
        result = Result(
            check,
            describe(check),
            verdict.passed,
            proof.seconds,
            sentence(check),
            verdict.seen,
            verdict.evidence,
        )
        if on_failure and not result.passed:
            on_failure(result)
        yield result


@dataclass(frozen=True, slots=True)
class _Proof:
    """A verdict, and the seconds from the probe's first packet to it."""

    verdict: Verdict
    seconds: float


def _prove(session: Session, probes: Sequence[Probe], *, quick: bool = False) -> list[_Proof]:
    flights = [flights_of(session, probe) for probe in probes]
    session.fly([flight for group in flights for flight in group], patience=QUICK if quick else None)
    proofs = [
        _Proof(judge(probe, group), _took(group, session.fenced))
        for probe, group in zip(probes, flights, strict=True)
    ]
    return [
        _prove_again(session, probe, group, proof) if flooded(probe, group) else proof
        for probe, group, proof in zip(probes, flights, proofs, strict=True)
    ]


def _prove_again(session: Session, probe: Probe, flights: Sequence[Flight], proof: _Proof) -> _Proof:
    """Send it again until the switches, which flooded it, know the receiver from its answers.

    What they have learned may take a moment to reach the flows that they have cached (ovs-vswitchd(8)).
    """
    end = time.monotonic() + LEARNING
    seconds = proof.seconds
    while flooded(probe, flights):
        flights = flights_of(session, probe)
        session.fly(flights)
        seconds += _took(flights, session.fenced)
        if time.monotonic() > end:
            break
    return _Proof(judge(probe, flights), seconds)


def _took(flights: Sequence[Flight], fenced: float) -> float:
    """Seconds from the first packet to the last that was seen of it, or to the end of the fence behind it.

    Side by side with others, what took them long is not in it but for the fence, which is one for all.
    """
    left = [flight.left[0] for flight in flights if flight.left]
    ended = max((flight.last for flight in flights), default=0)
    took = (ended - min(left)) / 1e9 if left else 0.0
    in_vain = [flight for flight in flights if flight.awaits == "nothing" or not flight.settled]
    if in_vain:
        took = max(took, *(PATIENCE[flight.awaits] for flight in in_vain)) + fenced
    return took


def _explain(intent: Intent, lab: str, probes: Sequence[Probe]) -> dict[int, Verdict]:
    """Send one packet of each probe again while all taps, uplinks and switches are watched."""
    if not probes:
        return {}
    found = {}
    with _session(intent, lab, probes, points=True) as session:
        flights = [flights_of(session, probe.model_copy(update={"count": 1})) for probe in probes]
        session.fly([flight for group in flights for flight in group])
        for probe, [flight] in zip(probes, flights, strict=True):
            verdict = judge(probe, [flight])
            reason = where(intent, flight) if probe.expect == "delivered" and not verdict.passed else ""
            if verdict.passed:
                reason = "the next one did not fail"
            found[id(probe)] = Verdict(verdict.passed, reason, verdict.evidence)
    return found


def _with_reason(verdict: Verdict, reason: Verdict | None) -> Verdict:
    if reason is None:
        return verdict
    seen = f"{verdict.seen}; {reason.seen}" if reason.seen else verdict.seen
    more = [line for line in reason.evidence if line not in seen]
    if more:
        more.insert(0, "and once more, watched all the way:")
    return Verdict(False, seen, (*verdict.evidence, *more))


def _run_story(
    intent: Intent, lab: str, check: Check, verbs: Mapping[str, Verb], on_failure: OnResult | None
) -> tuple[Result, Intent]:
    def prove(now: Intent, probe: Probe, quick: bool) -> Verdict:
        with _session(now, lab, [probe]) as session:
            [proof] = _prove(session, [probe], quick=quick)
        if quick or proof.verdict.passed:
            return proof.verdict
        return _with_reason(proof.verdict, _explain(now, lab, [probe])[id(probe)])

    def result(verdict: Verdict) -> Result:
        seconds = time.monotonic() - begin
        expected = f"{len(check.steps or ())} steps hold"
        return Result(
            check, describe(check), verdict.passed, seconds, expected, verdict.seen, verdict.evidence
        )

    fallen: list[Result] = []

    def fell(verdict: Verdict) -> None:
        fallen.append(result(verdict))
        if on_failure:
            on_failure(fallen[0])

    begin = time.monotonic()
    verdict, intent = tell(intent, lab, check, verbs, prove, fell)
    return fallen[0] if fallen else result(verdict), intent


AWAITS: Mapping[str, Awaits] = {"delivered": "answer", "dropped": "nothing", "rejected": "error"}

QUICK = 0.2
"""Seconds of patience with a packet that will be tried again."""

LEARNING = 1.0
"""Seconds that switches are given to use what they have learned."""


def flights_of(session: Session, probe: Probe) -> list[Flight]:
    """The flights of one probe: one for each packet (for tcp: connection)."""
    sender = places.source(session.intent, session.places, probe.from_)
    there = places.target(session.intent, session.places, sender, probe.to, probe.protocol)
    awaits = AWAITS[probe.expect]
    return [
        session.flight(sender, there, probe.protocol, probe.port or 0, probe.size, awaits, probe.vlan)
        for _ in range(probe.count)
    ]
