"""The filters, run on an interpreter of classic BPF."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.checks import bpf, packets
from dataplane.checks.packets import ACK, ETH_IPV4, ETH_IPV6, ICMP, ICMP6, RST, SYN, TCP, UDP

RUN = b"\x81\x23\x45\x67\x89\xab\xcd\xef"
A, B = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
MAC = bytes.fromhex("506b8d000001")
A6, B6 = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")
SIZES = {0x00: 4, 0x08: 2, 0x10: 1}


def accepts(program: bytes, frame: bytes) -> bool:
    """What the kernel would do (net/core/filter.c): whether any of the frame passes."""
    code = list(struct.iter_unpack("=HBBI", program))
    a = x = at = 0
    memory = [0] * 16
    for _ in range(len(code)):
        operation, then, other, operand = code[at]
        at += 1
        match operation & 0x07, operation:
            case 0x00, _ if operation & 0xE0 in (0x20, 0x40):
                size = SIZES[operation & 0x18]
                offset = operand + (x if operation & 0xE0 == 0x40 else 0)
                if offset + size > len(frame):
                    return False
                a = int.from_bytes(frame[offset : offset + size])
            case _, 0x60:
                a = memory[operand]
            case _, 0x01:
                x = operand
            case _, 0x02:
                memory[operand] = a
            case _, 0x04:
                a = (a + operand) & 0xFFFFFFFF
            case _, 0x54:
                a &= operand
            case _, 0x64:
                a = (a << operand) & 0xFFFFFFFF
            case _, 0x74:
                a >>= operand
            case _, 0x0C:
                a = (a + x) & 0xFFFFFFFF
            case _, 0x07:
                x = a
            case _, 0x87:
                a = x
            case _, 0x15:
                at += then if a == operand else other
            case _, 0x25:
                at += then if a > operand else other
            case _, 0x45:
                at += then if a & operand else other
            case _, 0x05:
                at += operand
            case _, 0x06:
                return operand > 0
            case _:
                raise AssertionError(f"unknown instruction {operation:#x}")
    raise AssertionError("ran off the end")


def ip(protocol: int, body: bytes) -> bytes:
    return packets.ethernet(MAC, MAC, ETH_IPV4, packets.ipv4(A, B, protocol, body))


def tagged(frame: bytes) -> bytes:
    return frame[:12] + b"\x81\x00\x00\x14" + frame[12:]


def in_geneve(frame: bytes, options: int = 8) -> bytes:
    header = bytes([options // 4, 0]) + b"\x65\x58" + (7).to_bytes(3) + b"\0" + bytes(options)
    return ip(UDP, packets.datagram(A, B, 9999, packets.GENEVE, header + frame))


def segment(flags: int, data: bytes = b"") -> bytes:
    return ip(TCP, packets.segment(A, B, (1000, 80), (1, 2), flags, data))


def ip6(protocol: int, body: bytes) -> bytes:
    return packets.ethernet(MAC, MAC, ETH_IPV6, packets.ip(A6, B6, protocol, body))


def segment6(flags: int, data: bytes = b"") -> bytes:
    return ip6(TCP, packets.segment(A6, B6, (1000, 80), (1, 2), flags, data))


MARKED = packets.payload(RUN, 1, 56)
OURS = {
    "echo": ip(ICMP, packets.echo_request(1, 1, MARKED)),
    "udp": ip(UDP, packets.datagram(A, B, 1, 2, MARKED)),
    "syn": segment(SYN),
    "syn-ack": segment(SYN | ACK),
    "rst": segment(RST),
    "data": segment(ACK, MARKED),
    "icmp error": ip(ICMP, struct.pack("!BBHI", 3, 1, 0, 0) + bytes(28)),
    "arp reply": packets.arp_reply(MAC, A, MAC, B),
    "fence": packets.arp_request(RUN, 1, MAC, A, A),
    "echo6": ip6(ICMP6, packets.echo_request6(A6, B6, 1, 1, MARKED)),
    "udp6": ip6(UDP, packets.datagram(A6, B6, 1, 2, MARKED)),
    "syn6": segment6(SYN),
    "syn-ack6": segment6(SYN | ACK),
    "rst6": segment6(RST),
    "data6": segment6(ACK, MARKED),
    "too big": ip6(ICMP6, struct.pack("!BBHI", 2, 0, 0, 1280) + bytes(48)),
    "unreachable6": ip6(ICMP6, struct.pack("!BBHI", 1, 4, 0, 0) + bytes(48)),
    "fragment6": ip6(packets.FRAGMENT, struct.pack("!BBHI", UDP, 0, 0x10, 1) + bytes(48)),
    "advertisement": packets.reply(MAC, A6, MAC, B6),
    "fence6": packets.announcement(RUN, 1, MAC, A6),
    "question6": packets.question(RUN, 1, MAC, A6, B6),
}
LATER_FRAGMENT = OURS["udp"][:20] + b"\x00\x10" + OURS["udp"][22:]
BACKGROUND = {
    "echo": ip(ICMP, packets.echo_request(1, 1, bytes(56))),
    "udp": ip(UDP, packets.datagram(A, B, 1, 2, bytes(56))),
    "data": segment(ACK, bytes(56)),
    "ack": segment(ACK),
    "arp request": packets.arp_request(bytes(8), 1, MAC, A, B),
    "ipv6": packets.ethernet(MAC, MAC, 0x86DD, bytes(60)),
    "echo6": ip6(ICMP6, packets.echo_request6(A6, B6, 1, 1, bytes(56))),
    "udp6": ip6(UDP, packets.datagram(A6, B6, 1, 2, bytes(56))),
    "data6": segment6(ACK, bytes(56)),
    "listener report": ip6(0, bytes(48)),
    "router solicitation": ip6(ICMP6, struct.pack("!BBHI", 133, 0, 0, 0) + bytes(40)),
    "question6": packets.question(bytes(8), 1, MAC, A6, B6),
    "lldp": packets.ethernet(MAC, MAC, 0x88CC, bytes(60)),
    "other run": ip(UDP, packets.datagram(A, B, 1, 2, packets.payload(RUN[:7] + b"x", 1, 56))),
}
SHORT = {
    "echo": ip(ICMP, packets.echo_request(1, 1, b"")),
    "udp": ip(UDP, packets.datagram(A, B, 1, 2, MARKED[:7])),
    "echo6": ip6(ICMP6, packets.echo_request6(A6, B6, 1, 1, b"")),
    "udp6": ip6(UDP, packets.datagram(A6, B6, 1, 2, MARKED[:7])),
}


@pytest.mark.parametrize("name", OURS)
def test_ours_pass(name: str) -> None:
    for program in (bpf.marked(RUN), bpf.marked(RUN, short=True), bpf.marked(RUN, tunnels=True)):
        assert accepts(program, OURS[name])
        assert accepts(program, tagged(OURS[name]))


def test_later_fragments_pass() -> None:
    assert accepts(bpf.marked(RUN), LATER_FRAGMENT)


@pytest.mark.parametrize("name", BACKGROUND)
def test_background_does_not(name: str) -> None:
    for program in (bpf.marked(RUN), bpf.marked(RUN, short=True), bpf.marked(RUN, tunnels=True)):
        assert not accepts(program, BACKGROUND[name])
        assert not accepts(program, tagged(BACKGROUND[name]))


@pytest.mark.parametrize("name", SHORT)
def test_short_ones_pass_only_when_asked_for(name: str) -> None:
    assert not accepts(bpf.marked(RUN), SHORT[name])
    assert accepts(bpf.marked(RUN, short=True), SHORT[name])


def test_questions_pass_only_when_asked_for() -> None:
    question = BACKGROUND["arp request"]
    rarp = packets.ethernet(packets.BROADCAST, MAC, packets.ETH_RARP, bytes(46))
    neighbour = BACKGROUND["question6"]
    for frame in (question, rarp, neighbour, tagged(question), tagged(rarp), tagged(neighbour)):
        assert not accepts(bpf.marked(RUN), frame)
        assert accepts(bpf.marked(RUN, asking=True), frame)


@pytest.mark.parametrize("options", [0, 8, 60])
@pytest.mark.parametrize(
    "name", [name for name, frame in OURS.items() if frame[12:14] in (b"\x08\x00", b"\x86\xdd")]
)
def test_in_a_tunnel(name: str, options: int) -> None:
    frame = in_geneve(OURS[name], options)
    assert not accepts(bpf.marked(RUN), frame)
    assert accepts(bpf.marked(RUN, tunnels=True), frame)
    assert accepts(bpf.marked(RUN, tunnels=True), tagged(frame))


@pytest.mark.parametrize("name", BACKGROUND)
def test_background_in_a_tunnel(name: str) -> None:
    assert not accepts(bpf.marked(RUN, tunnels=True), in_geneve(BACKGROUND[name]))


def test_ip_options_are_skipped() -> None:
    packet = OURS["udp"][14:]
    packet = (
        b"\x47" + packet[1:2] + struct.pack("!H", len(packet) + 8) + packet[4:20] + bytes(8) + packet[20:]
    )
    assert accepts(bpf.marked(RUN), packets.ethernet(MAC, MAC, ETH_IPV4, packet))


def test_nothing() -> None:
    assert not accepts(bpf.nothing(), OURS["echo"])


@given(st.binary(max_size=120), st.booleans(), st.booleans(), st.booleans())
def test_every_program_ends(frame: bytes, short: bool, asking: bool, tunnels: bool) -> None:
    for ethertype in (b"", b"\x08\x00", b"\x08\x06", b"\x81\x00"):
        accepts(bpf.marked(RUN, short=short, asking=asking, tunnels=tunnels), bytes(12) + ethertype + frame)


def test_fits_the_kernels_limit() -> None:
    """BPF_MAXINSNS is 4096; conditional jumps reach 255 instructions."""
    program = bpf.marked(RUN, short=True, asking=True, tunnels=True)
    assert len(program) // 8 < 255
