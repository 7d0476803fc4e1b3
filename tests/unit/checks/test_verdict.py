from __future__ import annotations

from typing import Any

import pytest

from dataplane.checks.flight import Flight
from dataplane.checks.packets import Kind
from dataplane.checks.places import Place
from dataplane.checks.verdict import Verdict, flooded, judge
from netctl.model.check import Probe

from .conftest import Fly, See


def verdict(expect: str, *flights: Flight, **demands: Any) -> Verdict:
    return judge(Probe(expect=expect, **demands), flights)  # type: ignore[arg-type]


def good(fly: Fly, see: See, **more: Any) -> Flight:
    flight = fly("w1", "w2", **more)
    flight.arrived = [see(flight, "w2/0", 0.4)]
    flight.answers = [see(flight, "w1/0", 0.9, Kind.ANSWER)]
    return flight


def test_delivered(fly: Fly, see: See) -> None:
    found = verdict("delivered", good(fly, see))
    assert found.passed
    assert found.seen == "arrived at w2/0 after 0.40 ms, answer back after 0.90 ms"
    assert [line.split(" ms ")[1] for line in found.evidence] == [
        "left w1/0",
        "arrived at w2/0",
        "answer back at w1/0",
    ]


def test_many(fly: Fly, see: See) -> None:
    later = good(fly, see)
    later.answers = [see(later, "w1/0", 1.5, Kind.ANSWER)]
    found = verdict("delivered", good(fly, see), later)
    assert found.seen == "2 of 2: arrived at w2/0 after 0.40 ms, answer back after 0.90 to 1.50 ms"
    later.arrived = []
    later.answers = []
    found = verdict("delivered", good(fly, see), later)
    assert not found.passed
    assert found.seen == "never arrived at w2/0 (1 of 2 packets)"


def break_it(what: str, flight: Flight, see: See) -> None:
    def strange(where: str, **more: Any) -> Any:
        return see(flight, where, 0.5, **more)

    match what:
        case "lost":
            flight.arrived, flight.answers = [], []
        case "twice":
            flight.arrived.append(strange("w2/0"))
        case "changed":
            flight.arrived = [strange("w2/0", payload=b"x")]
        case "stray":
            flight.arrived = [strange("w2/0", stray=True)]
        case "third":
            flight.elsewhere.append(strange("w3/0"))
        case "back":
            flight.elsewhere.append(strange("w1/0"))
        case "tagged":
            flight.arrived, flight.elsewhere = [], [strange("w2/0", vlan=20)]
        case "unanswered":
            flight.answers = []
        case "answered twice":
            flight.answers.append(strange("w1/0", kind=Kind.ANSWER))
        case "answered wrong":
            flight.answers = [strange("w1/0", kind=Kind.ANSWER, payload=b"x")]
        case "answered with a tag":
            flight.answers = [strange("w1/0", kind=Kind.ANSWER, vlan=20)]
        case "never left":
            flight.left, flight.arrived, flight.answers = [], [], []
            flight.trouble = "Network is unreachable"


FAULTS = {
    "lost": "never arrived at w2/0",
    "twice": "arrived twice at w2/0",
    "changed": "arrived changed at w2/0",
    "stray": "arrived at w2/0 addressed to another MAC",
    "third": "seen at w3/0, which it is not for",
    "back": "came back to its sender w1/0 as if sent by another",
    "tagged": "never arrived at w2/0",
    "unanswered": "arrived at w2/0, but no answer came back to w1/0",
    "answered twice": "arrived at w2/0, but its answer came back twice",
    "answered wrong": "arrived at w2/0, but its answer came back changed to w1/0",
    "answered with a tag": "arrived at w2/0, but its answer came back with VLAN 20",
    "never left": "never left w1/0: network is unreachable",
}


@pytest.mark.parametrize("what", FAULTS)
@pytest.mark.parametrize("protocol", ["icmp", "udp"])
def test_not_delivered(fly: Fly, see: See, what: str, protocol: str) -> None:
    flight = good(fly, see, protocol=protocol)
    break_it(what, flight, see)
    found = verdict("delivered", flight)
    assert not found.passed
    assert found.seen == FAULTS[what]


def test_tcp(fly: Fly, see: See) -> None:
    flight = fly("w1", "w2", "tcp")
    flight.arrived = [see(flight, "w2/0", 0.4, Kind.SYN)]
    flight.answers = [see(flight, "w1/0", 0.5, Kind.SYN_ACK), see(flight, "w1/0", 0.9, Kind.DATA)]
    assert not verdict("delivered", flight).passed  # nothing says that the payload is back
    flight.connected = True
    assert "its payload did not come back" in verdict("delivered", flight).seen
    flight.echoed = False
    assert "the payload came back changed" in verdict("delivered", flight).seen
    flight.echoed = True
    assert verdict("delivered", flight).passed
    flight.left = [0, 1_000_000_000]
    assert verdict("delivered", flight).seen.startswith(
        "2 were sent, since no answer came in time, 1 arrived"
    )


def test_dropped(fly: Fly, see: See) -> None:
    assert verdict("dropped", fly("w1", "w2")).passed
    silent = fly("w1", "w2", left=0)
    silent.trouble = "Network is unreachable"
    assert verdict("dropped", silent).passed
    refused = fly("w1", "w2")
    refused.errors = [see(refused, "w1/0", 1, Kind.RESET, source=0x0A0A000C)]
    assert verdict("dropped", refused).seen == "never arrived at w2/0; w1/0 was told: TCP RST from 10.10.0.12"


@pytest.mark.parametrize("expect", ["dropped", "rejected"])
def test_not_dropped(fly: Fly, see: See, expect: str) -> None:
    assert verdict(expect, good(fly, see)).seen == "arrived at w2/0 after 0.40 ms"
    leaked = fly("w1", "w2")
    leaked.elsewhere = [see(leaked, "w3/0", 1)]
    assert verdict(expect, leaked).seen == "seen at w3/0, which it is not for"
    nobodys = fly("w1", "10.10.0.99")
    nobodys.answers = [see(nobodys, "w1/0", 1, Kind.ANSWER)]
    assert verdict(expect, nobodys).seen == "was answered by 10.10.0.99"


def test_rejected(fly: Fly, see: See) -> None:
    flight = fly("w1", "w2")
    assert verdict("rejected", flight).seen == "never arrived at w2/0, and w1/0 was told nothing"
    flight.errors = [see(flight, "w1/0", 1, Kind.ERROR, error=(5, 1))]
    assert not verdict("rejected", flight).passed  # a redirect rejects nothing
    flight.errors = [see(flight, "w1/0", 1, Kind.ERROR, error=(3, 13))]
    assert verdict("rejected", flight).passed
    assert not verdict("rejected", fly("w1", "w2", left=0)).passed


def test_snat(fly: Fly, see: See) -> None:
    flight = good(fly, see)
    flight.arrived = [see(flight, "w2/0", 0.4, source=0xCB00713C)]
    assert verdict("delivered", flight, snat="203.0.113.60").passed
    found = verdict("delivered", flight, snat="203.0.113.61")
    assert found.seen == "arrived as from 203.0.113.60 instead of 203.0.113.61"


def test_on_uplink_and_via(fly: Fly, see: See) -> None:
    flight = good(fly, see)
    flight.waypoints = [
        see(flight, "tor2 tor1.0", 0.23),
        see(flight, "tor1 hv1.eth0", 0.2),
        see(flight, "hv1 eth0", 0.1, outgoing=True),
        see(flight, "tor1 tor2.0", 0.6, Kind.ANSWER),
    ]
    assert verdict("delivered", flight, on_uplink="eth0", via=["tor1", "tor2"]).passed
    assert "left hv1 on eth0 instead of eth1" in verdict("delivered", flight, on_uplink="eth1").seen
    assert "crossed tor1, tor2 instead of tor2" in verdict("delivered", flight, via=["tor2"]).seen
    flight.waypoints = []
    assert "left hv1 on no uplink instead of eth0" in verdict("delivered", flight, on_uplink="eth0").seen
    assert "crossed no switch instead of tor2" in verdict("delivered", flight, via=["tor2"]).seen
    assert verdict("delivered", flight, via=[]).passed


def test_via_a_gateway_host(fly: Fly, see: See) -> None:
    """A host in between counts where one is stated: it sends on what came in, unlike one that is flooded."""
    flight = good(fly, see)
    flight.waypoints = [
        see(flight, "hv1 eth0", 0.1, outgoing=True),
        see(flight, "tor1 hv1.eth0", 0.2),
        see(flight, "hv3 eth0", 0.3),
        see(flight, "hv3 eth0", 0.4, outgoing=True),
        see(flight, "tor1 hv3.eth0", 0.5),
        see(flight, "hv2 eth0", 0.6),
    ]
    assert verdict("delivered", flight, via=["tor1"]).passed
    assert verdict("delivered", flight, via=["tor1", "hv3"]).passed
    assert "crossed tor1, hv3 instead of tor1, hv2" in verdict("delivered", flight, via=["tor1", "hv2"]).seen


def test_arp(fly: Fly, see: See, known: dict[str, Place]) -> None:
    flight = fly("w1", "w2", "arp")
    right = known["w2/0"].mac
    flight.answers = [see(flight, "w1/0", 0.9, Kind.ARP_REPLY, payload=right)]
    assert verdict("delivered", flight).passed  # it need not arrive: a switch may answer
    assert not verdict("dropped", flight).passed
    flight.answers.append(see(flight, "w1/0", 0.9, Kind.ARP_REPLY, payload=bytes(6)))
    assert verdict("delivered", flight).seen.startswith("answered with 00:00:00:00:00:00, 50:6b:8d")


def test_flooded(fly: Fly, see: See) -> None:
    probe = Probe()
    flight = good(fly, see)
    assert not flooded(probe, [flight])
    flight.elsewhere = [see(flight, "w3/0", 1, stray=True)]
    assert flooded(probe, [flight])
    assert flooded(probe, [good(fly, see), flight])
    lost = fly("w1", "w2")
    assert not flooded(probe, [lost, flight]), "another fault is none that goes away by itself"
    flight.elsewhere.append(see(flight, "w3/0", 1))
    assert not flooded(probe, [flight])


def test_flooded_to_other_switches(fly: Fly, see: See) -> None:
    probe = Probe(via=["tor1"])
    flight = good(fly, see)
    flight.waypoints = [see(flight, "tor1 hv1.eth0", 0.1), see(flight, "tor1 hv2.eth0", 0.2, outgoing=True)]
    assert verdict("delivered", flight, via=["tor1"]).passed
    assert not flooded(probe, [flight])
    flight.waypoints += [see(flight, "tor1 tor2.0", 0.2, outgoing=True), see(flight, "tor2 tor1.0", 0.3)]
    assert "crossed tor1, tor2 instead of tor1" in verdict("delivered", flight, via=["tor1"]).seen
    assert flooded(probe, [flight])
    flight.arrived = []
    assert not flooded(probe, [flight])
    detour = good(fly, see)
    detour.waypoints = [
        see(detour, "tor1 hv1.eth0", 0.1),
        see(detour, "tor1 tor2.0", 0.2, outgoing=True),
        see(detour, "tor2 tor1.0", 0.3),
    ]
    assert not flooded(probe, [detour]), "it went one way, and that was the wrong one"


def test_that_it_never_left_is_told_once(fly: Fly) -> None:
    found = verdict("delivered", fly("w1", "w2", left=0))
    assert found.seen.startswith("never left w1/0: ") and found.evidence == ()
    assert verdict("dropped", fly("w1", "w2", left=0)).evidence == ()
