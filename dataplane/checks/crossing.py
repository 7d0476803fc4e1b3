"""Which network functions a packet crossed: each exactly once, in order, and its answers in reverse. Pure.

A function has seen what came in at one of its NICs; what it sends is seen by the next one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from dataplane.checks.flight import Flight
from dataplane.checks.packets import TCP, UDP, Kind
from dataplane.checks.watch import Sighting
from netctl.model.check import Probe


def wrong_functions(probe: Probe, flight: Flight) -> list[str]:
    """What is wrong with the functions that were crossed, where they are stated."""
    if probe.through is None:
        return []
    there = [each for each in flight.waypoints if each.place.role == "function" and not each.outgoing]
    faults = []
    for kind, answer, sightings in _by_kind(flight, there):
        stated = probe.through[::-1] if answer else probe.through
        crossed = _order(sightings, stated)
        what = _what(flight, kind, answer)
        if crossed != stated:
            faults.append(f"{what}crossed {_list(crossed)} instead of {_list(stated)}")
            continue
        counts = Counter(_function(each) for each in sightings)
        often = len(flight.left) if not answer and kind is not Kind.DATA else max(counts.values(), default=0)
        wrong = [name for name in stated if counts[name] != often]
        faults += [f"{what}crossed {name} {_times(counts[name])}" for name in wrong[:1]]
    faults += _instances(there)
    return faults


def _by_kind(flight: Flight, there: Sequence[Sighting]) -> Iterator[tuple[Kind, bool, list[Sighting]]]:
    """The sightings of each kind of packet, each way; what was sent and was not seen is among it."""
    found: dict[tuple[Kind, bool], list[Sighting]] = {}
    for each in there:
        if each.packet.kind not in (Kind.ERROR, Kind.RESET):
            found.setdefault((each.packet.kind, not _asks(flight, each)), []).append(each)
    if flight.left:
        found.setdefault((Kind.SYN if flight.protocol == "tcp" else _REQUESTS[flight.protocol], False), [])
    for each in flight.answers if flight.protocol != "arp" else ():
        found.setdefault((each.packet.kind, True), [])
    for (kind, answer), sightings in found.items():
        yield kind, answer, sightings


_REQUESTS = {"icmp": Kind.REQUEST, "icmp6": Kind.REQUEST, "udp": Kind.REQUEST, "arp": Kind.ARP_REQUEST}


def _asks(flight: Flight, sighting: Sighting) -> bool:
    packet = sighting.packet
    if packet.protocol in (TCP, UDP):
        return packet.dport == flight.port or packet.dport in flight.target.servers.values()
    return packet.kind in (Kind.REQUEST, Kind.ARP_REQUEST)


def _order(sightings: Sequence[Sighting], stated: Sequence[str]) -> list[str]:
    """The functions in the order in which they first saw it.

    A tap's copy leaves together with the frame for the next inline function, or for the receiver: which of
    the two the kernel hands over first means nothing. So a tap may be where it is stated, unless it saw the
    frame before an inline function that is two places ahead of it.
    """
    first: dict[str, Sighting] = {}
    for each in sorted(sightings, key=lambda sighting: sighting.time):
        first.setdefault(_function(each), each)
    taps = {name for name, each in first.items() if not each.place.inline}
    inline = [name for name in first if name not in taps]
    if set(stated) != set(first) or [name for name in stated if name not in taps] != inline:
        return list(first)
    for name in taps:
        place = stated.index(name)
        before = [other for other in stated[:place] if other not in taps]
        after = [other for other in stated[place:] if other not in taps]
        if before and first[name].time < first[before[-1]].time:
            return list(first)
        if len(after) > 1 and first[name].time > first[after[1]].time:
            return list(first)
    return list(stated)


def _function(sighting: Sighting) -> str:
    return sighting.place.node.partition(".")[0]


def _instances(there: Sequence[Sighting]) -> list[str]:
    """A connection keeps the same instances, both ways."""
    hosts: dict[str, set[str]] = {}
    for each in there:
        hosts.setdefault(_function(each), set()).add(each.place.host or "")
    return [
        f"crossed {name} on {' and on '.join(sorted(found))}"
        for name, found in sorted(hosts.items())
        if len(found) > 1
    ]


def _what(flight: Flight, kind: Kind, answer: bool) -> str:
    if flight.protocol == "tcp":
        return f"{kind.value}{' back' if answer and kind is Kind.DATA else ''}: "
    return "its answer " if answer else ""


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "no function"


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")
