"""The receiving side: echo servers in the receivers' namespaces, on the asked ports, while checks run.

A server is bound to the NIC's address (and, where the node has several NICs, to the NIC), so its answers
leave by the NIC that was asked. Where the guest runs a server of its own on the port, that one is used
and nothing is bound: then a TCP handshake, or the datagram's arrival, is all that is asked for.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from dataplane.checks.flight import Flight
from dataplane.checks.loop import READ, WRITE, Loop
from dataplane.checks.places import Place
from dataplane.checks.sockets import Address, Sockets, in_use

_PIECE = 1 << 16


class Servers:
    """Echo servers, one for each NIC, protocol and port that a flight may reach."""

    def __init__(self, lab: str, sockets: Sockets, loop: Loop) -> None:
        self._lab, self._sockets, self._loop = lab, sockets, loop
        self._running: dict[tuple[str, str, int, int], socket.socket | None] = {}

    def serve(self, flights: Iterable[Flight]) -> None:
        """Have a server for each flight; `foreign` is set on those that will meet a guest's own."""
        for flight in flights:
            if flight.protocol not in ("tcp", "udp"):
                continue
            for place, port in flight.target.servers.items():
                address = place.address(flight.version)
                if address is not None and not self._serve(
                    place, address, flight.protocol, port or flight.port
                ):
                    flight.foreign = True
            if not flight.target.servers:
                flight.foreign = True  # an address that is nobody's: whoever answers there, it is not us

    def _serve(self, place: Place, address: Address, protocol: str, port: int) -> bool:
        key = (place.name, protocol, port, address.version)
        if key in self._running:
            return self._running[key] is not None
        namespace = f"{self._lab}.{place.node}"
        try:
            if protocol == "udp":
                server = self._sockets.udp(namespace, address, port, place.binding)
                self._loop.watch(server, READ, lambda: _echo_datagrams(server))
            else:
                server = self._sockets.tcp(namespace, address, port, place.binding, listen=True)
                self._loop.watch(server, READ, lambda: self._accept(server))
        except OSError as error:
            if not in_use(error):
                raise
            self._running[key] = None
            return False
        self._running[key] = server
        return True

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                accepted, _ = server.accept()
            except BlockingIOError:
                return
            except OSError:
                continue  # the peer was gone before we came: ECONNABORTED
            _Connection(self._sockets.adopt(accepted), self._sockets, self._loop)


def _echo_datagrams(server: socket.socket) -> None:
    while True:
        try:
            data, sender = server.recvfrom(_PIECE)
            server.sendto(data, sender)
        except BlockingIOError:
            return
        except OSError:
            continue  # no way back to this sender, or an ICMP error to an earlier answer


class _Connection:
    """Sends back what comes in, until the peer closes."""

    def __init__(self, connection: socket.socket, sockets: Sockets, loop: Loop) -> None:
        self._connection, self._sockets, self._loop = connection, sockets, loop
        self._waiting = bytearray()
        loop.watch(connection, READ, self._ready)

    def _ready(self) -> None:
        try:
            piece = self._connection.recv(_PIECE)
            if not piece and not self._waiting:
                self._end()
                return
            self._waiting += piece
        except BlockingIOError:
            pass
        except OSError:
            self._end()
            return
        try:
            if self._waiting:
                del self._waiting[: self._connection.send(self._waiting)]
        except BlockingIOError:
            pass
        except OSError:
            self._end()
            return
        self._loop.watch(self._connection, READ | WRITE if self._waiting else READ, self._ready)

    def _end(self) -> None:
        self._loop.forget(self._connection)
        self._sockets.abort(self._connection)
