"""Which packets a capture takes: tcpdump's expressions, for the frame and for what it carries.

An expression is compiled by libpcap itself (pcap-filter(7)), which tcpdump brings along. It is asked about
the frame as it is on the wire, about the frame without its VLAN tag, and about the frame in its Geneve
tunnel; one yes is enough. So `icmp and host 10.10.0.11` follows a packet from a VM's NIC over a tagged
uplink or through a tunnel, and `vlan 10` or `udp port 6081` mean what they say.

The kernel drops early what can never fit; it cannot do the whole work, since it keeps the VLAN tag of a
received frame beside the frame, where an expression does not look (packet(7), PACKET_AUXDATA).
"""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from dataplane.checks.packets import ETH_IPV4, ETH_QINQ, ETH_VLAN, GENEVE, UDP
from netctl.errors import InputError, MachineError

LIBRARIES = ("libpcap.so.0.8", "libpcap.so.1", "libpcap.so")
"""What libpcap is called: on Debian and Ubuntu, elsewhere, and with its development files only."""

_SNAP_LENGTH = 0x40000
_NETMASK_UNKNOWN = 0xFFFFFFFF
_ETHERNET = 1

# Classic BPF (Linux' Documentation/networking/filter.rst), as far as the head of a program needs it.
_LD_W, _LD_H, _LD_B, _LD_H_X, _LDX_HEADER = 0x20, 0x28, 0x30, 0x48, 0xB1
_IF_EQUAL, _IF_ANY_BIT, _RETURN = 0x15, 0x45, 0x06
_ANCILLARY = 0xFFFFF000  # SKF_AD_OFF
_DEVICE, _TAGGED = _ANCILLARY + 8, _ANCILLARY + 48

_MOST_DEVICES = 1000


class _Instructions(ctypes.Structure):
    """struct bpf_program (pcap/bpf.h)."""

    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.c_void_p))


class _Header(ctypes.Structure):
    """struct pcap_pkthdr (pcap/pcap.h)."""

    _fields_ = (
        ("seconds", ctypes.c_long),
        ("microseconds", ctypes.c_long),
        ("caught", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
    )


class Expression:
    """A compiled expression. `program` is its classic BPF code, for untagged frames."""

    def __init__(self, text: str) -> None:
        """Compile an expression.

        Raises:
            InputError: libpcap does not understand it; has its words.
            MachineError: there is no libpcap.
        """
        self._library = _library()
        self._compiled = _Instructions()
        handle = self._library.pcap_open_dead(_ETHERNET, _SNAP_LENGTH)
        try:
            arguments = (ctypes.byref(self._compiled), text.encode(), 1, _NETMASK_UNKNOWN)
            if self._library.pcap_compile(handle, *arguments) != 0:
                words = self._library.pcap_geterr(handle).decode(errors="replace")
                raise InputError(
                    f"the filter {text!r}: {words}",
                    "It is an expression as tcpdump takes it, such as 'icmp and host 10.10.0.11'.",
                )
        finally:
            self._library.pcap_close(handle)
        self.program = ctypes.string_at(self._compiled.instructions, 8 * self._compiled.length)
        self._header = _Header()

    def accepts(self, frame: bytes) -> bool:
        """Whether it holds for a frame, tags included, or for one of the frames in it."""
        return any(map(self._holds, layers(frame)))

    def _holds(self, frame: bytes) -> bool:
        self._header.caught = self._header.length = len(frame)
        arguments = ctypes.byref(self._compiled), ctypes.byref(self._header), frame
        return bool(self._library.pcap_offline_filter(*arguments))

    def __del__(self) -> None:
        if getattr(self, "program", None) is not None:
            self._library.pcap_freecode(ctypes.byref(self._compiled))


def _library() -> Any:
    for name in LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.pcap_open_dead.restype = ctypes.c_void_p
        library.pcap_open_dead.argtypes = (ctypes.c_int, ctypes.c_int)
        library.pcap_compile.argtypes = (
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_uint32,
        )
        library.pcap_geterr.restype = ctypes.c_char_p
        library.pcap_geterr.argtypes = (ctypes.c_void_p,)
        library.pcap_close.argtypes = (ctypes.c_void_p,)
        library.pcap_freecode.argtypes = (ctypes.c_void_p,)
        library.pcap_offline_filter.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
        return library
    raise MachineError("a filter needs libpcap, which is not here", "apt-get install tcpdump brings it.")


def layers(frame: bytes) -> Iterator[bytes]:
    """The frame, the frame without its tags, and the same of the frame in its tunnel."""
    yield frame
    while len(frame) >= 18 and (frame[12] << 8 | frame[13]) in (ETH_VLAN, ETH_QINQ):
        frame = frame[:12] + frame[16:]
        yield frame
    inner = tunnelled(frame)
    if inner:
        yield from layers(inner)


def tunnelled(frame: bytes) -> bytes:
    """The frame that an untagged one carries in Geneve over IPv4 (RFC 8926), b"" if it does not."""
    if len(frame) < 42 or frame[12:14] != b"\x08\x00" or frame[23] != UDP:
        return b""
    header = 14 + (frame[14] & 0xF) * 4
    if frame[20] & 0x1F or frame[21] or frame[header + 2 : header + 4] != struct.pack("!H", GENEVE):
        return b""
    start = header + 16
    if len(frame) < start or frame[start - 6 : start - 4] != b"\x65\x58":  # Ethernet bridging
        return b""
    return frame[start + (frame[start - 8] & 0x3F) * 4 :]


def kernel_program(without: Collection[int], expression: Expression | None) -> bytes:
    """What the kernel need not drop: not these devices (by index); what an expression may be true of.

    Devices are told by those that are *not* wanted, so that one which is made anew meanwhile is seen too.
    """
    code = [(_LD_W, 0, 0, _DEVICE)]
    for index in sorted(without)[:_MOST_DEVICES]:
        code += [(_IF_EQUAL, 0, 1, index), (_RETURN, 0, 0, 0)]
    if expression is None:
        code.append((_RETURN, 0, 0, _SNAP_LENGTH))
        return _packed(code)
    # Tagged and tunnelled frames are for `Expression.accepts`; all others are as the expression expects.
    code += [  # jumps count from the next one; the last takes the frame, behind it is the expression
        (_LD_W, 0, 0, _TAGGED),
        (_IF_EQUAL, 0, 11, 0),
        (_LD_H, 0, 0, 12),
        (_IF_EQUAL, 9, 0, ETH_VLAN),
        (_IF_EQUAL, 8, 0, ETH_QINQ),
        (_IF_EQUAL, 0, 8, ETH_IPV4),
        (_LD_B, 0, 0, 23),
        (_IF_EQUAL, 0, 6, UDP),
        (_LD_H, 0, 0, 20),
        (_IF_ANY_BIT, 4, 0, 0x1FFF),
        (_LDX_HEADER, 0, 0, 14),
        (_LD_H_X, 0, 0, 16),
        (_IF_EQUAL, 0, 1, GENEVE),
        (_RETURN, 0, 0, _SNAP_LENGTH),
    ]
    return _packed(code) + expression.program


def _packed(code: Sequence[tuple[int, int, int, int]]) -> bytes:
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


# --- names ----------------------------------------------------------------------------------------

_NAMED = re.compile(
    r"\b((?:host|src|dst)\s+)(?!(?:host|net|port|portrange|gateway|and|or|not)\b)([a-z][a-z0-9./-]*)"
)
"""A name behind the words that want an address."""


def with_addresses(text: str, addresses: Mapping[str, Sequence[str]]) -> str:
    """The expression with the lab's names behind `host`, `src` and `dst` replaced by their addresses."""

    def replace(match: re.Match[str]) -> str:
        name = match[2]
        found = addresses.get(name)
        if found is None:
            return match[0]
        if not found:
            raise InputError(
                f"the filter {text!r}: {name} has no address that netctl knows", "Write one instead."
            )
        return f"{match[1]}{found[0] if len(found) == 1 else '(' + ' or '.join(found) + ')'}"

    return _NAMED.sub(replace, text)
