"""Observers: one AF_PACKET socket in the namespace of every node, armed before the first byte is sent.

Each frame that passes the filter becomes a `Sighting` with the kernel's time stamp (SO_TIMESTAMPNS), the
NIC, the direction, and the VLAN tag, which the kernel hands over beside the frame (PACKET_AUXDATA,
packet(7)).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from dataplane.checks import bpf, packets
from dataplane.checks.fragments import Reassembly
from dataplane.checks.loop import READ, Loop
from dataplane.checks.packets import Packet
from dataplane.checks.places import Place
from dataplane.checks.sockets import PACKET_AUXDATA, SO_TIMESTAMPNS, SOL_PACKET, Sockets, lost

_TIMESPEC = struct.Struct("=qq")
_AUXDATA = struct.Struct("=IIIHHHH")
_VLAN_VALID = 0x10  # TP_STATUS_VLAN_VALID
_ANCILLARY = socket.CMSG_SPACE(_TIMESPEC.size) + socket.CMSG_SPACE(_AUXDATA.size)
_LONGEST = 1 << 17


class Sighting(NamedTuple):
    """A packet at a NIC: when (nanoseconds, the kernel's clock), which way, with which tag, and for whom.

    `stray`: the frame's destination MAC is another one, so the node's stack does not take it.
    """

    place: Place
    time: int
    outgoing: bool
    vlan: int | None
    stray: bool
    packet: Packet


class Watch:
    """Observers at places of a lab. `report` is called with each sighting, in the order of each NIC."""

    def __init__(
        self,
        lab: str,
        known: Iterable[Place],
        run: bytes,
        sockets: Sockets,
        loop: Loop,
        report: Callable[[Sighting], None],
        *,
        short: bool = False,
        asking: bool = False,
    ) -> None:
        by_node: dict[str, dict[str, Place]] = {}
        for place in known:
            by_node.setdefault(place.node, {})[place.device] = place
        self._observers: dict[str, socket.socket] = {}
        self._buffer = bytearray(_LONGEST)
        for node, by_device in by_node.items():
            tunnels = any(place.role != "nic" for place in by_device.values())
            program = bpf.marked(run, short=short, asking=asking, tunnels=tunnels)
            observer = sockets.observer(f"{lab}.{node}", program)
            self._observers[node] = observer
            loop.watch(observer, READ, self._reader(observer, by_device, run, report))

    def inject(self, place: Place, frame: bytes) -> None:
        """Put a frame on the wire at a NIC, past the node's stack; observers there do not see it leave."""
        self._observers[place.node].sendto(frame, (place.device, 0))

    def lost(self) -> dict[str, int]:
        """Nodes whose observer had no room, and for how many packets, since this was last asked."""
        return {node: count for node, observer in self._observers.items() if (count := lost(observer))}

    def _reader(
        self,
        observer: socket.socket,
        by_device: Mapping[str, Place],
        run: bytes,
        report: Callable[[Sighting], None],
    ) -> Callable[[], None]:
        reassembly = Reassembly()
        buffers = [self._buffer]

        def read() -> None:
            for _ in range(256):
                try:
                    length, ancillary, _, address = observer.recvmsg_into(buffers, _ANCILLARY)
                except BlockingIOError:
                    return
                except OSError:
                    continue  # a device went down: ENETDOWN, once
                place = by_device.get(address[0])
                if place is None:
                    continue
                time, vlan = _read_ancillary(ancillary)
                frame = bytes(self._buffer[:length])
                ethertype, inside, start = packets.untagged(frame)
                outgoing, stray = address[2] == socket.PACKET_OUTGOING, address[2] == socket.PACKET_OTHERHOST
                body: bytes | None = frame[start:]
                found = None
                if ethertype == packets.ETH_IPV4 and length >= start + 20:
                    body = reassembly.add((address[0], outgoing), frame[start:])
                    found = packets.read_ipv4(body, run) if body else None
                elif ethertype == packets.ETH_IPV6 and length >= start + packets.IPV6_HEADER:
                    body = reassembly.add6((address[0], outgoing), frame[start:])
                    found = packets.read_ipv6(body, run) if body else None
                elif ethertype in (packets.ETH_ARP, packets.ETH_RARP):
                    found = packets.read_arp(frame[start:], run)
                if found:
                    tag = inside if vlan is None else vlan
                    report(Sighting(place, time, outgoing, tag, stray, found))

        return read


def _read_ancillary(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int | None]:
    time, vlan = 0, None
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            time = seconds * 1_000_000_000 + nanoseconds
        elif level == SOL_PACKET and kind == PACKET_AUXDATA:
            status, _, _, _, _, tag, _ = _AUXDATA.unpack_from(data)
            if status & _VLAN_VALID:
                vlan = tag & 0xFFF
    return time, vlan
