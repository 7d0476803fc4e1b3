"""The matrix: who reaches whom, all ordered pairs of NICs at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dataplane.checks import places
from dataplane.checks.places import Place, Target
from dataplane.checks.session import Session
from dataplane.checks.verdict import judge
from netctl.model import Intent
from netctl.model.check import Probe


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether a packet from one NIC was delivered to another, its round trip, and what was seen."""

    source: str
    target: str
    delivered: bool
    rtt_ms: float | None
    seen: str


def matrix(
    intent: Intent,
    lab: str,
    protocol: Literal["icmp", "tcp", "udp"] = "icmp",
    port: int = 0,
    nodes: Sequence[str] | None = None,
) -> list[Reach]:
    """Try all ordered pairs of NICs of different nodes; delivered means what it means in a check.

    Args:
        intent: what the lab is to be.
        lab: the lab's name.
        protocol: what to send.
        port: where to, for tcp and udp.
        nodes: only between these VMs, NICs or machines; all of them when left out.

    Raises:
        InputError: an unknown node.
        ConflictError, ChangeError, MachineError: as run_checks.
    """
    with Session(intent, lab) as session:
        known = session.places
        chosen = [places.source(intent, known, node) for node in nodes] if nodes else list(known.values())
        pairs = [pair for pair in itertools.permutations(chosen, 2) if _can_talk(*pair)]
        flights = [
            session.flight(one, Target(other.name, other.ip, {other: None}), protocol, port)
            for one, other in pairs
            if other.ip is not None
        ]
        session.fly(flights)
    found = []
    for flight in flights:
        verdict = judge(_DELIVERED, [flight])
        rtt = flight.after(flight.answers[-1]) if verdict.passed else None
        found.append(Reach(flight.source.name, flight.target.label, verdict.passed, rtt, verdict.seen))
    return found


_DELIVERED = Probe()


def _can_talk(one: Place, other: Place) -> bool:
    """Two NICs of different nodes, both with an address."""
    return one.node != other.node and one.ip is not None and other.ip is not None
