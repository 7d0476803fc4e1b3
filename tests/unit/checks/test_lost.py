from __future__ import annotations

from typing import Any

import pytest

from dataplane.checks.lost import where
from dataplane.checks.packets import Kind
from netctl.model import Intent

from .conftest import Fly, See

OUT: dict[str, Any] = {"outgoing": True}


def tap(intent: Intent, nic: str) -> str:
    port = intent.port(nic)
    return f"{port.host} {port.tap}"


@pytest.mark.parametrize(
    ("passed", "expected"),
    [
        (0, "last seen leaving w1/0, not in at {a}"),
        (1, "last seen in at {a}, not out at hv1 eth0 or eth1"),
        (2, "last seen out at hv1 eth0, not in at tor1 hv1.eth0"),
        (3, "last seen in at tor1 hv1.eth0, not in at hv2 eth0 or eth1"),
        (4, "last seen out at tor1 tor2.0, not in at hv2 eth0 or eth1"),
        (5, "last seen in at tor2 tor1.0, not in at hv2 eth0 or eth1"),
        (6, "last seen in at hv2 eth1, not out at {b}"),
        (7, "last seen out at {b}, not in at w2/0"),
    ],
)
def test_between_two_hosts(intent: Intent, fly: Fly, see: See, passed: int, expected: str) -> None:
    a, b = tap(intent, "w1"), tap(intent, "w2")
    flight = fly("w1", "w2")
    way = [
        (a, {}),
        ("hv1 eth0", OUT),
        ("tor1 hv1.eth0", {}),
        ("tor1 tor2.0", OUT),
        ("tor2 tor1.0", {}),
        ("hv2 eth1", {}),
        (b, OUT),
    ]
    flight.waypoints = [see(flight, name, at, **more) for at, (name, more) in enumerate(way[:passed], 1)]
    assert where(intent, flight) == expected.format(a=a, b=b)


def test_on_one_host(intent: Intent, fly: Fly, see: See) -> None:
    flight = fly("w1", "w3")
    flight.waypoints = [see(flight, tap(intent, "w1"), 1)]
    assert where(intent, flight) == f"last seen in at {tap(intent, 'w1')}, not out at {tap(intent, 'w3')}"


def test_to_a_machine(intent: Intent, fly: Fly, see: See) -> None:
    flight = fly("r1", "server")
    flight.waypoints = [see(flight, "tor1 hv1.eth0", 1, tunnel=7)]
    assert where(intent, flight) == "last seen in at tor1 hv1.eth0 in Geneve 7, not out at tor1 server.eth0"


def test_the_answer(intent: Intent, fly: Fly, see: See) -> None:
    flight = fly("w1", "w2")
    flight.arrived = [see(flight, "w2/0", 1)]
    assert where(intent, flight) == "w2 did not answer"
    flight.replies = [see(flight, "w2/0", 1.1, Kind.ANSWER, outgoing=True)]
    flight.waypoints = [
        see(flight, "hv1 eth0", 0.5, outgoing=True),
        see(flight, "hv2 eth0", 1.2, Kind.ANSWER, outgoing=True),
    ]
    assert where(intent, flight) == "last seen answer out at hv2 eth0, not in at tor1 hv2.eth0"


def test_nothing_to_tell(intent: Intent, fly: Fly, see: See) -> None:
    assert where(intent, fly("w1", "w2", left=0)) == ""
    flight = fly("w1", "w2")
    flight.arrived = [see(flight, "w2/0", 1)]
    flight.answers = [see(flight, "w1/0", 2, Kind.ANSWER)]
    assert where(intent, flight) == ""
