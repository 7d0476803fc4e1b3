"""The sending side: each flight leaves through its guest's own stack, by a plain socket.

The stack decides as for any program: it asks ARP (with IPv6 its neighbours), takes the route, and sets the
Don't Fragment bit on what fits the path's MTU (IP_PMTUDISC_WANT, ip(7)); what is larger than the NIC's MTU
it fragments itself, as it does for `ping -s`. A node with several NICs sends from the one that was named:
the socket is tied to it (SO_BINDTODEVICE, socket(7)).

Where the stack will not send (no route, nobody answers ARP) but the packet is one that must not arrive,
silence would prove nothing about the network: the packet is then built here and put on the wire with the
receiver's MAC address, as a guest that means harm would.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import time
from collections.abc import Mapping

from dataplane.checks import packets
from dataplane.checks.flight import Flight
from dataplane.checks.ledger import Ledger
from dataplane.checks.loop import READ, WRITE, Loop
from dataplane.checks.packets import ICMP, ICMP6, MARK_LENGTH, TCP, UDP, Address
from dataplane.checks.places import Place, Version, unused
from dataplane.checks.sockets import Sockets
from dataplane.checks.tagged import StandIn
from dataplane.checks.watch import Sighting, Watch

_PROTOCOLS = {"icmp": ICMP, "udp": UDP, "tcp": TCP, "icmp6": ICMP6}
_ETHERTYPES = {4: packets.ETH_IPV4, 6: packets.ETH_IPV6}
_HEADERS = {4: 20, 6: packets.IPV6_HEADER}


class Senders:
    """Launches flights. Fresh ids and ports each time that one is made, so no old connection state helps."""

    def __init__(
        self,
        lab: str,
        known: Mapping[str, Place],
        run: bytes,
        sockets: Sockets,
        loop: Loop,
        ledger: Ledger,
        watch: Watch,
    ) -> None:
        self._lab, self._known, self._run = lab, known, run
        self._sockets, self._loop, self._ledger, self._watch = sockets, loop, ledger, watch
        self._stand_ins: dict[tuple[Place, int, Version], StandIn] = {}
        self._open: dict[object, socket.socket] = {}
        self._echoes: dict[str, int] = {}
        self._clients: set[_Client] = set()

    def launch(self, flight: Flight) -> None:
        """Send it. What the stack says against it becomes the flight's `trouble`."""
        flight.launched = time.monotonic()
        origin = flight.source.address(flight.version)
        if origin is None:
            flight.trouble = f"{flight.source.name} has no IPv{flight.version} address to send from"
            return
        try:
            if flight.protocol == "arp":
                self._ask(flight)
            elif flight.vlan is not None:
                self._stand_in(flight).launch(flight, lambda origin: self._body(flight, origin))
            elif flight.protocol in ("icmp", "icmp6"):
                self._ping(flight, origin)
            elif flight.protocol == "udp":
                self._send_datagram(flight, origin)
            else:
                self._connect(flight, origin)
        except OSError as error:
            flight.trouble = _words(error.errno)

    def note(self, sighting: Sighting) -> None:
        """What was seen, for senders that are no sockets."""
        for stand_in in self._stand_ins.values():
            stand_in.note(sighting)

    def craft(self, flight: Flight) -> bool:
        """Put it on the wire without the stack; False when there is no NIC to address or no way there."""
        receiver = next(iter(flight.target.servers), None)
        version, target = flight.version, flight.target.address
        origin = flight.source.address(version)
        if receiver is None or origin is None:
            return False
        most = flight.source.mtu - _HEADERS[version]
        packet = packets.ip(origin, target, _PROTOCOLS[flight.protocol], self._body(flight, origin)[:most])
        frame = packets.ethernet(receiver.mac, flight.source.mac, _ETHERTYPES[version], packet)
        now = time.time_ns()
        try:
            self._watch.inject(flight.source, frame)
        except OSError as error:
            flight.trouble = _words(error.errno)
            return False
        flight.crafted = True
        flight.left.append(now)
        return True

    def close(self) -> None:
        """Close all sockets; connections that are still opening go silently."""
        for client in list(self._clients):
            client.end()
        for each in self._open.values():
            self._sockets.drop(each)
        self._open.clear()

    def _namespace(self, place: Place) -> str:
        return f"{self._lab}.{place.node}"

    def _echo_number(self, flight: Flight) -> tuple[int, int]:
        """An ICMP id and sequence number that no other flight from this NIC has."""
        name = flight.source.name
        number = self._echoes.setdefault(name, secrets.randbits(16) << 16) + 1
        self._echoes[name] = number
        identifier, sequence = (number >> 16) & 0xFFFF, number & 0xFFFF
        self._ledger.enter_echo(flight, identifier, sequence)
        return identifier, sequence

    def _ask(self, flight: Flight) -> None:
        """Ask ARP on the wire: the stack's own request could carry no mark."""
        place, target = flight.source, flight.target.address
        origin = place.ip if flight.vlan is None else self._stand_in(flight).ip
        assert origin is not None
        frame = packets.question(self._run, flight.number, place.mac, origin, target, flight.vlan)
        self._ledger.enter_question(flight)
        now = time.time_ns()
        self._watch.inject(place, frame)
        flight.left.append(now)

    def _stand_in(self, flight: Flight) -> StandIn:
        assert flight.vlan is not None
        key = (flight.source, flight.vlan, flight.version)
        if key not in self._stand_ins:
            address = flight.source.address(flight.version)
            if flight.source.segment != flight.segment:
                address = unused(self._known, flight.vlan, flight.version) or address
            assert address is not None
            self._stand_ins[key] = StandIn(flight.source, flight.vlan, address, self._run, self._watch)
        return self._stand_ins[key]

    def _ping(self, flight: Flight, origin: Address) -> None:
        place, key = flight.source, (flight.source.name, flight.version)
        sender = self._open.get(key)
        if sender is None:
            sender = self._sockets.raw_icmp(self._namespace(place), origin, place.binding)
            self._open[key] = sender
        message = self._body(flight, origin)
        sender.sendto(message, (str(flight.target.address), 0))

    def _send_datagram(self, flight: Flight, origin: Address) -> None:
        place = flight.source
        # A datagram too short for a mark is known by its port: it needs one of its own.
        own = flight.number if len(flight.payload) < MARK_LENGTH else -1
        key = (place.name, flight.target.address, flight.port, own)
        sender = self._open.get(key)
        if sender is None:
            sender = self._sockets.udp_sender(self._namespace(place), origin, place.binding)
            self._open[key] = sender
        self._ledger.enter_port(flight, UDP, sender.getsockname()[1])
        sender.sendto(flight.payload, (str(flight.target.address), flight.port))

    def _connect(self, flight: Flight, origin: Address) -> None:
        place = flight.source
        made = self._sockets.tcp(self._namespace(place), origin, 0, place.binding, listen=False)
        self._ledger.enter_port(flight, TCP, made.getsockname()[1])
        failure = made.connect_ex((str(flight.target.address), flight.port))
        if failure not in (0, errno.EINPROGRESS):
            self._sockets.drop(made)
            flight.trouble = _words(failure)
            return
        _Client(flight, made, self._sockets, self._loop, self._clients)

    def _body(self, flight: Flight, origin: Address) -> bytes:
        target = flight.target.address
        if flight.protocol == "icmp6":
            return packets.echo_request6(origin, target, *self._echo_number(flight), flight.payload)
        if flight.protocol == "icmp":
            return packets.echo_request(*self._echo_number(flight), flight.payload)
        port = flight.local_port if flight.local_port > 0 else 49152 + secrets.randbelow(16384)
        self._ledger.enter_port(flight, _PROTOCOLS[flight.protocol], port)
        if flight.protocol == "udp":
            return packets.datagram(origin, target, port, flight.port, flight.payload)
        isn = secrets.randbits(32)
        self._ledger.enter_isn(flight, isn)
        return packets.segment(origin, target, (port, flight.port), (isn, 0), packets.SYN)


class _Client:
    """The active side of one TCP connection: handshake, payload out, payload back, reset."""

    def __init__(
        self, flight: Flight, made: socket.socket, sockets: Sockets, loop: Loop, others: set[_Client]
    ) -> None:
        self._flight, self._socket, self._sockets, self._loop, self._others = (
            flight,
            made,
            sockets,
            loop,
            others,
        )
        self._unsent = memoryview(flight.payload)
        self._back = bytearray()
        others.add(self)
        loop.watch(made, WRITE, self._connected)

    def end(self) -> None:
        """Stop, whatever the state."""
        self._others.discard(self)
        self._loop.forget(self._socket)
        self._sockets.abort(self._socket)

    def _connected(self) -> None:
        failure = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failure:
            self._flight.trouble = _words(failure)
            self.end()
            return
        self._flight.connected = True
        if self._flight.foreign:
            self.end()
        else:
            self._talk()

    def _talk(self) -> None:
        try:
            if self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
            while len(self._back) < len(self._flight.payload):
                piece = self._socket.recv(1 << 16)
                if not piece:
                    raise ConnectionError(errno.EPIPE, "closed")
                self._back += piece
        except BlockingIOError:
            self._loop.watch(self._socket, READ | WRITE if self._unsent else READ, self._talk)
            return
        except OSError as error:
            self._flight.trouble = _words(error.errno)
            self.end()
            return
        self._flight.echoed = bytes(self._back) == self._flight.payload
        self.end()


def _words(number: int | None) -> str:
    return os.strerror(number) if number else "refused"
