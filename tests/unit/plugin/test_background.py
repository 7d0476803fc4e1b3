"""What counts as a test's packet, and what makes one the same all along its way."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.contrib.lldp import LLDPDUChassisID, LLDPDUEndOfLLDPDU, LLDPDUPortID, LLDPDUTimeToLive
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, UDPerror, fragment
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RS,
    IPv6,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)
from scapy.layers.l2 import ARP, LLC, STP, Dot1Q, Dot3, Ether

from netctl.cli.pytest_plugin.background import fingerprint, inside, is_background

A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
SIX = {"src": "fe80::1", "dst": "fe80::2"}
ONE, TWO = {"src": "10.0.0.1", "dst": "10.0.0.2"}, {"src": "203.0.113.1", "dst": "10.9.9.9"}


def frame(packet: Any, *tags: int) -> bytes:
    made = Ether(src=A, dst=B)
    for tag in tags:
        made /= Dot1Q(vlan=tag)
    return bytes(made / packet)


@pytest.mark.parametrize(
    "octets",
    [
        frame(ARP(pdst="10.0.0.2")),
        frame(ARP(pdst="10.0.0.2"), 20),
        frame(ARP(op=3), 20),
        bytes(Dot3(dst="01:80:c2:00:00:00", src=A) / LLC() / STP()),
        bytes(
            Ether(src=A, dst="01:80:c2:00:00:0e")
            / LLDPDUChassisID(subtype=4, id=A)
            / LLDPDUPortID(subtype=7, id="1")
            / LLDPDUTimeToLive(ttl=9)
            / LLDPDUEndOfLLDPDU()
        ),
        frame(IP(**ONE, proto=2) / b"\x16\0\0\0\xe0\0\0\x09"),
        frame(IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67) / BOOTP() / DHCP()),
        frame(IP(**ONE) / UDP(sport=67, dport=68) / BOOTP() / DHCP()),
        frame(IPv6(**SIX) / ICMPv6ND_NS(tgt="fe80::2")),
        frame(IPv6(**SIX) / ICMPv6ND_NA(tgt="fe80::2"), 7),
        frame(IPv6(**SIX) / ICMPv6ND_RS()),
        frame(IPv6(**SIX) / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / ICMPv6MLReport2()),
    ],
)
def test_background(octets: bytes) -> None:
    assert is_background(octets)


@pytest.mark.parametrize(
    "octets",
    [
        frame(IP(**ONE) / UDP(dport=53) / b"x"),
        frame(IP(**ONE) / TCP(dport=67)),
        frame(IP(**ONE) / ICMP()),
        frame(IP(**ONE) / ICMP(type=3, code=3) / IPerror(**ONE) / UDPerror(dport=67)),
        frame(IPv6(**SIX) / ICMPv6EchoRequest()),
        frame(IPv6(**SIX) / UDP(dport=53)),
        frame(b"\x88\xb5"),
    ],
)
def test_no_background(octets: bytes) -> None:
    assert not is_background(octets)


def test_whatever_comes_in_has_an_answer() -> None:
    whole = frame(IP(**ONE) / ICMP(type=3) / IPerror(**ONE) / UDPerror(), 10, 20)
    for length in range(len(whole)):
        assert isinstance(is_background(whole[:length]), bool)
        assert fingerprint(whole[:length]) is not None
        assert len(inside(whole[:length])) == 3


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        (UDP(sport=1000, dport=53) / b"x", UDP(sport=2000, dport=5353) / b"x"),
        (TCP(sport=1000, dport=80, seq=5, flags="A") / b"x", TCP(sport=7, dport=81, seq=5, flags="A") / b"x"),
        (ICMP(id=1, seq=2) / b"x", ICMP(id=99, seq=2) / b"x"),
    ],
)  # fmt: skip
def test_the_same_wherever_it_is(sent: Any, seen: Any) -> None:
    """Routing, NAT and VLANs."""
    far = Ether(src=B, dst=A) / Dot1Q(vlan=7) / IP(**TWO, ttl=3, id=9) / seen
    assert fingerprint(bytes(far)) == fingerprint(frame(IP(**ONE) / sent))
    assert fingerprint(bytes(far).ljust(70, b"\0")) == fingerprint(frame(IP(**ONE) / sent))


@pytest.mark.parametrize(
    "others",
    [
        [UDP(dport=53) / b"x", UDP(dport=53) / b"y", UDP(dport=53) / b"xx", UDP(dport=53)],
        [TCP(seq=1), TCP(seq=2), TCP(seq=1, flags="SA"), TCP(seq=1, ack=1), TCP(seq=1) / b"x"],
        [ICMP(seq=1) / b"x", ICMP(seq=2) / b"x", ICMP(type=0, seq=1) / b"x", ICMP(seq=1) / b"y"],
        [
            ICMP(type=3, code=3) / IPerror(**ONE) / UDPerror() / b"x",
            ICMP(type=3, code=3) / IPerror(**ONE) / UDPerror() / b"y",
            ICMP(type=3, code=1) / IPerror(**ONE) / UDPerror() / b"x",
            ICMP(type=11) / IPerror(**ONE) / UDPerror() / b"x",
        ],
        [UDP() / b"abcdefgh", ICMP() / b"abcdefgh"],
    ],
)
def test_different_packets(others: list[Any]) -> None:
    assert len({fingerprint(frame(IP(**ONE) / each)) for each in others}) == len(others)


def test_an_error_is_the_same_behind_nat() -> None:
    def error(inner: dict[str, str], port: int) -> bytes:
        quoted = IPerror(**inner) / UDPerror(sport=port, dport=53) / b"payload"
        return frame(IP(**ONE) / ICMP(type=3, code=3) / quoted)

    assert fingerprint(error(ONE, 1000)) == fingerprint(error(TWO, 2000))


def test_fragments_are_different_packets_and_the_same_each_on_its_way() -> None:
    pieces = [bytes(each) for each in fragment(IP(**ONE, id=5) / UDP() / (b"0123456789abcdef" * 100), 800)]
    assert len(pieces) == 3
    marks = [fingerprint(frame(IP(each))) for each in pieces]
    assert len(set(marks)) == 3
    far = [IP(each) for each in pieces]
    for each in far:
        each.ttl, each.dst = 3, "10.9.9.9"
        del each.chksum
    assert [fingerprint(frame(each, 7)) for each in far] == marks


def test_ipv6() -> None:
    one = frame(IPv6(**SIX, hlim=64) / UDP(sport=1, dport=2) / b"x")
    assert fingerprint(one) == fingerprint(frame(IPv6(**SIX, hlim=9) / UDP(sport=3, dport=2) / b"x", 7))
    assert fingerprint(one) != fingerprint(frame(IPv6(**SIX) / UDP() / b"y"))
    error = ICMPv6DestUnreach() / IPv6(**SIX) / UDP() / b"x"
    assert fingerprint(frame(IPv6(**SIX) / error)) != fingerprint(frame(IPv6(**SIX) / ICMPv6EchoRequest()))


def test_what_is_no_ip() -> None:
    one = bytes(Ether(src=A, dst=B, type=0x88B5) / b"hello")
    assert fingerprint(one) == fingerprint(one.ljust(60, b"\0"))
    assert fingerprint(one) == fingerprint(bytes(Ether(src=B, dst=A) / Dot1Q(vlan=3, type=0x88B5) / b"hello"))
    assert fingerprint(one) != fingerprint(bytes(Ether(src=A, dst=B, type=0x88B5) / b"hallo"))
    assert fingerprint(one) != fingerprint(bytes(Ether(src=A, dst=B, type=0x88B6) / b"hello"))
