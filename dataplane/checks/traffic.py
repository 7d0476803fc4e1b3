"""Traffic that goes on while a story's other steps happen, and how long it stood still.

A packet every 10 ms from the sender's own stack, answered by the receiver's: echo requests, datagrams, or
messages over one TCP connection. An outage is the longest time without an answer, so its resolution is that
interval; for TCP it holds what retransmission adds, as it would for any program.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket
import threading
import time
from ipaddress import IPv6Address
from types import TracebackType

from dataplane.checks import packets
from dataplane.checks.flight import Flight
from dataplane.checks.loop import READ, Loop
from dataplane.checks.places import Place, Target
from dataplane.checks.servers import Servers
from dataplane.checks.sockets import Sockets
from netctl.errors import ChangeError

INTERVAL = 0.01
"""Seconds between two packets."""

START = 2.0
"""Seconds in which the first answer must come."""

_MESSAGE = 64


class Traffic:
    """A stream of packets on a thread of its own, from `start` until `stop`."""

    def __init__(self, lab: str, source: Place, target: Target, protocol: str, port: int) -> None:
        self._lab, self._source, self._target, self._protocol, self._port = (
            lab,
            source,
            target,
            protocol,
            port,
        )
        self.name = f"{source.name} -> {target.label} {protocol}"
        self._run = secrets.token_bytes(packets.RUN_LENGTH)
        self._answers: list[float] = []
        self._broken = ""
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name=f"traffic {self.name}")

    def __enter__(self) -> Traffic:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin; returns once an answer came. ChangeError when none does."""
        self._thread.start()
        if not self.flowing(time.monotonic(), START):
            self.stop()
            raise ChangeError(f"traffic {self.name} never got an answer{self._why()}")

    def stop(self) -> None:
        """End it, and give everything back."""
        self._end.set()
        self._thread.join()

    def flowing(self, since: float, seconds: float) -> bool:
        """Wait until there was an answer after `since`; whether there was one in that time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._broken:
            with self._lock:
                if self._answers and self._answers[-1] > since:
                    return True
            self._end.wait(INTERVAL)
        return False

    @property
    def broken(self) -> str:
        """Why the connection broke; "" while it holds."""
        return self._broken

    def outage(self, since: float, until: float) -> float:
        """The longest time without an answer, in seconds, that began or ended between these moments."""
        with self._lock:
            times = list(self._answers)
        longest = 0.0
        for earlier, later in zip([since, *times], [*times, max(until, since)], strict=True):
            if later > since and earlier < until:
                longest = max(longest, later - max(earlier, since - INTERVAL))
        return longest

    def _why(self) -> str:
        return f": {self._broken}" if self._broken else ""

    def _answered(self) -> None:
        with self._lock:
            self._answers.append(time.monotonic())

    def _work(self) -> None:
        loop, sockets = Loop(), Sockets()
        try:
            servers = Servers(self._lab, sockets, loop)
            servers.serve([Flight(0, self._source, self._target, self._protocol, self._port)])
            self._stream(sockets, loop)
        except (OSError, ChangeError) as error:
            self._broken = str(error)
        finally:
            loop.close()
            sockets.close()

    def _stream(self, sockets: Sockets, loop: Loop) -> None:
        place, namespace = self._source, f"{self._lab}.{self._source.node}"
        version = self._target.address.version
        own = place.address(version)
        if own is None:
            raise ChangeError(f"{place.name} has no IPv{version} address to send from")
        where = (str(self._target.address), self._port)
        if self._protocol == "tcp":
            made = sockets.tcp(namespace, own, 0, place.binding, listen=False)
            made.setblocking(True)
            made.settimeout(START)
            # The server is on this very thread: the handshake needs nobody, the kernel does it.
            made.connect(where)
            made.setblocking(False)
        elif self._protocol == "udp":
            made = sockets.udp(namespace, own, 0, place.binding)
        else:
            made = sockets.raw_icmp(namespace, own, place.binding, sends_only=False)
        loop.watch(made, READ, lambda: self._read(made))
        identifier, sequence, due = secrets.randbits(16), 0, time.monotonic()
        while not self._end.is_set() and not self._broken:
            now = time.monotonic()
            if now >= due:
                due = max(due + INTERVAL, now)
                sequence += 1
                self._send(made, where, identifier, sequence)
            loop.turn(max(0.0, due - time.monotonic()))
        if self._protocol == "tcp":
            sockets.abort(made)

    def _send(self, made: socket.socket, where: tuple[str, int], identifier: int, sequence: int) -> None:
        data = packets.payload(self._run, sequence, _MESSAGE)
        try:
            if self._protocol == "tcp":
                with contextlib.suppress(BlockingIOError):  # enough is under way already
                    made.send(data)
            elif self._protocol == "udp":
                made.sendto(data, where)
            else:
                made.sendto(self._echo(identifier, sequence & 0xFFFF, data), (where[0], 0))
        except OSError as error:
            if self._protocol == "tcp" or error.errno not in _PASSING:
                self._broken = f"it broke: {error.strerror}"

    def _echo(self, identifier: int, sequence: int, data: bytes) -> bytes:
        target, own = self._target.address, self._source.ip6
        if isinstance(target, IPv6Address) and own is not None:
            return packets.echo_request6(own, target, identifier, sequence, data)
        return packets.echo_request(identifier, sequence, data)

    def _is_answer(self, data: bytes) -> bool:
        """Whether a raw socket read an answer of ours; IPv6's come without their header (raw(7))."""
        if self._target.address.version == 4:
            found = packets.read_ipv4(data, self._run)
        else:
            found = packets.read_icmp6(data, self._run)
        return found is not None and found.kind is packets.Kind.ANSWER and found.number >= 0

    def _read(self, made: socket.socket) -> None:
        while True:
            try:
                data = made.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:
                if self._protocol == "tcp":
                    self._broken = f"it broke: {error.strerror}"
                return
            if self._protocol == "tcp" and not data:
                self._broken = "it was closed by the other side"
                return
            if self._protocol not in ("tcp", "udp") and not self._is_answer(data):
                continue
            self._answered()


_PASSING = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENOBUFS, errno.ECONNREFUSED)
"""Errors of a packet that is lost, as others are."""
