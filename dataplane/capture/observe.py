"""A capture: AF_PACKET sockets at points of a lab, their packets merged in the order of time.

    with Capture(lab, points) as capture:      # listening from here on
        for batch in capture.frames(ended):
            ...

Each node has one socket on all its devices, so that a device which is made anew is seen again. Time stamps
are the kernel's, from one clock. What order the sockets are read in says nothing; so frames are held back
until a turn of every CPU's packet backlog (`CpuBarrier`) makes sure that all older ones have been read.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import NamedTuple

from dataplane import netns
from dataplane.capture import pcapng
from dataplane.capture.filters import Expression, kernel_program
from dataplane.capture.points import Point
from dataplane.checks.loop import READ, Loop
from dataplane.checks.sockets import (
    PACKET_AUXDATA,
    SO_TIMESTAMPNS,
    SOL_PACKET,
    CpuBarrier,
    Sockets,
    lost,
)
from netctl.errors import ConflictError

PERIOD = 0.05
"""Seconds between two batches: how late a packet may be told."""

_TIMESPEC = struct.Struct("=qq")
_AUXDATA = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata (linux/if_packet.h)
_TAG = struct.Struct("!HH")
_VLAN_VALID, _TPID_VALID = 0x10, 0x40
_ANCILLARY = socket.CMSG_SPACE(_TIMESPEC.size) + socket.CMSG_SPACE(_AUXDATA.size)
_LONGEST = 1 << 17
_BURST = 512

_RECEPTION = {
    socket.PACKET_HOST: pcapng.UNICAST,
    socket.PACKET_BROADCAST: pcapng.BROADCAST,
    socket.PACKET_MULTICAST: pcapng.MULTICAST,
    socket.PACKET_OTHERHOST: pcapng.PROMISCUOUS,
}


class Frame(NamedTuple):
    """A frame at a point.

    `time` is in nanoseconds since 1970, by the kernel; `point` the index of the point; `octets` the frame as
    on the wire, its VLAN tag in place; `length` how long it was there; `reception` how it came to the device,
    as pcapng has it, 0 for one that left.
    """

    time: int
    point: int
    outgoing: bool
    octets: bytes
    length: int
    reception: int

    @property
    def flags(self) -> int:
        """Direction and reception as pcapng has them."""
        return pcapng.OUTBOUND if self.outgoing else pcapng.INBOUND | self.reception


class _Node:
    """What is captured at one node: its socket, and its points by device."""

    def __init__(self, made: socket.socket, by_device: dict[str, int]) -> None:
        self.socket, self.by_device = made, by_device


class Capture:
    """Use as a context manager: within, the points are listened to; afterwards nothing is left.

    `began` and `ended` are when (nanoseconds since 1970); `lost` counts, by node, packets that the kernel had
    no room for.
    """

    def __init__(
        self,
        lab: str,
        points: Sequence[Point],
        *,
        expression: Expression | None = None,
        program: bytes | None = None,
        accepts: Callable[[bytes], bool] | None = None,
    ) -> None:
        """A capture, not yet listening.

        Args:
            lab: the lab's name.
            points: where; nodes that are not there are left out, and named in `absent`.
            expression: which packets; all without it.
            program: a classic BPF program of the caller's own in its place.
            accepts: asked about each frame that passes the program.
        """
        self.lab, self.points = lab, points
        self.lost: dict[str, int] = {}
        self.absent: list[str] = []
        self.began = self.ended = 0
        self._expression, self._program = expression, program
        self._accepts = expression.accepts if expression else accepts
        self._nodes: list[_Node] = []
        self._waiting: list[Frame] = []
        self._buffer = bytearray(_LONGEST)

    def __enter__(self) -> Capture:
        self._sockets, self._loop = Sockets(), Loop()
        self._barrier: CpuBarrier | None = None
        try:
            self._barrier = CpuBarrier()
            self._arm()
        except BaseException:
            self._close()
            raise
        self.began = time.time_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _arm(self) -> None:
        by_node: dict[str, dict[str, int]] = {}
        for number, point in enumerate(self.points):
            by_node.setdefault(point.node, {})[point.device] = number
        self.absent = [node for node in by_node if netns.inode(f"{self.lab}.{node}") is None]
        if len(self.absent) == len(by_node):
            raise ConflictError(
                f"no point of the lab {self.lab} is there: no network namespace "
                + ", ".join(f"{self.lab}.{node}" for node in self.absent[:5]),
                "Start the lab with `netctl up FILE`.",
            )
        for node, by_device in by_node.items():
            if node in self.absent:
                continue
            namespace = f"{self.lab}.{node}"
            devices = self._sockets.inside(namespace, socket.if_nameindex)
            others = [index for index, name in devices if name not in by_device]
            program = self._program or kernel_program(others, self._expression)
            made = _Node(self._sockets.observer(namespace, program), by_device)
            self._nodes.append(made)
            self._loop.watch(made.socket, READ, partial(self._turn, made))

    def _turn(self, node: _Node) -> None:
        self._read(node)

    def _close(self) -> None:
        self._loop.close()
        self._sockets.close()
        if self._barrier:
            self._barrier.close()

    def frames(self, ended: Callable[[], bool], seconds: float | None = None) -> Iterator[Sequence[Frame]]:
        """Batches of frames in the order of time, until `ended()` or so many seconds have passed.

        Empty batches come too, every PERIOD, so that the caller gets a turn.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        due = time.monotonic() + PERIOD
        while True:
            now = time.monotonic()
            over = ended() or (deadline is not None and now >= deadline)
            if over or now >= due:
                until = time.time_ns()
                yield self._settled(until) if over or self._waiting else ()
                if over:
                    self.ended = until
                    return
                due = time.monotonic() + PERIOD
            left = min(due, deadline or due) - time.monotonic()
            self._loop.turn(min(max(left, 0.0), PERIOD))

    def _settled(self, until: int) -> Sequence[Frame]:
        """All frames up to this time, which have certainly been read when this returns."""
        assert self._barrier is not None
        self._barrier.wait(1)
        behind = time.time_ns()
        for node in self._nodes:
            # A socket has a bounded number of frames older than now, however many are coming.
            while self._read(node, behind):
                pass
            if count := lost(node.socket):
                name = self.points[next(iter(node.by_device.values()))].node
                self.lost[name] = self.lost.get(name, 0) + count
        self._waiting.sort(key=_time)
        count = len(self._waiting)
        while count and self._waiting[count - 1].time > until:
            count -= 1
        settled, self._waiting = self._waiting[:count], self._waiting[count:]
        return settled

    def _read(self, node: _Node, behind: int | None = None) -> bool:
        """Read what a socket has; whether there may be more from before `behind`."""
        made, by_device, accepts = node.socket, node.by_device, self._accepts
        buffers = [self._buffer]
        for _ in range(_BURST):
            try:
                caught, ancillary, _, address = made.recvmsg_into(buffers, _ANCILLARY)
            except BlockingIOError:
                return False
            except OSError:
                continue  # a device went down: ENETDOWN, once
            number = by_device.get(address[0])
            stamp, octets, length = with_tag(self._buffer[:caught], ancillary)
            if number is not None and (accepts is None or accepts(octets)):
                outgoing = address[2] == socket.PACKET_OUTGOING
                reception = _RECEPTION.get(address[2], 0)
                self._waiting.append(Frame(stamp, number, outgoing, octets, length, reception))
            if behind is not None and stamp > behind:
                return False
        return True


def _time(frame: Frame) -> int:
    return frame.time


def with_tag(octets: bytearray, ancillary: list[tuple[int, int, bytes]]) -> tuple[int, bytes, int]:
    """What recvmsg(2) gave: the time stamp, the frame with its VLAN tag put back, its length on the wire."""
    stamp, length = 0, len(octets)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            stamp = seconds * 1_000_000_000 + nanoseconds
        elif level == SOL_PACKET and kind == PACKET_AUXDATA:
            status, whole, _, _, _, tag, protocol = _AUXDATA.unpack_from(data)
            length = max(whole, length)
            if status & _VLAN_VALID:
                ethertype = protocol if status & _TPID_VALID else 0x8100
                octets[12:12] = _TAG.pack(ethertype, tag)
                length += 4
    return stamp, bytes(octets), length
