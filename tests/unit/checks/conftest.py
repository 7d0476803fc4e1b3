"""A lab and flights that tests make up, without a packet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dataplane.checks import packets, places
from dataplane.checks.flight import Flight
from dataplane.checks.packets import Kind, Packet
from dataplane.checks.places import Place
from dataplane.checks.watch import Sighting
from netctl import intent as intents
from netctl.model import Intent

LABS = Path(__file__).parent


@pytest.fixture(scope="session")
def intent() -> Intent:
    return intents.load(LABS / "lab.yaml", supported_only=False)


@pytest.fixture
def known(intent: Intent) -> dict[str, Place]:
    return places.places(intent)


@pytest.fixture
def points(intent: Intent) -> dict[str, Place]:
    return {place.name: place for place in places.points(intent)}


Fly = Callable[..., Flight]
See = Callable[..., Sighting]


@pytest.fixture
def fly(intent: Intent, known: dict[str, Place]) -> Fly:
    """A flight that has left at time 0, unless `left` says otherwise."""

    def made(source: str, target: str, protocol: str = "icmp", *, left: int = 1, **more: Any) -> Flight:
        sender = places.source(intent, known, source)
        there = places.target(intent, known, sender, target)
        flight = Flight(1, sender, there, protocol, 80, packets.payload(bytes(8), 1, 56), **more)
        flight.left = [0] * left
        return flight

    return made


@pytest.fixture
def see(known: dict[str, Place], points: dict[str, Place]) -> See:
    """A sighting of a flight's packet, `ms` milliseconds after it left."""

    def made(flight: Flight, where: str, ms: float, kind: Kind = Kind.REQUEST, **more: Any) -> Sighting:
        place = known.get(where) or points[where]
        packet = Packet(
            kind, more.pop("source", 1), 2, 1, 5, 6, 1, payload=more.pop("payload", flight.payload)
        )
        outgoing, vlan = more.pop("outgoing", False), more.pop("vlan", None)
        stray = more.pop("stray", False)
        return Sighting(place, int(ms * 1e6), outgoing, vlan, stray, packet._replace(**more))

    return made
