"""The matrix: who reaches whom, all ordered pairs of NICs at once."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dataplane.checks import places
from dataplane.checks.places import Place, Target
from dataplane.checks.session import Session
from dataplane.checks.verdict import judge
from netctl.model import Intent, collector
from netctl.model.check import Probe


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether a packet from one NIC was delivered to another, its round trip, and what was seen.

    `delivered` is None where none was sent; `seen` says why.
    """

    source: str
    target: str
    delivered: bool | None
    rtt_ms: float | None
    seen: str

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "from": self.source,
            "to": self.target,
            "delivered": self.delivered,
            "rtt_ms": None if self.rtt_ms is None else round(self.rtt_ms, 3),
            "seen": self.seen,
        }


def matrix(
    intent: Intent,
    lab: str,
    protocol: Literal["icmp", "icmp6", "tcp", "udp"] = "icmp",
    port: int = 0,
    nodes: Sequence[str] | None = None,
) -> list[Reach]:
    """Try all ordered pairs of NICs of different nodes; delivered means what it means in a check.

    Args:
        intent: what the lab is to be.
        lab: the lab's name.
        protocol: what to send.
        port: where to, for tcp and udp.
        nodes: only between these VMs (all of their NICs), NICs or machines; all of them when left out.

    Returns:
        All ordered pairs of two NICs, in the order of the names given or of the intent.

    Raises:
        InputError: an unknown node.
        ConflictError, ChangeError, MachineError: as run_checks.
    """
    with collector.paused():
        return _tried(intent, lab, protocol, port, nodes)


def _tried(intent: Intent, lab: str, protocol: str, port: int, nodes: Sequence[str] | None) -> list[Reach]:
    with Session(intent, lab) as session:
        chosen = _chosen(intent, session.places, nodes)
        flights = {
            (one, other): session.flight(one, Target(other.name, address, {other: None}), protocol, port)
            for one, other in itertools.permutations(chosen, 2)
            if (address := other.address(places.family(one, other, protocol))) is not None
            and not _obstacle(one, other, protocol)
        }
        session.fly(list(flights.values()))
    found = []
    for pair in itertools.permutations(chosen, 2):
        one, other = pair
        if pair not in flights:
            found.append(Reach(one.name, other.name, None, None, _obstacle(one, other, protocol)))
            continue
        flight = flights[pair]
        verdict = judge(_DELIVERED, [flight])
        answers = flight.answers if verdict.passed else []
        rtt = flight.after(answers[-1]) if answers else None
        found.append(Reach(one.name, other.name, verdict.passed, rtt, verdict.seen))
    return found


_DELIVERED = Probe()


def _chosen(intent: Intent, known: Mapping[str, Place], nodes: Sequence[str] | None) -> list[Place]:
    """The NICs of these words, once each."""
    if not nodes:
        return list(known.values())
    chosen: dict[Place, None] = {}
    for word in nodes:
        named = [place for place in known.values() if place.node == word]
        chosen.update(dict.fromkeys(named or [places.source(intent, known, word)]))
    return list(chosen)


def _obstacle(one: Place, other: Place, protocol: str) -> str:
    """Why nothing can be sent from one to the other; "" where it can."""
    if one.node == other.node:
        return f"both are NICs of {one.node}"
    version = places.family(one, other, protocol)
    for place in (one, other):
        if place.address(version) is None:
            return f"{place.name} has no IPv{version} address that netctl knows"
    return ""
