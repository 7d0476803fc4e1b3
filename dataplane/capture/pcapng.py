"""Blocks of a pcapng file (draft-ietf-opsawg-pcapng). Pure: a block is bytes.

A file is a section header, an interface description for each point, the packets, and at the end the
statistics of each interface. Every block is whole in itself, so a file that ends early is still a file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

ETHERNET = 1
"""LINKTYPE_ETHERNET (tcpdump.org/linktypes.html)."""

_SECTION, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
_BYTE_ORDER = 0x1A2B3C4D
_COMMENT = 1
_NAME, _DESCRIPTION, _RESOLUTION = 2, 3, 9
_APPLICATION = 4
_FLAGS = 2
_START, _END, _RECEIVED = 2, 3, 4
_NANOSECONDS = 9  # negative power of ten

_HEAD = struct.Struct("<II")
_TIMES = struct.Struct("<II")
_FIXED = struct.Struct("<IIIIIII")
_LENGTH = struct.Struct("<I")
_FLAG_OPTION = struct.Struct("<HHIHHI")  # the option, the end of options, the block's length again

SNAP_LENGTH = 0x40000
"""Octets of a frame that are kept at most: more than any has."""

INBOUND, OUTBOUND = 1, 2
"""Direction, bits 0 and 1 of a packet's flags."""

UNICAST, MULTICAST, BROADCAST, PROMISCUOUS = 1 << 2, 2 << 2, 3 << 2, 4 << 2
"""How it was received, bits 2 to 4."""


def section(application: str, comment: str = "") -> bytes:
    """The section header: what wrote the file, and what it is about."""
    options = [(_APPLICATION, application.encode())] + ([(_COMMENT, comment.encode())] if comment else [])
    return _block(_SECTION, struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1) + _options(options))


def interface(name: str, description: str) -> bytes:
    """An Ethernet interface with time stamps in nanoseconds; the first one has the number 0."""
    options = [
        (_NAME, name.encode()),
        (_DESCRIPTION, description.encode()),
        (_RESOLUTION, bytes([_NANOSECONDS])),
    ]
    return _block(_INTERFACE, struct.pack("<HHI", ETHERNET, 0, SNAP_LENGTH) + _options(options))


def packet(number: int, time: int, frame: bytes, length: int, flags: int) -> bytes:
    """A packet.

    Args:
        number: the interface that it was seen at.
        time: nanoseconds since 1970.
        frame: the octets that were caught.
        length: how many it had on the wire.
        flags: direction and reception.
    """
    caught = len(frame)
    padding = -caught % 4
    total = _FIXED.size + caught + padding + _FLAG_OPTION.size
    head = _FIXED.pack(_PACKET, total, number, time >> 32, time & 0xFFFFFFFF, caught, length)
    return b"".join((head, frame, bytes(padding), _FLAG_OPTION.pack(_FLAGS, 4, flags, 0, 0, total)))


def statistics(number: int, begin: int, end: int, packets: int, comment: str = "") -> bytes:
    """What an interface counted from `begin` to `end` (nanoseconds since 1970)."""
    options = [(_COMMENT, comment.encode())] if comment else []
    options += [(_START, _stamp(begin)), (_END, _stamp(end)), (_RECEIVED, struct.pack("<Q", packets))]
    return _block(_STATISTICS, struct.pack("<I", number) + _stamp(end) + _options(options))


def _stamp(time: int) -> bytes:
    return _TIMES.pack(time >> 32, time & 0xFFFFFFFF)


def _options(options: Iterable[tuple[int, bytes]]) -> bytes:
    parts = []
    for code, value in options:
        value = value[:0xFFFF]
        parts.append(struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4))
    return b"".join(parts) + bytes(4)


def _block(kind: int, body: bytes) -> bytes:
    total = len(body) + 12
    return _HEAD.pack(kind, total) + body + _LENGTH.pack(total)
