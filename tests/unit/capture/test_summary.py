"""Frames in one line; the frames are somebody else's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NS, IPv6, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, LLC, STP, Dot1Q, Dot3, Ether
from scapy.packet import Packet, Raw

from dataplane.capture.summary import summary

HERE, THERE = "50:6b:8d:00:00:01", "50:6b:8d:00:00:02"
ETHER = Ether(src=HERE, dst=THERE)
PAIR = IP(src="10.10.0.11", dst="10.10.0.12")
ECHO = PAIR / ICMP(id=7, seq=1) / Raw(b"x" * 56)


def geneve(inner: Packet, network: int, options: bytes = b"") -> Packet:
    header = bytes([len(options) // 4, 0]) + b"\x65\x58" + network.to_bytes(3) + b"\0" + options
    return IP(src="100.64.0.1", dst="100.64.0.2") / UDP(sport=999, dport=6081) / Raw(header + bytes(inner))


FRAMES = [
    (ETHER / ECHO, "10.10.0.11 > 10.10.0.12  ICMP echo request 7/1, 56 octets"),
    (ETHER / PAIR / ICMP(type=0, id=7, seq=1), "10.10.0.11 > 10.10.0.12  ICMP echo reply 7/1, 0 octets"),
    (ETHER / Dot1Q(vlan=10) / ECHO, "vlan 10  10.10.0.11 > 10.10.0.12  ICMP echo request 7/1, 56 octets"),
    (ETHER / Dot1Q(vlan=10) / Dot1Q(vlan=20) / ECHO, "vlan 10  vlan 20  10.10.0.11 > 10.10.0.12  ICMP"),
    (
        ETHER / geneve(ETHER / ECHO, 3, bytes(8)),
        "100.64.0.1 > 100.64.0.2  Geneve 3 | 10.10.0.11 > 10.10.0.12  ICMP echo request 7/1, 56 octets",
    ),
    (ETHER / PAIR / TCP(sport=1000, dport=443, flags="S"), "TCP 1000 > 443 SYN"),
    (ETHER / PAIR / TCP(sport=443, dport=1000, flags="SA"), "TCP 443 > 1000 SYN ACK"),
    (ETHER / PAIR / TCP(sport=443, dport=1000, flags="PA") / Raw(b"12345"), "ACK PSH, 5 octets"),
    (ETHER / PAIR / UDP(sport=1000, dport=53) / Raw(b"1234"), "UDP 1000 > 53 DNS, 4 octets"),
    (ETHER / PAIR / UDP(sport=1000, dport=2000), "UDP 1000 > 2000, 0 octets"),
    (ETHER / IP(frag=2, src="1.1.1.1", dst="2.2.2.2") / Raw(b"1"), "fragment from octet 16, the last"),
    (
        ETHER / IP(flags="MF") / ICMP(id=1, seq=2) / Raw(b"1"),
        "ICMP echo request 1/2, 1 octets, first fragment",
    ),
    (ETHER / IP(proto=47) / Raw(b"1234"), "GRE, 4 octets"),
    (
        ETHER / PAIR / ICMP(type=3, code=3) / (PAIR / UDP(sport=5, dport=6)),
        "ICMP port unreachable: 10.10.0.11",
    ),
    (ETHER / PAIR / ICMP(type=11), "ICMP time exceeded"),
    (ETHER / ARP(psrc="10.0.0.1", pdst="10.0.0.2"), "ARP who has 10.0.0.2? tell 10.0.0.1"),
    (ETHER / ARP(psrc="10.0.0.1", pdst="10.0.0.1"), "ARP announces 10.0.0.1"),
    (ETHER / ARP(op=2, hwsrc=HERE, psrc="10.0.0.1", pdst="10.0.0.2"), f"ARP 10.0.0.1 is at {HERE}"),
    (Ether(src=HERE, dst=THERE, type=0x8035) / ARP(op=3, hwsrc=HERE), f"RARP request of {HERE}"),
    (
        ETHER / IPv6(src="fe80::1", dst="fe80::2") / ICMPv6EchoRequest(id=1, seq=2),
        "fe80::1 > fe80::2  ICMPv6 echo",
    ),
    (ETHER / IPv6() / IPv6ExtHdrHopByHop() / ICMPv6ND_NS(tgt="fe80::9"), "neighbor solicitation of fe80::9"),
    (
        ETHER / PAIR / UDP(sport=68, dport=67) / BOOTP() / DHCP(options=[("message-type", "request"), "end"]),
        "DHCP request",
    ),
    (
        Dot3(src=HERE, dst="01:80:c2:00:00:00") / LLC() / STP(rootmac=HERE, bridgemac=THERE, version=2),
        "RSTP bridge",
    ),
    (Ether(type=0x8809) / Raw(b"\x01\x01"), "LACP"),
    (Ether(type=0x88CC) / Raw(b"\0\0"), "LLDP, 2 octets"),
    (Ether(src=HERE, dst=THERE, type=0x1234) / Raw(b"abc"), f"{HERE} > {THERE}  ethertype 0x1234, 3 octets"),
]


@pytest.mark.parametrize(("frame", "words"), FRAMES, ids=[words for _, words in FRAMES])
def test_a_frame_in_one_line(frame: Packet, words: str) -> None:
    assert words in summary(bytes(frame))


def test_what_ends_too_early_says_so() -> None:
    assert summary(b"\0" * 5) == "5 octets that end too early"
    assert summary(bytes(ETHER / PAIR)[:20]) == "20 octets that end too early"


@given(st.binary(max_size=120), st.sampled_from([0x0800, 0x0806, 0x86DD, 0x8100, 0x8809, 0x88CC, 60]))
def test_anything_is_one_line(body: bytes, kind: int) -> None:
    told = summary(bytes(12) + kind.to_bytes(2) + body)
    assert told
    assert "\n" not in told


@given(st.data())
def test_a_frame_cut_anywhere_is_one_line(data: st.DataObject) -> None:
    whole = bytes(data.draw(st.sampled_from([frame for frame, _ in FRAMES])))
    assert "\n" not in summary(whole[: data.draw(st.integers(0, len(whole)))])
