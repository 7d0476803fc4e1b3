"""The way of packets as a file: they are sent once more while every point of a lab is captured.

points armed -> sender armed -> one packet of each probe -> fence -> file closed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dataplane.capture.observe import Capture
from dataplane.capture.points import usual
from dataplane.capture.recording import Recording
from dataplane.checks import bpf
from dataplane.checks.flight import Flight
from dataplane.checks.packets import MARK_LENGTH, RUN_LENGTH
from dataplane.checks.run import QUICK, flights_of
from dataplane.checks.session import Session
from netctl.errors import NetctlError
from netctl.model import Intent
from netctl.model.check import Probe

MOST_PROBES = 20
"""Probes that are sent once more: each of them may have to be waited for."""

MOST_FRAMES = 20_000

_FENCES = 1 << 31
"""Marks from this number on are those of fences (dataplane.checks.fence): no packet of a probe."""


@dataclass
class Sent:
    """What became of it: frames in the file, and what went wrong, in words."""

    frames: int = 0
    trouble: list[str] = field(default_factory=list)


def send_again(intent: Intent, lab: str, probes: Sequence[Probe], file: Path) -> Sent:
    """Send one packet of each probe while all usual points are captured into a file.

    The file holds what carries the probes' marks, and ARP. It is there in any case but when nothing could be
    captured at all.

    Args:
        intent: what the lab is to be.
        lab: its name.
        probes: what to send; after MOST_PROBES no more are.
        file: the pcapng file to write.
    """
    sent = Sent()
    if len(probes) > MOST_PROBES:
        sent.trouble.append(f"{len(probes) - MOST_PROBES} of {len(probes)} packets were not sent again")
    probes = [probe.model_copy(update={"count": 1}) for probe in probes[:MOST_PROBES]]
    short = any(probe.size is not None and probe.size < MARK_LENGTH for probe in probes)
    session = Session(intent, lab, short=short, tagged=any(probe.vlan is not None for probe in probes))
    capture = Capture(
        lab,
        usual(intent),
        program=bpf.marked(session.run, short=short, asking=True, tunnels=True),
        accepts=lambda frame: not _of_a_fence(frame, session.run),
    )
    try:
        with Recording(capture, file, MOST_FRAMES) as recording:
            _send(session, probes, sent)
    except (NetctlError, OSError) as error:
        sent.trouble.append(_words(error))
        return sent
    sent.frames = recording.count
    if recording.error:
        sent.trouble.append(_words(recording.error))
    sent.trouble += [f"no point of {node} was captured: it is not there" for node in capture.absent]
    sent.trouble += [
        f"the kernel had no room for {count} frames at {node}" for node, count in capture.lost.items()
    ]
    return sent


def _send(session: Session, probes: Sequence[Probe], sent: Sent) -> None:
    try:
        with session:
            flights: list[Flight] = []
            for probe in probes:
                try:
                    flights += flights_of(session, probe)
                except NetctlError as error:
                    sent.trouble.append(f"{probe.from_} to {probe.to}: {_words(error)}")
            session.fly(flights, patience=QUICK)
            sent.trouble += [
                f"no packet left {flight.source.name} for {flight.target.label}: {flight.trouble}"
                for flight in flights
                if flight.trouble and not flight.left
            ]
    except (NetctlError, OSError) as error:
        sent.trouble.append(_words(error))


def _of_a_fence(frame: bytes, run: bytes) -> bool:
    at = frame.find(run)
    number = frame[at + RUN_LENGTH : at + MARK_LENGTH] if at >= 0 else b""
    return len(number) == MARK_LENGTH - RUN_LENGTH and int.from_bytes(number) >= _FENCES


def _words(error: Exception) -> str:
    if isinstance(error, NetctlError):
        return error.message
    return getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
