"""Classic BPF: which frames the kernel hands to an observer, so that background traffic is never read.

Instructions as in Linux' Documentation/networking/filter.rst; a load beyond the end of the frame
rejects it. Pure: a filter is bytes, an array of `struct sock_filter`.
"""

from __future__ import annotations

import struct

from dataplane.checks import packets

_LD_W, _LD_H, _LD_B, _LD_MEM = 0x20, 0x28, 0x30, 0x60
_LD_W_X, _LD_H_X, _LD_B_X = 0x40, 0x48, 0x50
_LDX_IMM, _ST = 0x01, 0x02
_ADD, _AND, _SHIFT_LEFT, _SHIFT_RIGHT, _ADD_X, _TAX, _TXA = 0x04, 0x54, 0x64, 0x74, 0x0C, 0x07, 0x87
_IF_EQUAL, _IF_GREATER, _IF_ANY_BIT = 0x15, 0x25, 0x45
_JUMP, _RETURN = 0x05, 0x06

_WHOLE = 0x40000
_LENGTH, _PROTOCOL = 0, 1  # cells of the scratch memory


def nothing() -> bytes:
    """A filter that lets nothing through: for sockets that only send."""
    return struct.pack("=HBBI", _RETURN, 0, 0, 0)


def marked(run: bytes, *, short: bool = False, asking: bool = False, tunnels: bool = False) -> bytes:
    """Frames that carry this run's mark, TCP's SYN and RST, ICMP errors, ARP replies, and fragments.

    Of IPv4 and IPv6; neighbour advertisements are IPv6's ARP replies.

    802.1Q tags may stand in the frame or, as the kernel has it on receipt, beside it.

    Args:
        run: the run's part of the mark.
        short: every ICMP and UDP packet too that is too short to hold a whole mark.
        asking: every ARP request, neighbour solicitation and RARP too.
        tunnels: the same inside Geneve (RFC 8926).
    """
    program = _Program(run, short, asking)
    say = program.say
    say(_LD_H, 12)
    say(_IF_EQUAL, packets.ETH_IPV4, "ip14")
    say(_IF_EQUAL, packets.ETH_IPV6, "six14")
    say(_IF_EQUAL, packets.ETH_ARP, "arp14")
    if asking:
        say(_IF_EQUAL, packets.ETH_RARP, "accept")
    say(_IF_EQUAL, packets.ETH_VLAN, "tagged")
    say(_IF_EQUAL, packets.ETH_QINQ, "tagged", "reject")
    say(_LD_H, 16, at="tagged")
    say(_IF_EQUAL, packets.ETH_IPV4, "ip18")
    say(_IF_EQUAL, packets.ETH_IPV6, "six18")
    say(_IF_EQUAL, packets.ETH_ARP, "arp18", "accept" if asking else "reject")
    for base in (14, 18):
        program.arp(base)
    say(_LDX_IMM, 14, at="six14")
    say(_JUMP, 1)
    say(_LDX_IMM, 18, at="six18")
    program.ipv6("outer")
    say(_LDX_IMM, 14, at="ip14")
    say(_JUMP, 1)
    say(_LDX_IMM, 18, at="ip18")
    program.ipv4("outer")
    program.transport("outer", "geneve" if tunnels else "")
    if tunnels:
        say(_LD_B_X, 8, at="geneve")  # X is at the UDP header; the options' length counts 4 octets
        say(_AND, 0x3F)
        say(_SHIFT_LEFT, 2)
        say(_ADD, 8 + 8)
        say(_ADD_X)
        say(_TAX)
        say(_LD_H_X, 12)
        say(_IF_EQUAL, packets.ETH_IPV4, "inner ipv4")
        say(_IF_EQUAL, packets.ETH_IPV6, "", "reject")
        program.skip(14)
        program.ipv6("inner")
        program.skip(14, at="inner ipv4")
        program.ipv4("inner")
        program.transport("inner", "")
    say(_RETURN, _WHOLE, at="accept")
    say(_RETURN, 0, at="reject")
    return program.assembled()


class _Program:
    """Instructions with labels to jump to, all of them forward."""

    def __init__(self, run: bytes, short: bool, asking: bool) -> None:
        self._high, self._low = struct.unpack("!II", run)
        self._short, self._asking = short, asking
        self._code: list[tuple[int, int, str, str]] = []
        self._places: dict[str, int] = {}

    def say(self, operation: int, operand: int = 0, then: str = "", other: str = "", at: str = "") -> None:
        """One instruction; where to go on when a condition holds and when not, "" for the next one."""
        if at:
            self._places[at] = len(self._code)
        self._code.append((operation, operand, then, other))

    def assembled(self) -> bytes:
        def jump(label: str, index: int) -> int:
            return self._places[label] - index - 1 if label else 0

        return b"".join(
            struct.pack("=HBBI", operation, jump(then, index), jump(other, index), operand)
            for index, (operation, operand, then, other) in enumerate(self._code)
        )

    def arp(self, base: int) -> None:
        """The ARP packet at this offset."""
        self.say(_LD_H, base + 6, at=f"arp{base}")
        self.say(_IF_EQUAL, 2, "accept")
        if self._asking:
            self.say(_IF_EQUAL, 1, "accept")
        self._mark(_LD_W, base + 28)

    def skip(self, octets: int, at: str = "") -> None:
        """X moves on."""
        self.say(_TXA, at=at)
        self.say(_ADD, octets)
        self.say(_TAX)

    def ipv6(self, name: str) -> None:
        """The IPv6 packet that X points to, as far as the header of what it carries."""
        say = self.say
        say(_LD_B_X, 6)
        say(_IF_EQUAL, packets.FRAGMENT, "accept")
        say(_ST, _PROTOCOL)
        say(_LD_H_X, 4)
        say(_ADD, 20)  # as IPv4 counts it
        say(_ST, _LENGTH)
        self.skip(packets.IPV6_HEADER)
        say(_LD_MEM, _PROTOCOL)
        say(_IF_EQUAL, packets.UDP, f"{name} udp")
        say(_IF_EQUAL, packets.TCP, f"{name} tcp")
        say(_IF_EQUAL, packets.ICMP6, "", "reject")
        say(_LD_B_X, 0)
        for kind in (*packets.ICMP6_ERRORS, packets.ADVERTISEMENT):
            say(_IF_EQUAL, kind, "accept")
        if self._asking:
            say(_IF_EQUAL, packets.SOLICITATION, "accept", f"{name} payload")
        else:
            # Its mark stands behind the packet, the last of which is an option of 8 octets.
            say(_IF_EQUAL, packets.SOLICITATION, "", f"{name} payload")
            self._mark(_LD_W_X, 32)

    def ipv4(self, name: str) -> None:
        """The IPv4 packet that X points to, as far as the header of what it carries."""
        say = self.say
        say(_LD_H_X, 6)
        say(_IF_ANY_BIT, 0x1FFF, "accept")
        say(_LD_H_X, 2)
        say(_ST, _LENGTH)
        say(_LD_B_X, 9)
        say(_ST, _PROTOCOL)
        say(_LD_B_X, 0)
        say(_AND, 0x0F)
        say(_SHIFT_LEFT, 2)
        say(_ADD_X)
        say(_TAX)
        say(_LD_MEM, _PROTOCOL)
        say(_IF_EQUAL, packets.ICMP, f"{name} icmp")
        say(_IF_EQUAL, packets.UDP, f"{name} udp")
        say(_IF_EQUAL, packets.TCP, "", "reject")

    def transport(self, name: str, geneve: str) -> None:
        """TCP, UDP and ICMP, at X; `geneve` is where to go on with what is in a tunnel."""
        say = self.say
        say(_LD_B_X, 13, at=f"{name} tcp")
        say(_IF_ANY_BIT, packets.SYN | packets.RST, "accept")
        say(_LD_B_X, 12)
        say(_AND, 0xF0)
        say(_SHIFT_RIGHT, 2)
        say(_ADD_X)
        say(_TAX)
        self._mark(_LD_W_X, 0)

        say(_LD_B_X, 0, at=f"{name} icmp")
        for error in packets.ICMP_ERRORS:
            say(_IF_EQUAL, error, "accept")
        if geneve:
            say(_JUMP, 2)
            say(_LD_H_X, 2, at=f"{name} udp")
            say(_IF_EQUAL, packets.GENEVE, geneve)
        say(_LD_MEM, _LENGTH, at=f"{name} payload")
        if not geneve:
            self._places[f"{name} udp"] = self._places[f"{name} payload"]
        if self._short:
            say(_IF_GREATER, 20 + 8 + packets.MARK_LENGTH - 1, "", "accept")
        self._mark(_LD_W_X, 8)

    def _mark(self, load: int, offset: int) -> None:
        self.say(load, offset)
        self.say(_IF_EQUAL, self._high, "", "reject")
        self.say(load, offset + 4)
        self.say(_IF_EQUAL, self._low, "accept", "reject")
