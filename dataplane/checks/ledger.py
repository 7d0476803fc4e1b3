"""The ledger: whose packet is it, and what does it mean that it was seen there?"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from dataplane.checks.flight import Flight
from dataplane.checks.packets import ICMP, ICMP6, TCP, UDP, Kind, Packet
from dataplane.checks.watch import Sighting

_ARP = (Kind.ARP_REQUEST, Kind.ARP_REPLY, Kind.RARP)

_NOBODYS = 100_000
"""SYNs kept whose flight is not known yet (a guest's own connections are among them)."""


class Ledger:
    """Gives sightings to flights. Sightings of a NIC must come in the order that the NIC saw them."""

    def __init__(self, fences: Callable[[Sighting], None]) -> None:
        self._fences = fences
        self._by_number: dict[int, Flight] = {}
        self._by_isn: dict[int, Flight] = {}
        self._by_ports: dict[tuple[str, int, int], Flight] = {}
        self._by_echo: dict[tuple[int, int], Flight] = {}
        self._by_question: dict[tuple[str, int], list[Flight]] = {}
        self._unclaimed: deque[Sighting] = deque(maxlen=_NOBODYS)

    def enter(self, flight: Flight) -> None:
        """Expect a flight."""
        self._by_number[flight.number] = flight

    def enter_echo(self, flight: Flight, identifier: int, sequence: int) -> None:
        """The flight is the ICMP echo request with this id and sequence number."""
        self._by_echo[identifier, sequence] = flight

    def enter_port(self, flight: Flight, protocol: int, port: int) -> None:
        """The flight leaves from this port of its sender."""
        flight.local_port = port
        self._by_ports[flight.source.name, protocol, port] = flight

    def enter_question(self, flight: Flight) -> None:
        """The flight is an ARP request for its target's address."""
        key = (flight.source.name, int(flight.target.address))
        self._by_question.setdefault(key, []).append(flight)

    def enter_isn(self, flight: Flight, isn: int) -> None:
        """The flight is the TCP connection with this initial sequence number."""
        flight.isn = isn
        self._by_isn[isn] = flight
        claimed = [each for each in self._unclaimed if each.packet.isn == isn]
        for sighting in claimed:
            self._unclaimed.remove(sighting)
            _sort(flight, sighting)

    def note(self, sighting: Sighting) -> None:
        """File a sighting."""
        kind = sighting.packet.kind
        if kind in _ARP:
            self._fences(sighting)
        flight = self._whose(sighting)
        if flight is not None:
            _sort(flight, sighting)
        elif kind in (Kind.SYN, Kind.SYN_ACK):
            self._unclaimed.append(sighting)

    def _whose(self, sighting: Sighting) -> Flight | None:
        packet, place = sighting.packet, sighting.place.name
        if packet.number >= 0:
            return self._by_number.get(packet.number)
        if packet.kind in _ARP:
            return self._asked(sighting)
        if packet.kind is Kind.SYN and sighting.outgoing:
            # The sender's own SYN: this is where its initial sequence number is learnt.
            flight = self._by_ports.get((place, TCP, packet.sport))
            if flight is not None and flight.isn < 0:
                self.enter_isn(flight, packet.isn)
        if packet.kind in (Kind.SYN, Kind.SYN_ACK):
            return self._by_isn.get(packet.isn)
        if sighting.outgoing and packet.kind in (Kind.RESET, Kind.ERROR):
            return None
        if packet.kind is Kind.RESET:
            return self._by_ports.get((place, TCP, packet.dport))
        if packet.kind is Kind.ERROR:
            return self._quoted(place, packet.inner) if packet.inner else None
        if packet.protocol in (ICMP, ICMP6):
            return self._by_echo.get((packet.sport, packet.dport))
        if packet.protocol == UDP:
            # Too short for a mark: known by the port that it left from, which no other flight has.
            for flight in self._by_number.values():
                if flight.protocol == "udp" and flight.local_port in (packet.sport, packet.dport):
                    return flight
        return None

    def _asked(self, sighting: Sighting) -> Flight | None:
        """The ARP request that this is the answer to: the first that has none yet.

        When all have one, this is the answer to somebody else's request (the fence's, the guest's own), of
        interest only if it says something else.
        """
        if sighting.packet.kind is not Kind.ARP_REPLY or sighting.outgoing:
            return None
        asked = self._by_question.get((sighting.place.name, sighting.packet.source))
        if not asked:
            return None
        known = {each.packet.payload for flight in asked for each in flight.answers}
        another = None if sighting.packet.payload in known else asked[-1]
        return next((flight for flight in asked if not flight.answers), another)

    def _quoted(self, place: str, quoted: Packet) -> Flight | None:
        if quoted.number >= 0:
            return self._by_number.get(quoted.number)
        if quoted.protocol in (ICMP, ICMP6):
            return self._by_echo.get((quoted.sport, quoted.dport))
        return self._by_ports.get((place, quoted.protocol, quoted.sport))


def _sort(flight: Flight, sighting: Sighting) -> None:
    """File a sighting of a flight by what it means at that NIC and in that direction."""
    packet, place = sighting.packet, sighting.place
    if place.role != "nic":
        flight.waypoints.append(sighting)
    elif packet.kind in (Kind.ERROR, Kind.RESET):
        if place is flight.source:
            flight.errors.append(sighting)
    elif place is flight.source:
        _sort_at_source(flight, sighting)
    elif place in flight.target.servers:
        if sighting.outgoing:
            flight.replies.append(sighting)
        elif packet.kind in (Kind.REQUEST, Kind.SYN, Kind.ARP_REQUEST):
            tagged_at_access = sighting.vlan is not None and not place.trunk
            (flight.elsewhere if tagged_at_access else flight.arrived).append(sighting)
        elif packet.kind is not Kind.DATA:
            flight.elsewhere.append(sighting)
    elif place.forwards and not sighting.stray:
        flight.waypoints.append(sighting)
    elif not sighting.outgoing and not _flooded_rightly(flight, sighting):
        flight.elsewhere.append(sighting)


def _flooded_rightly(flight: Flight, sighting: Sighting) -> bool:
    """A broadcast on its segment, or a crafted frame for a MAC address that the segment need not know."""
    if sighting.packet.kind is Kind.ARP_REQUEST:
        return sighting.place.segment == flight.segment
    return flight.crafted and sighting.stray


def _sort_at_source(flight: Flight, sighting: Sighting) -> None:
    packet, chosen = sighting.packet, sighting.place in flight.target.servers
    if sighting.outgoing:
        if packet.kind in (Kind.REQUEST, Kind.SYN):
            flight.left.append(sighting.time)
        elif chosen:
            flight.replies.append(sighting)
    elif chosen and packet.kind in (Kind.REQUEST, Kind.SYN):
        flight.arrived.append(sighting)  # a load balancer chose the sender itself
    elif packet.kind in (Kind.ANSWER, Kind.SYN_ACK, Kind.ARP_REPLY) or (
        packet.protocol in (UDP, TCP) and packet.dport == flight.local_port
    ):
        flight.answers.append(sighting)
    elif packet.kind is not Kind.DATA:
        flight.elsewhere.append(sighting)  # its own packet, turned back
