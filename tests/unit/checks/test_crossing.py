"""`through:` - which functions a packet crossed, judged from sightings alone."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from dataplane.checks.crossing import wrong_functions
from dataplane.checks.flight import Flight
from dataplane.checks.packets import ICMP, Kind, Packet
from dataplane.checks.places import Place, Target
from dataplane.checks.watch import Sighting
from netctl.model.check import Probe

TAPS = "t"


def place(word: str) -> Place:
    """`a2`: the function a on hv2; those that begin with t are taps."""
    name, host = word[0], f"hv{word[1:] or 1}"
    return Place(f"{name}.{host} in", f"{name}.{host}", "in", "function", host=host, inline=name not in TAPS)


def flight(there: str, back: str, sent: int = 1) -> Flight:
    """A ping that was seen at these functions one after the other, and its answer at those."""
    nic = Place("w1/0", "w1", "eth0")
    made = Flight(1, nic, Target("w2/0", IPv4Address("10.0.0.2"), {Place("w2/0", "w2", "eth0"): None}))
    made.left = list(range(sent))
    time = 10
    for kind, words in ((Kind.REQUEST, there), (Kind.ANSWER, back)):
        packet = Packet(kind, 1, 2, ICMP)
        for word in words.split():
            time += 10
            made.waypoints.append(Sighting(place(word), time, False, None, False, packet))
            made.waypoints.append(Sighting(place(word), time + 1, True, None, False, packet))
        if words or kind is Kind.ANSWER:
            seen = Sighting(nic, time + 5, False, None, False, packet)
            (made.answers if kind is Kind.ANSWER else made.arrived).append(seen)
    return made


def judged(there: str, back: str, through: str, sent: int = 1) -> list[str]:
    return wrong_functions(Probe(through=list(through)), flight(there, back, sent))


@pytest.mark.parametrize(
    ("there", "back", "through"),
    [
        ("a b c", "c b a", "abc"),
        ("", "", ""),
        ("t a b", "b a t", "tab"),
        ("a t b", "b a t", "tab"),  # its copy leaves together with the frame for a
        ("a b t", "t b a", "abt"),
        ("a2 b2", "b2 a2", "ab"),
    ],
)
def test_as_stated(there: str, back: str, through: str) -> None:
    assert judged(there, back, through) == []


@pytest.mark.parametrize(
    ("there", "back", "through", "words"),
    [
        ("b a", "b a", "ab", "crossed b, a instead of a, b"),
        ("a b", "a b", "ab", "its answer crossed a, b instead of b, a"),
        ("a", "b a", "ab", "crossed a instead of a, b"),
        ("a b", "b", "ab", "its answer crossed b instead of b, a"),
        ("a", "a", "", "crossed a instead of no function"),
        ("", "", "a", "crossed no function instead of a"),
        ("a a b", "b a", "ab", "crossed a twice"),
        ("a b c t", "t c b a", "tabc", "crossed a, b, c, t instead of t, a, b, c"),
        ("t a b", "b a t", "abt", "crossed t, a, b instead of a, b, t"),
        ("a b2", "b2 a", "ab", None),
        ("a", "a2", "a", "crossed a on hv1 and on hv2"),
    ],
)
def test_not_as_stated(there: str, back: str, through: str, words: str | None) -> None:
    found = judged(there, back, through)
    assert (found[:1] == [words]) if words else found == []


def test_nothing_is_stated() -> None:
    assert wrong_functions(Probe(), flight("a", "a")) == []
