from __future__ import annotations

import random
import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.checks import packets
from dataplane.checks.fragments import Reassembly
from dataplane.checks.packets import Kind

RUN = b"\x01\x23\x45\x67\x89\xab\xcd\xef"
A, B = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
MAC = bytes.fromhex("506b8d000001")
A6, B6 = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")


def echo(size: int = 56, number: int = 7) -> bytes:
    body = packets.echo_request(0x1234, 5, packets.payload(RUN, number, size))
    return packets.ipv4(A, B, packets.ICMP, body)


def fragments(packet: bytes, mtu: int, identification: int = 77) -> list[bytes]:
    header, body = packet[:20], packet[20:]
    step = (mtu - 20) // 8 * 8
    found = []
    for at in range(0, len(body), step):
        piece = body[at : at + step]
        field = (at // 8) | (0x2000 if at + step < len(body) else 0)
        changed = struct.pack("!HHH", 20 + len(piece), identification, field)
        found.append(header[:2] + changed + header[8:] + piece)
    return found


def test_checksum_of_rfc_1071() -> None:
    assert packets.checksum(bytes.fromhex("0001f203f4f5f6f7")) == ~0xDDF2 & 0xFFFF


@pytest.mark.parametrize("size", [0, 1, 8, 11, 12, 13, 256, 1400, 65000])
def test_payload_has_its_size_and_begins_with_the_mark(size: int) -> None:
    data = packets.payload(RUN, 0x01020304, size)
    assert len(data) == size
    assert data[:12] == (RUN + b"\1\2\3\4")[:size]


def test_payloads_differ_beyond_the_mark() -> None:
    assert packets.payload(RUN, 1, 40)[12:] != packets.payload(RUN, 2, 40)[12:]


def test_echo_request() -> None:
    found = packets.read_ipv4(echo(), RUN)
    assert found is not None
    assert (found.kind, found.number) == (Kind.REQUEST, 7)
    assert (found.sport, found.dport) == (0x1234, 5)
    assert (IPv4Address(found.source), IPv4Address(found.target)) == (A, B)
    assert packets.checksum(echo()[20:]) == 0


def test_another_runs_mark_is_not_ours() -> None:
    found = packets.read_ipv4(echo(), b"x" * 8)
    assert found is not None and found.number == -1


def test_ethernet_padding_is_no_payload() -> None:
    found = packets.read_ipv4(echo(3) + b"\0" * 20, RUN)
    assert found is not None and found.payload == RUN[:3]


def test_udp_has_a_right_checksum() -> None:
    body = packets.datagram(A, B, 1000, 53, b"odd")
    assert packets.checksum(packets._pseudo(A, B, packets.UDP, len(body)) + body) == 0
    found = packets.read_ipv4(packets.ipv4(A, B, packets.UDP, body), RUN)
    assert found is not None and (found.sport, found.dport, found.payload) == (1000, 53, b"odd")


def test_tcp() -> None:
    def read(flags: int, numbers: tuple[int, int], data: bytes = b"") -> packets.Packet:
        body = packets.segment(A, B, (1000, 80), numbers, flags, data)
        assert packets.checksum(packets._pseudo(A, B, packets.TCP, len(body)) + body) == 0
        found = packets.read_ipv4(packets.ipv4(A, B, packets.TCP, body), RUN)
        assert found is not None
        return found

    syn = read(packets.SYN, (4711, 0))
    assert (syn.kind, syn.isn) == (Kind.SYN, 4711)
    syn_ack = read(packets.SYN | packets.ACK, (9, 4712))
    assert (syn_ack.kind, syn_ack.isn, syn_ack.sequence) == (Kind.SYN_ACK, 4711, 9)
    assert read(packets.SYN | packets.ACK, (9, 0)).isn == 0xFFFFFFFF
    assert read(packets.RST, (1, 1)).kind is Kind.RESET
    data = read(packets.ACK, (4712, 10), packets.payload(RUN, 3, 100))
    assert (data.kind, data.number, len(data.payload)) == (Kind.DATA, 3, 100)


def test_icmp_error_quotes_the_packet() -> None:
    quoted = packets.ipv4(A, B, packets.TCP, packets.segment(A, B, (1000, 80), (4711, 0), packets.SYN))[:28]
    error = packets.ipv4(B, A, packets.ICMP, struct.pack("!BBHI", 3, 13, 0, 0) + quoted)
    found = packets.read_ipv4(error, RUN)
    assert found is not None and found.inner is not None
    assert (found.kind, found.error) == (Kind.ERROR, (3, 13))
    assert (found.inner.sport, found.inner.isn) == (1000, 4711)


def test_geneve() -> None:
    frame = packets.ethernet(MAC, MAC, packets.ETH_IPV4, echo())
    option = b"\x01\x02\x80\x01\0\0\0\x05"
    geneve = bytes([2, 0]) + b"\x65\x58" + (4242).to_bytes(3) + b"\0" + option + frame
    outer = packets.ipv4(B, A, packets.UDP, packets.datagram(B, A, 5000, packets.GENEVE, geneve))
    found = packets.read_ipv4(outer, RUN)
    assert found is not None
    assert (found.kind, found.number, found.tunnel) == (Kind.REQUEST, 7, 4242)


def test_arp() -> None:
    frame = packets.arp_request(RUN, 9, MAC, A, B, vlan=20)
    ethertype, vlan, start = packets.untagged(frame)
    assert (ethertype, vlan) == (packets.ETH_ARP, 20)
    found = packets.read_arp(frame[start:], RUN)
    assert found is not None
    assert (found.kind, found.number, found.payload) == (Kind.ARP_REQUEST, 9, MAC)
    reply = packets.arp_reply(MAC, A, MAC, B)
    assert len(reply) == 60
    answered = packets.read_arp(reply[14:], RUN)
    assert answered is not None and (answered.kind, answered.number) == (Kind.ARP_REPLY, -1)


@given(size=st.integers(0, 20000), mtu=st.integers(68, 1500), seed=st.integers())
def test_reassembly_in_any_order(size: int, mtu: int, seed: int) -> None:
    packet = echo(size)
    parts = fragments(packet, mtu)
    random.Random(seed).shuffle(parts)
    reassembly = Reassembly()
    whole = [done for part in parts if (done := reassembly.add("nic", part))]
    assert len(whole) == 1
    assert packets.read_ipv4(whole[0], RUN) == packets.read_ipv4(packet, RUN)


def test_reassembly_keeps_streams_apart_and_forgets_the_oldest() -> None:
    reassembly = Reassembly()
    first, second = fragments(echo(2000), 1500)
    assert reassembly.add("a", first) is None
    assert reassembly.add("b", second) is None
    for number in range(Reassembly.LIMIT + 1):
        reassembly.add("c", fragments(echo(2000), 1500, 1000 + number)[0])
    assert reassembly.add("a", second) is None


def test_a_lost_fragment_is_no_packet() -> None:
    reassembly = Reassembly()
    parts = fragments(echo(5000), 1500)
    assert not any(reassembly.add("nic", part) for part in parts[:1] + parts[2:])


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_or_left(data: bytes) -> None:
    packets.untagged(data)
    packets.read_arp(data, RUN)
    packets.read_ipv4(data, RUN)


@given(st.integers(0, 97), st.integers(0, 255))
def test_a_bit_of_an_echo_request_changed(at: int, value: int) -> None:
    frame = bytearray(packets.ethernet(MAC, MAC, packets.ETH_IPV4, echo()))
    frame[at] = value
    ethertype, _, start = packets.untagged(bytes(frame))
    if ethertype == packets.ETH_IPV4 and len(frame) >= start + 20:
        whole = Reassembly().add("nic", bytes(frame[start:]))
        if whole:
            packets.read_ipv4(whole, RUN)


# --- IPv6


def echo6(size: int = 56, number: int = 7) -> bytes:
    body = packets.echo_request6(A6, B6, 0x1234, 5, packets.payload(RUN, number, size))
    return packets.ip(A6, B6, packets.ICMP6, body)


def fragments6(packet: bytes, mtu: int, identification: int = 77) -> list[bytes]:
    body, step = packet[40:], (mtu - 48) // 8 * 8
    found = []
    for at in range(0, len(body), step):
        piece = body[at : at + step]
        header = struct.pack("!BBHI", packet[6], 0, at | (at + step < len(body)), identification)
        length = struct.pack("!H", 8 + len(piece))
        found.append(packet[:4] + length + bytes([packets.FRAGMENT]) + packet[7:40] + header + piece)
    return found


def test_echo_request_of_ipv6() -> None:
    found = packets.read_ipv6(echo6() + b"padding", RUN)
    assert found is not None
    assert (found.kind, found.number, found.version) == (Kind.REQUEST, 7, 6)
    assert (found.sport, found.dport) == (0x1234, 5)
    assert (IPv6Address(found.source), IPv6Address(found.target)) == (A6, B6)
    body = echo6()[40:]
    assert packets.checksum(packets._pseudo(A6, B6, packets.ICMP6, len(body)) + body) == 0


def test_udp_and_tcp_over_ipv6() -> None:
    for protocol, body in (
        (packets.UDP, packets.datagram(A6, B6, 1000, 53, b"odd")),
        (packets.TCP, packets.segment(A6, B6, (1000, 53), (4711, 0), packets.SYN)),
    ):
        assert packets.checksum(packets._pseudo(A6, B6, protocol, len(body)) + body) == 0
        found = packets.read_ipv6(packets.ip(A6, B6, protocol, body), RUN)
        assert found is not None and (found.sport, found.dport, found.version) == (1000, 53, 6)


@pytest.mark.parametrize("error", [(1, 1), (1, 4), (2, 0), (3, 0)])
def test_icmp6_error_quotes_the_packet(error: tuple[int, int]) -> None:
    quotes = [echo6(), fragments6(echo6(4000), 1500)[0]]
    for quoted in quotes:
        told = packets.ip(B6, A6, packets.ICMP6, struct.pack("!BBHI", *error, 0, 1300) + quoted)
        found = packets.read_ipv6(told, RUN)
        assert found is not None and found.inner is not None
        assert (found.kind, found.error, found.inner.number) == (Kind.ERROR, error, 7)


def test_neighbours_speak_as_arp_does() -> None:
    frame = packets.question(RUN, 9, MAC, A6, B6, vlan=20)
    ethertype, vlan, start = packets.untagged(frame)
    assert (ethertype, vlan) == (packets.ETH_IPV6, 20)
    asked = packets.read_ipv6(frame[start:], RUN)
    assert asked is not None
    assert (asked.kind, asked.number, asked.payload) == (Kind.ARP_REQUEST, 9, MAC)
    assert (IPv6Address(asked.source), IPv6Address(asked.target)) == (A6, B6)
    answer = packets.read_ipv6(packets.reply(MAC, B6, MAC, A6)[14:], RUN)
    assert answer is not None and (answer.kind, answer.payload) == (Kind.ARP_REPLY, MAC)
    assert (IPv6Address(answer.source), IPv6Address(answer.target)) == (B6, A6)
    told = packets.read_ipv6(packets.announcement(RUN, 3, MAC, A6)[14:], RUN)
    assert told is not None and (told.kind, told.number, told.source) == (Kind.ARP_REPLY, 3, int(A6))


def test_geneve_carries_ipv6() -> None:
    frame = packets.ethernet(MAC, MAC, packets.ETH_IPV6, echo6())
    geneve = bytes(2) + b"\x65\x58" + (4242).to_bytes(3) + b"\0" + frame
    outer = packets.ipv4(B, A, packets.UDP, packets.datagram(B, A, 5000, packets.GENEVE, geneve))
    found = packets.read_ipv4(outer, RUN)
    assert found is not None
    assert (found.kind, found.number, found.tunnel, found.version) == (Kind.REQUEST, 7, 4242, 6)


@given(size=st.integers(0, 20000), mtu=st.integers(1280, 1500), seed=st.integers())
def test_reassembly_of_ipv6_in_any_order(size: int, mtu: int, seed: int) -> None:
    packet = echo6(size)
    parts = fragments6(packet, mtu)
    random.Random(seed).shuffle(parts)
    reassembly = Reassembly()
    whole = [done for part in parts if (done := reassembly.add6("nic", part))]
    assert len(whole) == 1
    assert packets.read_ipv6(whole[0], RUN) == packets.read_ipv6(packet, RUN)


@given(st.binary(min_size=40, max_size=200))
def test_whatever_comes_of_ipv6_is_read_or_left(data: bytes) -> None:
    whole = Reassembly().add6("nic", data)
    packets.read_ipv6(data if whole is None else whole, RUN)
