"""Classic BPF: which frames the kernel hands to an observer, so that background traffic is never read.

Instructions as in Linux' Documentation/networking/filter.rst; a load beyond the end of the frame
rejects it. Pure: a filter is bytes, an array of `struct sock_filter`.
"""

from __future__ import annotations

import struct

from dataplane.checks.packets import (
    ETH_ARP,
    ETH_IPV4,
    ETH_QINQ,
    ETH_VLAN,
    ICMP,
    MARK_LENGTH,
    RST,
    SYN,
    TCP,
    UDP,
)

_LD_W, _LD_H, _LD_B = 0x20, 0x28, 0x30
_LD_W_X, _LD_B_X = 0x40, 0x50
_LDX_HEADER = 0xB1  # X = 4 * (packet[k] & 0xf), the length of an IPv4 header
_AND, _SHIFT_RIGHT, _ADD_X, _SUB_X, _TAX = 0x54, 0x74, 0x0C, 0x1C, 0x07
_IF_EQUAL, _IF_GREATER, _IF_ANY_BIT = 0x15, 0x25, 0x45
_JUMP, _RETURN = 0x05, 0x06

_WHOLE = 0x40000


def nothing() -> bytes:
    """A filter that lets nothing through: for sockets that only send."""
    return struct.pack("=HBBI", _RETURN, 0, 0, 0)


def marked(run: bytes, short: bool = False) -> bytes:
    """Frames that carry this run's mark, TCP's SYN and RST, ICMP errors, ARP replies, and later fragments.

    With `short`, every ICMP and UDP packet too that is too short to hold a whole mark. 802.1Q tags may
    stand in the frame or, as the kernel has it on receipt, beside it.
    """
    code: list[tuple[str, int, int, str, str]] = []

    def say(operation: int, operand: int = 0, then: str = "", other: str = "", at: str = "") -> None:
        code.append((at, operation, operand, then, other))

    high, low = struct.unpack("!II", run)

    def is_marked(load: int, offset: int) -> None:
        say(load, offset)
        say(_IF_EQUAL, high, "", "reject")
        say(load, offset + 4)
        say(_IF_EQUAL, low, "accept", "reject")

    say(_LD_H, 12)
    say(_IF_EQUAL, ETH_IPV4, "ip14")
    say(_IF_EQUAL, ETH_ARP, "arp14")
    say(_IF_EQUAL, ETH_VLAN, "tagged")
    say(_IF_EQUAL, ETH_QINQ, "tagged", "reject")
    say(_LD_H, 16, at="tagged")
    say(_IF_EQUAL, ETH_IPV4, "ip18")
    say(_IF_EQUAL, ETH_ARP, "arp18", "reject")
    for base in (14, 18):
        say(_LD_H, base + 6, at=f"arp{base}")
        say(_IF_EQUAL, 2, "accept")
        is_marked(_LD_W, base + 28)

        say(_LD_H, base + 6, at=f"ip{base}")
        say(_IF_ANY_BIT, 0x1FFF, "accept")
        say(_LDX_HEADER, base)
        say(_LD_B, base + 9)
        say(_IF_EQUAL, ICMP, f"icmp{base}")
        say(_IF_EQUAL, UDP, f"behind8-{base}")
        say(_IF_EQUAL, TCP, f"tcp{base}", "reject")

        say(_LD_B_X, base, at=f"icmp{base}")
        for error in (3, 5, 11, 12):
            say(_IF_EQUAL, error, "accept")
        say(_LD_H, base + 2, at=f"behind8-{base}")
        say(_SUB_X)
        if short:
            say(_IF_GREATER, 8 + MARK_LENGTH - 1, "", "accept")
        is_marked(_LD_W_X, base + 8)

        say(_LD_B_X, base + 13, at=f"tcp{base}")
        say(_IF_ANY_BIT, SYN | RST, "accept")
        say(_LD_B_X, base + 12)
        say(_AND, 0xF0)
        say(_SHIFT_RIGHT, 2)
        say(_ADD_X)
        say(_TAX)
        is_marked(_LD_W_X, base)
    say(_RETURN, _WHOLE, at="accept")
    say(_RETURN, 0, at="reject")

    places = {at: index for index, (at, *_) in enumerate(code) if at}

    def jump(label: str, index: int) -> int:
        return places[label] - index - 1 if label else 0

    return b"".join(
        struct.pack("=HBBI", operation, jump(then, index), jump(other, index), operand)
        for index, (_, operation, operand, then, other) in enumerate(code)
    )
