"""Fragments put together again: IPv4's (RFC 791, 3.2) and IPv6's (RFC 8200, 4.5). Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from dataplane.checks.packets import FRAGMENT, IPV6_HEADER

_FRAGMENT_HEADER = 8


class Reassembly:
    """Puts fragments together again, one stream of them per key."""

    LIMIT = 64
    """Datagrams under way; the oldest goes when there are more."""

    def __init__(self) -> None:
        self._parts: dict[Hashable, dict[int, tuple[bytes, bool]]] = {}

    def add(self, stream: Hashable, packet: bytes) -> bytes | None:
        """A whole IPv4 packet as it came, or once its last fragment is here; None until then."""
        field = (packet[6] << 8) | packet[7]
        offset, more = (field & 0x1FFF) * 8, bool(field & 0x2000)
        if not offset and not more:
            return packet
        header = (packet[0] & 0xF) * 4
        key = (stream, packet[4:6], packet[9], packet[12:20])
        part = packet[header : (packet[2] << 8) | packet[3]]
        body = self._whole(key, offset, part, more)
        if not body:
            return None
        length = min(header + len(body), 0xFFFF)
        return packet[:2] + length.to_bytes(2) + packet[4:6] + b"\0\0" + packet[8:header] + body

    def add6(self, stream: Hashable, packet: bytes) -> bytes | None:
        """The same of an IPv6 packet, whose fragment header comes first."""
        start = IPV6_HEADER + _FRAGMENT_HEADER
        if packet[6] != FRAGMENT or len(packet) < start:
            return packet
        field = (packet[42] << 8) | packet[43]
        part = packet[start : IPV6_HEADER + ((packet[4] << 8) | packet[5])]
        body = self._whole((stream, packet[8:40], packet[44:48]), field & 0xFFF8, part, bool(field & 1))
        if not body:
            return None
        length = min(len(body), 0xFFFF)
        return packet[:4] + length.to_bytes(2) + packet[40:41] + packet[7:40] + body

    def _whole(self, key: Hashable, offset: int, part: bytes, more: bool) -> bytes:
        parts = self._parts.setdefault(key, {})
        parts[offset] = (part, more)
        body = b"".join(_joined(parts))
        if not body:
            while len(self._parts) > self.LIMIT:
                del self._parts[next(iter(self._parts))]
            return b""
        del self._parts[key]
        return body


def _joined(parts: dict[int, tuple[bytes, bool]]) -> Iterator[bytes]:
    """The parts in order when nothing is missing, else nothing."""
    found, at, more = [], 0, True
    while more:
        if at not in parts:
            return
        body, more = parts[at]
        found.append(body)
        at += len(body)
        if not body:
            return
    yield from found
