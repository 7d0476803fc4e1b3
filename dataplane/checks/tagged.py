"""Tagged senders: what a guest with a VLAN device on its NIC would do, on AF_PACKET.

A namespace guest may live under a kernel without 8021q, and has no address in the VLAN anyway. So a
*stand-in* lives behind its NIC: an address in the VLAN that nobody has, and the NIC's own MAC address. It
asks and answers ARP (IPv6: for neighbours) with tagged frames, sends tagged packets, and holds one side of a
TCP connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from dataplane.checks import packets
from dataplane.checks.flight import Flight
from dataplane.checks.packets import ACK, ICMP, ICMP6, PSH, RST, TCP, UDP, Address, Kind
from dataplane.checks.places import Place
from dataplane.checks.watch import Sighting, Watch

LARGEST = 1400
"""Octets of payload that fit one tagged frame of any guest; a stand-in does not fragment."""


class StandIn:
    """An address in a VLAN behind a NIC."""

    def __init__(self, place: Place, vlan: int, ip: Address, run: bytes, watch: Watch) -> None:
        self.place, self.vlan, self.ip = place, vlan, ip
        self._run, self._watch = run, watch
        self._waiting: dict[int, list[Callable[[bytes], None]]] = {}
        self._talks: dict[int, tuple[Flight, bytes]] = {}

    def launch(self, flight: Flight, message: Callable[[Address], bytes]) -> None:
        """Ask for the receiver's MAC address, then send; what must not arrive is sent to it at once.

        `message` makes the ICMP message, datagram or segment that is sent from an address.
        """
        receiver = next(iter(flight.target.servers), None)

        def send(mac: bytes) -> None:
            protocol = {"icmp": ICMP, "icmp6": ICMP6, "udp": UDP, "tcp": TCP}[flight.protocol]
            if flight.protocol == "tcp":
                self._talks[flight.number] = flight, mac
            self._send(flight, mac, protocol, message(self.ip), leaving=True)

        if flight.awaits == "nothing":
            flight.crafted = True
            send(receiver.mac if receiver else packets.BROADCAST)
            return
        self._waiting.setdefault(int(flight.target.address), []).append(send)
        question = packets.question(self._run, 0, self.place.mac, self.ip, flight.target.address, self.vlan)
        self._watch.inject(self.place, question)

    def note(self, sighting: Sighting) -> None:
        """Something came in: an answer to us, a question for us, or our TCP peer."""
        if sighting.place is not self.place or sighting.outgoing or sighting.vlan != self.vlan:
            return
        packet = sighting.packet
        if packet.target != int(self.ip) or packet.version != self.ip.version:
            return
        if packet.kind is Kind.ARP_REPLY:
            for send in self._waiting.pop(packet.source, ()):
                send(packet.payload)
        elif packet.kind is Kind.ARP_REQUEST:
            asker = IPv4Address(packet.source) if packet.version == 4 else IPv6Address(packet.source)
            answer = packets.reply(self.place.mac, self.ip, packet.payload, asker, self.vlan)
            self._watch.inject(self.place, answer)
        elif packet.protocol == TCP:
            self._talk(sighting)

    def _talk(self, sighting: Sighting) -> None:
        """The rest of a TCP connection: acknowledge and send the payload; take it back and reset."""
        packet = sighting.packet
        for flight, mac in self._talks.values():
            if flight.local_port != packet.dport:
                continue

            def reply(
                flags: int, at: int, data: bytes = b"", flight: Flight = flight, mac: bytes = mac
            ) -> None:
                ports, numbers = (flight.local_port, flight.port), (flight.isn + 1 + at, packet.sequence + 1)
                body = packets.segment(self.ip, flight.target.address, ports, numbers, flags, data)
                self._send(flight, mac, TCP, body)

            if packet.kind is Kind.SYN_ACK and not flight.connected:
                flight.connected = True
                reply(ACK | PSH, 0, flight.payload)
            elif packet.kind is Kind.DATA and packet.number >= 0 and flight.echoed is None:
                flight.echoed = packet.payload == flight.payload
                reply(RST | ACK, len(flight.payload))
            elif packet.kind is Kind.RESET and not flight.connected:
                flight.trouble = "Connection refused"

    def _send(self, flight: Flight, mac: bytes, protocol: int, body: bytes, *, leaving: bool = False) -> None:
        packet = packets.ip(self.ip, flight.target.address, protocol, body)
        kind = packets.ETH_IPV4 if self.ip.version == 4 else packets.ETH_IPV6
        frame = packets.ethernet(mac, self.place.mac, kind, packet, self.vlan)
        if leaving:
            flight.left.append(time.time_ns())
        self._watch.inject(self.place, frame)
