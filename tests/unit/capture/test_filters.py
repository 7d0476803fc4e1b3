"""Which packets a capture takes. libpcap comes with tcpdump, which scripts/setup installs."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from dataplane.capture import filters
from dataplane.capture.filters import Expression, layers, tunnelled, with_addresses
from netctl.errors import InputError, MachineError

ETHER = Ether(src="50:6b:8d:00:00:01", dst="50:6b:8d:00:00:02")
ECHO = ETHER / IP(src="10.10.0.11", dst="10.10.0.12") / ICMP()
TAGGED = ETHER / Dot1Q(vlan=10) / IP(src="10.10.0.11", dst="10.10.0.12") / ICMP()
SYN = ETHER / IP(src="10.10.0.11", dst="10.10.0.12") / TCP(dport=443)


def geneve(inner: Packet, options: bytes = b"", **outer: int) -> Packet:
    header = bytes([len(options) // 4, 0]) + b"\x65\x58\0\0\x03\0" + options
    ends = IP(src="100.64.0.1", dst="100.64.0.2", **outer)
    return ETHER / ends / UDP(dport=6081) / Raw(header + bytes(inner))


def test_layers_of_a_frame() -> None:
    assert list(layers(bytes(ECHO))) == [bytes(ECHO)]
    assert list(layers(bytes(TAGGED))) == [bytes(TAGGED), bytes(ECHO)]
    assert list(layers(bytes(geneve(TAGGED, bytes(8)))))[1:] == [bytes(TAGGED), bytes(ECHO)]
    twice = ETHER / Dot1Q(vlan=5) / TAGGED.payload
    assert list(layers(bytes(twice))) == [bytes(twice), bytes(TAGGED), bytes(ECHO)]


@pytest.mark.parametrize(
    "frame",
    [
        ECHO,
        ETHER / IP() / UDP(dport=6080) / Raw(bytes(60)),
        ETHER / IP() / UDP(dport=6081) / Raw(bytes(60)),  # not Ethernet inside
        geneve(ECHO, frag=3),
        Ether(bytes(geneve(ECHO))[:40]),
        ETHER / ARP(),
    ],
)
def test_what_is_no_tunnel(frame: Packet) -> None:
    assert tunnelled(bytes(frame)) == b""


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("icmp", [ECHO, TAGGED, geneve(ECHO), geneve(ECHO, bytes(12)), geneve(TAGGED)], [SYN, geneve(SYN)]),
        ("vlan 10", [TAGGED, geneve(TAGGED)], [ECHO]),
        ("vlan 10 and icmp", [TAGGED], [ECHO, ETHER / Dot1Q(vlan=11) / ECHO.payload]),
        ("udp port 6081", [geneve(SYN)], [SYN]),
        ("src host 10.10.0.11 and tcp port 443", [SYN, geneve(SYN)], [ECHO]),
        ("host 100.64.0.2", [geneve(SYN)], [SYN]),
        ("not arp", [ECHO, TAGGED], [ETHER / ARP()]),
        ("", [ECHO, TAGGED, ETHER / ARP()], []),
    ],
)
def test_an_expression_is_about_the_frame_and_what_it_carries(
    text: str, yes: list[Packet], no: list[Packet]
) -> None:
    expression = Expression(text)
    assert [expression.accepts(bytes(frame)) for frame in yes] == [True] * len(yes)
    assert [expression.accepts(bytes(frame)) for frame in no] == [False] * len(no)


def test_a_mistake_is_told_in_the_words_of_libpcap() -> None:
    with pytest.raises(InputError, match="syntax error") as caught:
        Expression("icmp or or")
    assert "tcpdump" in (caught.value.next_step or "")


def test_without_libpcap_it_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "LIBRARIES", ("libnone.so.0",))
    with pytest.raises(MachineError) as caught:
        Expression("icmp")
    assert caught.value.next_step == "apt-get install tcpdump brings it."


ADDRESSES = {
    "web1": ["10.10.0.11"],
    "web1/0": ["10.10.0.11"],
    "db": ["10.1.0.1", "10.2.0.1"],
    "port": ["1.1.1.1"],
}


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("icmp and host web1", "icmp and host 10.10.0.11"),
        ("src web1 or dst host web1/0", "src 10.10.0.11 or dst host 10.10.0.11"),
        ("host db and not host web1", "host (10.1.0.1 or 10.2.0.1) and not host 10.10.0.11"),
        ("src port 80 and host example.org", "src port 80 and host example.org"),
        ("host 10.10.0.11", "host 10.10.0.11"),
    ],
)
def test_names_of_the_lab_become_addresses(text: str, becomes: str) -> None:
    assert with_addresses(text, ADDRESSES) == becomes
    if "example" not in text:
        Expression(becomes)


def test_a_name_without_an_address() -> None:
    with pytest.raises(InputError, match="trunk has no address"):
        with_addresses("host trunk", {"trunk": []})
