"""Frames as guests put them on the wire, and who gets them: raw sockets in the VMs' namespaces.

A frame carries a marker of its own. After it goes a fence: a broadcast of the same NIC, that its neighbours
must get; what has not come by then does not come.
"""

from __future__ import annotations

import secrets
import selectors
import socket
import struct
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address

from dataplane import netns

ETH_P_ALL = 3
SOL_PACKET, PACKET_AUXDATA = 263, 8  # linux/if_packet.h
PACKET_OUTGOING = 4
VLAN_VALID = 0x10

BROADCAST = "ff:ff:ff:ff:ff:ff"
EXPERIMENTAL = 0x88B5
"""An Ethertype that IEEE keeps for experiments: no stack answers it."""

LIMIT = 20.0
"""Seconds until a fence must have arrived."""


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ethernet(
    target: str, source: str, payload: bytes, *, tags: tuple[int, ...] = (), kind: int = EXPERIMENTAL
) -> bytes:
    """A frame; each tag is a VLAN, or a TPID and a TCI in 32 bits."""
    tagged = b"".join(struct.pack("!I", tag if tag > 0xFFFF else 0x81000000 | tag) for tag in tags)
    return mac(target) + mac(source) + tagged + struct.pack("!H", kind) + payload.ljust(50, b"\0")


def arp(source: str, sender_mac: str, sender: str, asked: str, payload: bytes) -> bytes:
    """An ARP request, with the marker behind it."""
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac(sender_mac) + IPv4Address(sender).packed
    body += bytes(6) + IPv4Address(asked).packed
    return ethernet(BROADCAST, source, body + payload, kind=0x0806)


def ipv4(target: str, source: str, sender: str, receiver: str, payload: bytes) -> bytes:
    """A UDP datagram to the discard port."""
    udp = struct.pack("!HHHH", 9, 9, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0)
    head += IPv4Address(sender).packed + IPv4Address(receiver).packed
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]
    return ethernet(target, source, head + udp, kind=0x0800)


class Wires:
    """The NICs of a lab, by a name for each: its namespace and device."""

    def __init__(
        self, nics: Mapping[str, tuple[str, str]], macs: Mapping[str, str], ips: Mapping[str, str]
    ) -> None:
        self.macs, self.ips = macs, ips
        self._sockets = {name: _open(*place) for name, place in nics.items()}

    def close(self) -> None:
        for opened in self._sockets.values():
            opened.close()

    def send(self, nic: str, frame: bytes) -> None:
        self._sockets[nic].send(frame)

    def broadcast(self, nic: str, payload: bytes, vlan: int | None = None) -> bytes:
        """A broadcast that a NIC may send: where it has an address, its announcement (RFC 5944, 4.6)."""
        if vlan is None and nic in self.ips:
            return arp(self.macs[nic], self.macs[nic], self.ips[nic], self.ips[nic], payload)
        return ethernet(BROADCAST, self.macs[nic], payload, tags=() if vlan is None else (vlan,))

    def who_gets(
        self,
        nic: str,
        frame: bytes,
        marker: bytes,
        fence_at: Collection[str],
        *,
        fence_vlan: int | None = None,
    ) -> dict[str, list[int | None]]:
        """Send a frame; returns who got it, once for each time, with the tag that it had there.

        Two fences, the second when the first is there: Open vSwitch handles what it must look up (the first
        fence) before what it knows, where both are in one batch.
        """
        assert fence_at, "a fence that nobody must get tells nothing"
        found: dict[str, list[int | None]] = {}
        self.send(nic, frame)
        for _ in range(2):
            fence = secrets.token_bytes(12)
            self.send(nic, self.broadcast(nic, fence, fence_vlan))
            for name, payload, vlan in self._until(nic, fence, fence_at):
                if marker in payload:
                    found.setdefault(name, []).append(vlan)
        return found

    def _until(
        self, nic: str, fence: bytes, fence_at: Collection[str]
    ) -> Iterator[tuple[str, bytes, int | None]]:
        """What comes in anywhere until the fence has come to these, and what is there by then."""
        waiting = set(fence_at)
        deadline = time.monotonic() + LIMIT
        with selectors.DefaultSelector() as selector:
            for name, opened in self._sockets.items():
                selector.register(opened, selectors.EVENT_READ, name)
            while waiting:
                left = deadline - time.monotonic()
                assert left > 0, f"the fence of {nic} did not reach {sorted(waiting)}"
                for key, _ in selector.select(left):
                    for payload, vlan in _frames(self._sockets[key.data]):
                        if fence in payload:
                            waiting.discard(key.data)
                        yield key.data, payload, vlan
        for name, opened in self._sockets.items():
            for payload, vlan in _frames(opened):
                yield name, payload, vlan


def marker() -> bytes:
    return secrets.token_bytes(12)


@contextmanager
def wires(
    nics: Mapping[str, tuple[str, str]], macs: Mapping[str, str], ips: Mapping[str, str]
) -> Iterator[Wires]:
    with ExitStack() as stack:
        made = Wires(nics, macs, ips)
        stack.callback(made.close)
        yield made


def _open(namespace: str, device: str) -> socket.socket:
    def make() -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        made.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        made.bind((device, ETH_P_ALL))
        made.setblocking(False)
        return made

    return netns.inside(namespace, make)


def _frames(opened: socket.socket) -> Iterator[tuple[bytes, int | None]]:
    """What came in: frames without their outer tag, and the VLAN of that tag."""
    while True:
        try:
            frame, more, _, address = opened.recvmsg(65536, 256)
        except BlockingIOError:
            return
        if address[2] == PACKET_OUTGOING:
            continue
        vlan = None
        for level, kind, data in more:
            if level == SOL_PACKET and kind == PACKET_AUXDATA:
                status, _, _, _, _, tci, _ = struct.unpack("IIIHHHH", data[:20])
                vlan = tci & 0xFFF if status & VLAN_VALID else None
        if vlan is None and frame[12:14] in (b"\x81\x00", b"\x88\xa8"):
            vlan = struct.unpack("!H", frame[14:16])[0] & 0xFFF
        yield frame, vlan
