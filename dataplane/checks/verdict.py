"""Verdicts: from what was stated and what was seen to passed or failed, in words. Pure.

- delivered: the packet arrived at the NIC that it was meant for, as it was sent, as often as it was sent, at
  no other VM or machine, and its answer came back the same way.
- dropped: it arrived neither there nor at any other VM or machine. What its sender was told does not matter.
- rejected: as dropped, and the sender got a TCP RST or an ICMP error about it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from dataplane.checks.crossing import wrong_functions
from dataplane.checks.flight import Flight
from dataplane.checks.packets import TCP, Kind, Packet
from dataplane.checks.watch import Sighting
from netctl.model.check import Probe

_ICMP_WORDS = {
    (3, 0): "network unreachable",
    (3, 1): "host unreachable",
    (3, 2): "protocol unreachable",
    (3, 3): "port unreachable",
    (3, 4): "fragmentation needed",
    (3, 9): "network prohibited",
    (3, 10): "host prohibited",
    (3, 13): "prohibited",
    (5, 0): "redirect",
    (5, 1): "redirect",
    (11, 0): "time to live exceeded",
    (11, 1): "fragment reassembly time exceeded",
}
"""ICMP errors by type and code (IANA, ICMP parameters)."""

_ICMP6_WORDS = {
    (1, 0): "no route",
    (1, 1): "prohibited",
    (1, 3): "address unreachable",
    (1, 4): "port unreachable",
    (1, 5): "source address prohibited",
    (1, 6): "route rejected",
    (2, 0): "packet too big",
    (3, 0): "hop limit exceeded",
    (3, 1): "fragment reassembly time exceeded",
    (137, 0): "redirect",
}
"""ICMPv6 errors by type and code (IANA, ICMPv6 parameters)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether it held, in one line what was seen, and line by line what that rests on."""

    passed: bool
    seen: str
    evidence: tuple[str, ...]


def judge(probe: Probe, flights: Sequence[Flight]) -> Verdict:
    """The verdict over all flights of one probe."""
    faults = {flight.number: _faults(probe, flight) for flight in flights}
    wrong = [found for found in faults.values() if found]
    if wrong:
        many = f" ({len(wrong)} of {len(flights)} packets)" if len(flights) > 1 else ""
        seen = wrong[0][0] + many
    else:
        seen = _summary(probe.expect, flights)
    told = (line for flight in flights[:_MOST_EVIDENCE] for line in _story(flight))
    # That it never left is all there is to tell of a packet, and `seen` may have told it.
    return Verdict(not wrong, seen, tuple(line for line in told if line not in seen))


def _faults(probe: Probe, flight: Flight) -> list[str]:
    return (
        _EXPECTED[probe.expect](flight)
        + _wrong_source(probe, flight)
        + _wrong_way(probe, flight)
        + wrong_functions(probe, flight)
    )


def _wrong_source(probe: Probe, flight: Flight) -> list[str]:
    """Who the receiver takes the packet to be from, where that is stated."""
    seen = {_source(each.packet) for each in flight.arrived}
    if probe.snat is None or seen <= {probe.snat}:
        return []
    return [f"arrived as from {', '.join(sorted(map(str, seen)))} instead of {probe.snat}"]


def _wrong_way(probe: Probe, flight: Flight) -> list[str]:
    """Which uplink it left on and which switches it crossed, where that is stated."""
    faults = []
    there = [each for each in flight.waypoints if flight.is_request(each.packet)]
    if probe.on_uplink is not None:
        host = flight.source.host
        used = [
            e.place.device for e in there if e.place.role == "uplink" and e.place.host == host and e.outgoing
        ]
        if set(used) != {probe.on_uplink}:
            ways = ", ".join(dict.fromkeys(used)) or "no uplink"
            faults.append(f"left {host or flight.source.name} on {ways} instead of {probe.on_uplink}")
    if probe.via is not None:
        crossed = _crossed(flight, there, probe.via)
        if crossed != probe.via:
            faults.append(f"crossed {', '.join(crossed) or 'no switch'} instead of {', '.join(probe.via)}")
    return faults


def _crossed(flight: Flight, there: Sequence[Sighting], stated: Sequence[str]) -> list[str]:
    """The switches in the order in which it came to them; also hosts in between, where any is stated."""
    came: dict[str, int] = {}
    switches: set[str] = set()
    forwarded: set[str] = set()
    for each in there:
        node = each.place.node
        if each.place.role == "switch":
            switches.add(node)
        elif each.outgoing and each.place.role == "uplink":
            forwarded.add(node)
        if not each.outgoing and each.place.role in ("switch", "uplink"):
            came[node] = min(each.time, came.get(node, each.time))
    forwarded.discard(flight.source.host or "")
    names = switches | forwarded if set(stated) - switches else switches
    return sorted(names & came.keys(), key=lambda node: came[node])


_MOST_EVIDENCE = 20


def flooded(probe: Probe, flights: Sequence[Flight]) -> bool:
    """Whether all that is wrong may be that a switch did not know the receiver's MAC address (yet).

    Then it floods the frame to its other ports, rightly (IEEE 802.1Q, 8.8): NICs that it is not for see it,
    and switches that are not on its way. Once the receiver has answered, this must not happen again.
    """
    copies = False
    for flight in flights:
        for_us = [each for each in flight.elsewhere if not _flooded_to(flight, each)]
        if _wrong_way(probe, flight):
            if not _forks(flight):
                return False
            copies = True
        copies |= len(for_us) < len(flight.elsewhere)
        bare = replace(flight, elsewhere=for_us)
        if _EXPECTED[probe.expect](bare) or _wrong_source(probe, bare):
            return False
    return copies


def _flooded_to(flight: Flight, sighting: Sighting) -> bool:
    """A NIC saw it whose node does not take it; also the sender's, where a router beside it sent it on."""
    place = sighting.place
    apart = place is not flight.source or any(each.place.forwards for each in flight.waypoints)
    return sighting.stray and apart and place not in flight.target.servers


def _forks(flight: Flight) -> bool:
    """Whether a host or switch put it out at more than one port."""
    ways: dict[str, set[str]] = {}
    for each in flight.waypoints:
        if each.outgoing and flight.is_request(each.packet):
            ways.setdefault(each.place.node, set()).add(each.place.device)
    return any(len(devices) > 1 for devices in ways.values())


def _not_delivered(flight: Flight) -> list[str]:
    if not flight.left:
        return [_never_left(flight)]
    faults = []
    if flight.target.servers and flight.protocol != "arp":  # a switch may answer ARP for the receiver
        if not flight.arrived:
            told = f"; {flight.source.name} was told: {_told(flight)}" if flight.errors else ""
            faults.append(f"never arrived at {flight.target.label}{told}")
        elif len(flight.arrived) < len(flight.left):
            faults.append(
                f"{len(flight.left)} were sent, since no answer came in time, "
                f"{len(flight.arrived)} arrived at {_where(flight.arrived)}"
            )
        elif len(flight.arrived) > len(flight.left):
            faults.append(f"arrived {_times(len(flight.arrived))} at {_where(flight.arrived)}")
        faults += _changed(flight, flight.arrived, "arrived changed at")
        strays = [each for each in flight.arrived if each.stray]
        if strays:
            faults.append(f"arrived at {_where(strays)} addressed to another MAC")
    faults += _elsewhere(flight)
    if not faults:
        faults += _not_answered(flight)
    return faults


def _not_answered(flight: Flight) -> list[str]:
    """What is wrong with the answer."""
    arrived = f"arrived at {_where(flight.arrived)}, but " if flight.arrived else ""
    if not flight.answered:
        if flight.foreign and flight.protocol == "udp" and flight.arrived:
            return []  # the guest's own server: it need not answer
        left = f" (it left {_where(flight.replies)})" if flight.replies else ""
        told = f"; {flight.source.name} was told: {_told(flight)}" if flight.errors else ""
        if flight.connected:
            return [f"{arrived}the connection opened and its payload did not come back{left}{told}"]
        return [f"{arrived}no answer came back to {flight.source.name}{left}{told}"]
    if flight.protocol == "tcp":
        if flight.echoed is False:
            return [f"{arrived}the payload came back changed"]
        return []
    if flight.protocol == "arp":
        return _wrong_owner(flight)
    if any(each.vlan != flight.vlan for each in flight.answers):
        return [f"{arrived}its answer came back{_tag(flight.answers[0]) or ' without a tag'}"]
    if len(flight.answers) > len(flight.left):
        return [f"{arrived}its answer came back {_times(len(flight.answers))}"]
    if flight.foreign:
        return []
    return [arrived + fault for fault in _changed(flight, flight.answers, "its answer came back changed to")]


def _wrong_owner(flight: Flight) -> list[str]:
    """ARP must name the receiver's MAC address and no other; for one beyond the intent, always the same."""
    told = {each.packet.payload for each in flight.answers}
    if len(told) == 1 and (
        not flight.target.servers or told == {place.mac for place in flight.target.servers}
    ):
        return []
    return [f"answered with {', '.join(sorted(mac.hex(':') for mac in told))}"]


def _not_dropped(flight: Flight) -> list[str]:
    faults = []
    if flight.arrived:
        faults.append(f"arrived at {_where(flight.arrived)} after {_ms(flight.after(flight.arrived[0]))} ms")
    elif flight.answered or (flight.answers and (not flight.target.servers or flight.protocol == "arp")):
        faults.append(f"was answered by {flight.target.label}")
    return faults + _elsewhere(flight)


def _not_rejected(flight: Flight) -> list[str]:
    faults = _not_dropped(flight)
    if not faults and not flight.left:
        return [_never_left(flight)]
    if not faults and not flight.refused:
        faults.append(f"never arrived at {flight.target.label}, and {flight.source.name} was told nothing")
    return faults


_EXPECTED: dict[str, Callable[[Flight], list[str]]] = {
    "delivered": _not_delivered,
    "dropped": _not_dropped,
    "rejected": _not_rejected,
}


def _never_left(flight: Flight) -> str:
    reason = flight.trouble or f"nobody told {flight.source.node} the MAC address for {flight.target.address}"
    return f"never left {flight.source.name}: {reason[0].lower()}{reason[1:]}"


def _changed(flight: Flight, sightings: Sequence[Sighting], words: str) -> list[str]:
    if flight.protocol == "tcp":
        return []
    wrong = [each for each in sightings if each.packet.payload != flight.payload]
    return [f"{words} {_where(wrong)}"] if wrong else []


def _elsewhere(flight: Flight) -> list[str]:
    """Where it was seen and should not have been."""
    if not flight.elsewhere:
        return []
    own = [each for each in flight.elsewhere if each.place is flight.source]
    if own:
        return [f"came back to its sender {flight.source.name} as if sent by another"]
    tagged = [
        each for each in flight.elsewhere if each.place in flight.target.servers and each.vlan is not None
    ]
    if tagged:
        return [f"came to {_where(tagged)} with the tag of VLAN {tagged[0].vlan}"]
    if not flight.target.servers and flight.answered:
        return []  # an address that is nobody's by the intent: who answered may well be one of these
    return [f"seen at {_where(flight.elsewhere)}, which it is not for"]


def _summary(expect: str, flights: Sequence[Flight]) -> str:
    first = flights[0]
    if expect == "delivered":
        words = []
        if first.arrived:
            words.append(f"arrived at {_where(first.arrived)} after {_range(flights, lambda f: f.arrived)}")
        if first.answers:
            what = "payload back" if first.protocol == "tcp" and not first.foreign else "answer back"
            words.append(f"{what} after {_range(flights, lambda f: f.answers)}")
        elif first.foreign:
            words.append("taken by the guest's own server")
        text = ", ".join(words)
        return text if len(flights) == 1 else f"{len(flights)} of {len(flights)}: {text}"
    text = f"never arrived at {first.target.label}"
    if not first.left:
        return f"{text}: {_never_left(first)}"
    if first.crafted:
        text += f" (put on the wire past the stack of {first.source.node})"
    if first.errors:
        text += f"; {first.source.name} was told: {_told(first)}"
    return text if len(flights) == 1 else f"{len(flights)} of {len(flights)}: {text}"


def _story(flight: Flight) -> list[str]:
    """Everything that was seen of a flight, in the order of time."""
    events = [(time, f"left {flight.source.name}") for time in flight.left]
    for words, sightings in (
        ("arrived at", flight.arrived),
        ("answer left", flight.replies),
        ("answer back at", flight.answers),
        ("seen at", flight.elsewhere),
    ):
        events += [(each.time, f"{_kind(each)}{words} {each.place.name}{_tag(each)}") for each in sightings]
    events += [(each.time, f"{_error(each)} at {each.place.name}") for each in flight.errors]
    events += [(each.time, f"{_kind(each)}{passing(flight, each)}") for each in flight.waypoints]
    if not events:
        return [_never_left(flight)]
    start = flight.left[0] if flight.left else min(events)[0]
    return [f"{(time - start) / 1e6:+9.3f} ms {words}" for time, words in sorted(events)]


def passing(flight: Flight, sighting: Sighting) -> str:
    """A sighting at a point in between, in words."""
    packet = sighting.packet
    what = "" if flight.is_request(packet) else "answer "
    if packet.kind in (Kind.ERROR, Kind.RESET):
        what = f"{_error(sighting)} "
    way = "out at" if sighting.outgoing else "in at"
    tunnel = f" in Geneve {packet.tunnel}" if packet.tunnel >= 0 else ""
    return f"{what}{way} {sighting.place.name}{_tag(sighting)}{tunnel}"


def _kind(sighting: Sighting) -> str:
    """TCP's packets by their names; of other protocols there is only the one."""
    return f"{sighting.packet.kind.value}: " if sighting.packet.protocol == TCP else ""


def _tag(sighting: Sighting) -> str:
    return "" if sighting.vlan is None else f" with VLAN {sighting.vlan}"


def _told(flight: Flight) -> str:
    return _error(flight.errors[0])


def _error(sighting: Sighting) -> str:
    packet = sighting.packet
    words = _ICMP_WORDS if packet.version == 4 else _ICMP6_WORDS
    what = "TCP RST" if packet.kind is Kind.RESET else words.get(packet.error, f"ICMP error {packet.error}")
    return f"{what} from {_source(packet)}"


def _source(packet: Packet) -> IPv4Address | IPv6Address:
    return IPv4Address(packet.source) if packet.version == 4 else IPv6Address(packet.source)


def _where(sightings: Sequence[Sighting]) -> str:
    return ", ".join(dict.fromkeys(each.place.name for each in sightings))


def _times(count: int) -> str:
    return "twice" if count == 2 else f"{count} times"


def _ms(time: float) -> str:
    return f"{time:.2f}" if time < 10 else f"{time:.0f}"


def _range(flights: Sequence[Flight], which: Callable[[Flight], list[Sighting]]) -> str:
    times = [flight.after(which(flight)[-1]) for flight in flights if which(flight)]
    low, high = _ms(min(times)), _ms(max(times))
    return f"{low} ms" if low == high else f"{low} to {high} ms"
