"""Stories: the steps of a check in their order, with checks that may take a while to come true.

What changes the lab (fail, heal, apply, migrate) is done by verbs that the caller brings; a verb that
changes the intent returns the new one. A story ends at its first step that does not hold, and whatever it
did to the lab is undone by the verb `restore`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from dataplane.checks import places
from dataplane.checks.loop import Loop
from dataplane.checks.packets import Kind
from dataplane.checks.sockets import Sockets
from dataplane.checks.traffic import Traffic
from dataplane.checks.verdict import Verdict
from dataplane.checks.watch import Sighting, Watch
from netctl.errors import ChangeError, InputError, NetctlError
from netctl.model import Intent
from netctl.model.check import Check, Probe, Step

Verb = Callable[[Any], Intent | None]
"""Does something to the lab; returns the new intent where it changed it."""

Prove = Callable[[Intent, Probe, bool], Verdict]
"""Judges a probe once: of an intent, and whether to be quick about it or to wait and explain."""

VERBS = ("fail", "heal", "apply", "migrate")

RETRY = 0.05
"""Seconds between two tries of a check that has some time to come true."""

_RARP_LATE = 1.0
"""Seconds after a migration in which its RARP may still come."""


@dataclass
class _Told:
    """What happened so far."""

    intent: Intent
    evidence: list[str] = field(default_factory=list)
    traffic: list[Traffic] = field(default_factory=list)
    changed: bool = False


class _Fell(Exception):
    """A step did not hold."""


def tell(
    intent: Intent,
    lab: str,
    check: Check,
    verbs: Mapping[str, Verb],
    prove: Prove,
    fell: Callable[[Verdict], None],
) -> tuple[Verdict, Intent]:
    """Run a story, leave the lab as it was before, and return its verdict and the intent again.

    `fell` is called with the verdict of a story that does not hold, before anything is healed.
    """
    told = _Told(intent)
    begin = time.monotonic()
    steps = check.steps or []
    with ExitStack() as stack:
        stack.callback(_restore, told, verbs)
        for number, step in enumerate(steps, 1):
            try:
                seen = _step(told, lab, step, verbs, prove, stack)
            except _Fell as fall:
                words = f"step {number} ({_name(step)}): {fall}"
                verdict = Verdict(False, words, tuple(told.evidence))
                fell(verdict)
                return verdict, intent
            told.evidence.append(f"{time.monotonic() - begin:8.3f} s  {_name(step)}: {seen}")
    return Verdict(True, f"all {len(steps)} steps held", tuple(told.evidence)), intent


def refuse_without_verbs(check: Check, verbs: Mapping[str, Verb]) -> None:
    """InputError when a step needs a verb that is not there."""
    for step in check.steps or ():
        for verb in VERBS:
            if getattr(step, verb) is not None and verb not in verbs:
                raise InputError(f"check {check.name or 'with steps'!r}: step `{verb}` is not supported here")


def _step(
    told: _Told, lab: str, step: Step, verbs: Mapping[str, Verb], prove: Prove, stack: ExitStack
) -> str:
    if step.check is not None:
        seen = _check(told, step.check, step.within, prove)
    elif step.traffic is not None:
        try:
            told.traffic.append(stack.enter_context(_traffic(told.intent, lab, step.traffic)))
        except ChangeError as error:
            raise _Fell(error.message) from None
        seen = "flows"
    else:
        seen = _do(told, lab, step, verbs)
    for traffic in told.traffic:
        if traffic.broken:
            raise _Fell(f"traffic {traffic.name}: {traffic.broken}")
    return seen


def _check(told: _Told, probe: Probe, within: float | None, prove: Prove) -> str:
    begin = time.monotonic()
    end = begin + (within or 0.0)
    while time.monotonic() < end:
        verdict = prove(told.intent, probe, True)
        if verdict.passed:
            return f"{verdict.seen}, {time.monotonic() - begin:.2f} s after the step before"
        time.sleep(max(0.0, min(RETRY, end - time.monotonic())))
    verdict = prove(told.intent, probe, False)
    if not verdict.passed:
        told.evidence += verdict.evidence
        raise _Fell(verdict.seen + (f" (within {within:g} s)" if within else ""))
    return verdict.seen


def _traffic(intent: Intent, lab: str, probe: Probe) -> Traffic:
    known = places.places(intent)
    sender = places.source(intent, known, probe.from_)
    there = places.target(intent, known, sender, probe.to, probe.protocol)
    return Traffic(lab, sender, there, probe.protocol, probe.port or 0)


def _do(told: _Told, lab: str, step: Step, verbs: Mapping[str, Verb]) -> str:
    name = next(verb for verb in VERBS if getattr(step, verb) is not None)
    told.changed = True
    begin = time.monotonic()
    with _listening_for_rarp(told.intent, lab, step) as missing:
        try:
            changed = verbs[name](getattr(step, name))
        except NetctlError as error:
            raise _Fell(str(error)) from None
        done = time.monotonic()
        told.intent = changed or told.intent
        silent = missing()
    seen = f"{done - begin:.2f} s"
    if silent:
        raise _Fell(f"no RARP was seen on {', '.join(silent)}")
    if step.max_outage is not None:
        seen += _outages(told, begin, done, step.max_outage)
    return seen


def _outages(told: _Told, begin: float, done: float, most: float) -> str:
    words = ""
    for traffic in told.traffic:
        flows = traffic.flowing(done, most + 1.0)
        outage = traffic.outage(begin, time.monotonic())
        if outage > most or not flows:
            why = traffic.broken or (
                f"stood still for {outage * 1e3:.0f} ms, not {most * 1e3:.0f} at the most"
            )
            raise _Fell(f"traffic {traffic.name} {why}")
        words += f"; {traffic.name} stood still for {outage * 1e3:.0f} ms"
    return words


@contextmanager
def _listening_for_rarp(intent: Intent, lab: str, step: Step) -> Iterator[Callable[[], list[str]]]:
    """Observers on the switches' ports; within, a function that tells the subnets still without a RARP."""
    if not step.rarp or step.migrate is None:
        yield list
        return
    vm, subnets = step.migrate.vm, intent.file.subnets
    waiting = {(subnets[port.subnet].vlan, bytes.fromhex(port.mac.replace(":", ""))): port.subnet
               for port in intent.ports if port.vm == vm and port.subnet in step.rarp}  # fmt: skip

    def note(sighting: Sighting) -> None:
        if sighting.packet.kind is Kind.RARP:
            waiting.pop((sighting.vlan, sighting.packet.payload), None)

    loop, sockets = Loop(), Sockets()
    try:
        ports = [point for point in places.points(intent) if point.role == "switch"]
        Watch(lab, ports, bytes(8), sockets, loop, note, asking=True)

        def missing() -> list[str]:
            loop.until(lambda: not waiting, _RARP_LATE)
            return sorted(waiting.values())

        yield missing
    finally:
        loop.close()
        sockets.close()


def _restore(told: _Told, verbs: Mapping[str, Verb]) -> None:
    if told.changed and "restore" in verbs:
        verbs["restore"](None)


def _name(step: Step) -> str:
    if step.check is not None:
        return f"check {step.check.from_} -> {step.check.to} {step.check.expect}"
    if step.traffic is not None:
        return f"traffic {step.traffic.from_} -> {step.traffic.to}"
    if step.migrate is not None:
        return f"migrate {step.migrate.vm} to {step.migrate.to}"
    if step.apply is not None:
        return "apply"
    return f"fail {step.fail}" if step.fail is not None else f"heal {step.heal}"
