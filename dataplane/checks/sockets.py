"""Sockets in namespaces. A socket stays in the namespace that it was made in, whoever uses it.

A thread of our own steps into the namespaces and makes the sockets; the calling thread never leaves its
own. Everything that was opened is closed by `close`, whatever happened.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import TypeVar

from dataplane import netns
from dataplane.checks import bpf
from netctl.errors import MachineError

# linux/socket.h, asm-generic/socket.h, linux/if_packet.h: what Python's socket module does not name.
SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
SOL_PACKET = 263
PACKET_STATISTICS = 6
PACKET_AUXDATA = 8
ETH_P_ALL = 3

BUFFER = 16 << 20
"""Octets that an observer holds until they are read: some ten thousand small packets."""

Address = IPv4Address | IPv6Address

T = TypeVar("T")


class Sockets:
    """All sockets of a run, by the namespaces that they live in."""

    def __init__(self) -> None:
        self._enter = ThreadPoolExecutor(1, "checks-netns")
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Sockets:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def inside(self, namespace: str, function: Callable[[], T]) -> T:
        """Call `function` in the namespace. ChangeError when there is none, MachineError without rights."""

        def run() -> T:
            with netns.entered(namespace):
                return function()

        try:
            return self._enter.submit(run).result()
        except PermissionError as error:
            raise MachineError(
                f"the kernel does not let us open a socket in {namespace}: {error.strerror}",
                "Run as root; see netctl doctor.",
            ) from error

    def observer(self, namespace: str, program: bytes) -> socket.socket:
        """An AF_PACKET socket (packet(7)) on all devices of the namespace, listening when this returns."""

        def make() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            with _closed_on_error(made):
                # It listens from the first moment on; what came in before the filter goes.
                made.setblocking(False)
                attach(made, bpf.nothing())
                with contextlib.suppress(BlockingIOError):
                    while True:
                        made.recv(1)
                attach(made, program)
                made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
                made.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
                enlarge(made)
            return made

        return self._keep(self.inside(namespace, make))

    def raw_icmp(
        self, namespace: str, address: Address, device: str | None, *, sends_only: bool = True
    ) -> socket.socket:
        """A raw(7) socket; one that only sends never has anything to read."""
        protocol = socket.IPPROTO_ICMP if address.version == 4 else socket.IPPROTO_ICMPV6
        made = self._inet(namespace, socket.SOCK_RAW, protocol, address, 0, device)
        if sends_only:
            attach(made, bpf.nothing())
        return made

    def udp_sender(self, namespace: str, address: Address, device: str | None) -> socket.socket:
        """A UDP socket on a free port that only sends: what comes back is taken off the wire, not read."""
        made = self._inet(namespace, socket.SOCK_DGRAM, 0, address, 0, device)
        attach(made, bpf.nothing())
        return made

    def udp(self, namespace: str, address: Address, port: int, device: str | None = None) -> socket.socket:
        """A UDP socket bound there; OSError with EADDRINUSE when somebody has the port."""
        made = self._inet(namespace, socket.SOCK_DGRAM, 0, address, port, device)
        enlarge(made)
        return made

    def tcp(
        self, namespace: str, address: Address, port: int, device: str | None, *, listen: bool
    ) -> socket.socket:
        """A TCP socket bound there, listening or about to connect."""
        made = self._inet(namespace, socket.SOCK_STREAM, 0, address, port, device)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if listen:
            try:
                made.listen(1024)
            except OSError:
                self.drop(made)
                raise
        return made

    def _inet(
        self, namespace: str, kind: int, protocol: int, address: Address, port: int, device: str | None
    ) -> socket.socket:
        def make() -> socket.socket:
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            made = socket.socket(family, kind, protocol)
            with _closed_on_error(made):
                made.setblocking(False)
                if kind == socket.SOCK_STREAM:
                    # A connection of an earlier run that still lingers must not keep the port.
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if device:
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
                made.bind((str(address), port))
            return made

        return self._keep(self.inside(namespace, make))

    def adopt(self, accepted: socket.socket) -> socket.socket:
        """Take over a connection that a listening socket accepted."""
        accepted.setblocking(False)
        return self._keep(accepted)

    def drop(self, what: socket.socket) -> None:
        """Close one of ours."""
        self._open.discard(what)
        what.close()

    def abort(self, connection: socket.socket) -> None:
        """Close a TCP connection with a reset, so that no TIME-WAIT stays behind in the guest (tcp(7))."""
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.drop(connection)

    def close(self) -> None:
        """Close everything. An AF_PACKET socket waits for an RCU grace period: all at once, they share it."""
        waiting = [each for each in self._open if each.family == socket.AF_PACKET]
        for each in self._open.difference(waiting):
            each.close()
        self._open.clear()
        if waiting:
            with ThreadPoolExecutor(min(len(waiting), 64), "checks-close") as closers:
                list(closers.map(socket.socket.close, waiting))
        self._enter.shutdown()

    def _keep(self, made: socket.socket) -> socket.socket:
        self._open.add(made)
        return made


def attach(made: socket.socket, program: bytes) -> None:
    """Put a classic BPF filter on a socket."""
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HL", len(program) // 8, ctypes.addressof(buffer))
    made.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)


def enlarge(made: socket.socket) -> None:
    """Give the socket a receive buffer beyond net.core.rmem_max where we may, else what there is."""
    try:
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    except PermissionError:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)


def lost(observer: socket.socket) -> int:
    """Packets that an observer had no room for since it was last asked (PACKET_STATISTICS)."""
    return int(struct.unpack("=II", observer.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1])


def in_use(error: OSError) -> bool:
    """Whether somebody else has the port."""
    return error.errno == errno.EADDRINUSE


class _closed_on_error(contextlib.AbstractContextManager[None]):
    def __init__(self, made: socket.socket) -> None:
        self._made = made

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._made.close()


class CpuBarrier:
    """Waits until every CPU has handled the packets that were queued on it before.

    A veth device puts each packet on the backlog of the CPU that sends it (netif_rx; veth.c), which the
    softirq of that CPU empties in order. Under load that may lag, and a sender that moves to another CPU
    overtakes its own packets. One datagram over loopback from each CPU goes through the same backlogs: once
    they are here, so is all that was queued earlier.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind(("127.0.0.1", 0))
            self._socket.connect(self._socket.getsockname())
            self._socket.settimeout(10)
        except OSError as error:
            self._socket.close()
            raise MachineError(f"loopback does not work: {error.strerror}", "ip link set lo up") from error

    def wait(self, hops: int = 2) -> None:
        """Return when all backlogs were emptied `hops` times over: once per veth pair in a packet's way."""
        allowed = os.sched_getaffinity(0)
        try:
            for _ in range(hops):
                for cpu in sorted(allowed):
                    os.sched_setaffinity(0, {cpu})
                    self._socket.send(b"")
                    self._socket.recv(1)
        finally:
            os.sched_setaffinity(0, allowed)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()
