"""What a test expects of a packet, and the words for what differs."""

from __future__ import annotations

from types import FunctionType
from typing import Any

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw
from scapy.volatile import RandShort

from netctl.cli.pytest_plugin.patterns import pattern
from netctl.errors import InputError

A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"


def arrived(packet: Any) -> bytes:
    """A packet as it comes in."""
    frame = packet if isinstance(packet, Ether) else Ether(src=A, dst=B) / packet
    return bytes(frame).ljust(60, b"\0")


def udp(**fields: Any) -> Any:
    return IP(**{"src": "10.0.0.1", "dst": "10.0.0.2", **fields}) / UDP(sport=1000, dport=53) / b"hello"


def fits(expected: Any, packet: Any, ignore: Any = ()) -> bool:
    return not pattern(expected, ignore).differences(arrived(packet))


def differences(expected: Any, packet: Any) -> list[str]:
    return pattern(expected).differences(arrived(packet))


# --- what fits ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expected",
    [
        udp(),
        IP(dst="10.0.0.2"),
        IP(),
        UDP,
        UDP(dport=53),
        UDP(dport=53) / b"hello",
        IP(dst="10.0.0.2") / UDP() / Raw(b"hello"),
        Ether(dst=B) / IP(),
        Ether(dst=B.upper()) / IP() / UDP(),
        IP(dst="10.0.0.0/24") / UDP(),
        IP(dst=["10.0.0.1", "10.0.0.2"]) / UDP(),
        UDP(dport=[52, 53]),
        UDP(dport=(50, 60)),
        IP(id=RandShort()) / UDP(sport=RandShort()),
        arrived(udp()),
        "udp port 53",
        "udp and dst host 10.0.0.2",
        lambda packet: packet[UDP].dport == 53,
    ],
)
def test_it_fits(expected: Any) -> None:
    assert fits(expected, udp())


def test_what_is_not_written_may_be_anything() -> None:
    expected = IP(dst="10.0.0.2") / UDP(dport=53) / b"hello"
    assert fits(expected, udp(ttl=3, src="1.2.3.4", id=77, tos=4))
    assert fits(expected, Ether(src=B, dst=A) / Dot1Q(vlan=20) / udp())


def test_what_it_was_built_to_counts_when_it_was_dissected() -> None:
    sent = IP(bytes(udp()))
    assert fits(sent, udp())
    assert not fits(sent, udp(ttl=63))
    assert fits(sent, udp(ttl=63), ignore=("ttl", "chksum"))
    assert fits(sent, udp(ttl=63), ignore=("IP.ttl", "IP.chksum"))


def test_a_payload_that_scapy_takes_for_a_protocol_is_still_a_payload() -> None:
    for port in (53, 67, 123, 520, 4789):
        expected = IP() / UDP(dport=port) / b"hello"
        assert fits(expected, IP(dst="10.0.0.2") / UDP(sport=port, dport=port) / b"hello")
        assert not fits(expected, IP(dst="10.0.0.2") / UDP(sport=port, dport=port) / b"hallo")


def test_padding_is_no_payload() -> None:
    assert fits(IP() / UDP() / b"x", IP() / UDP() / b"x")
    assert fits(IP() / TCP() / b"", IP() / TCP(flags="S"))
    assert not fits(IP() / UDP() / b"x", IP() / UDP() / b"x\0")


def test_layers_behind_each_other() -> None:
    query = IP(dst="10.0.0.2") / UDP() / DNS(id=7, qd=DNSQR(qname="a.example"))
    assert fits(query, query)
    assert fits(DNS(id=7), query)
    assert not fits(DNS(id=8), query)
    lease = IP() / UDP(sport=68, dport=67) / BOOTP(xid=1) / DHCP(options=[("message-type", 1), "end"])
    assert fits(BOOTP(xid=1) / DHCP(options=[("message-type", 1), "end"]), lease)
    assert not fits(DHCP(options=[("message-type", 3), "end"]), lease)
    assert fits(ARP(op="is-at", psrc="10.0.0.9"), Ether(dst=B) / ARP(op=2, psrc="10.0.0.9"))
    assert fits(ICMP(type="echo-reply"), IP() / ICMP(type=0))
    assert fits(TCP(flags="SA"), IP() / TCP(flags="AS"))


def test_tags() -> None:
    tagged = Ether(src=A, dst=B) / Dot1Q(vlan=20) / udp()
    assert fits(Dot1Q(vlan=20), tagged)
    assert fits(Dot1Q(vlan=20) / IP(dst="10.0.0.2"), tagged)
    assert fits(IP(dst="10.0.0.2"), tagged)
    assert differences(Dot1Q(vlan=30), tagged) == ["Dot1Q.vlan is 20, not 30"]
    assert differences(Dot1Q(vlan=20), udp()) == ["no Dot1Q in it"]
    [words] = differences(Ether() / IP(), tagged)
    assert words.startswith("Ether.type is ")


# --- what does not, in words ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (UDP(dport=54), ["UDP.dport is domain, not 54"]),
        (IP(src="10.0.0.3", dst="10.0.0.4"), ["IP.src is 10.0.0.1, not 10.0.0.3", "IP.dst is 10.0.0.2, not"]),
        (IP(dst="10.9.0.0/24"), ["IP.dst is 10.0.0.2, not"]),
        (IP(dst=["10.0.0.3", "10.0.0.4"]), ["IP.dst is 10.0.0.2, not"]),
        (UDP(dport=(60, 70)), ["UDP.dport is domain, not (60, 70)"]),
        (TCP(dport=53), ["no TCP in it"]),
        (IP() / TCP(), ["IP.proto is udp, not tcp"]),
        (Ether(dst=A), [f"Ether.dst is {B}, not {A}"]),
        (UDP() / b"hell", ["the payload has 5 octets, not 4"]),
        (UDP() / b"heLlo", ["the payload differs from octet 2 on"]),
        ("tcp", ["the expression does not hold"]),
        (lambda packet: False, ["the function says no"]),
    ],
    ids=lambda value: "function" if isinstance(value, FunctionType) else str(value),
)  # fmt: skip
def test_it_differs(expected: Any, words: list[str]) -> None:
    found = differences(expected, udp())
    assert len(found) == len(words)
    for text, start in zip(found, words, strict=True):
        assert text.startswith(start)


def test_a_packet_that_ends_too_early() -> None:
    cut = bytes(Ether(src=A, dst=B) / udp())[:30]
    for expected in (udp(), IP(dst="10.0.0.2"), UDP(dport=53), "udp port 53", b"\0" * 14):
        assert pattern(expected).differences(cut)
    assert pattern(Ether(dst=B)).differences(cut) == []
    for length in range(14):
        assert pattern(Ether(dst=B) / IP()).differences(cut[:length])


# --- what cannot be expected ----------------------------------------------------------------------


def test_fields_that_it_does_not_have() -> None:
    with pytest.raises(InputError, match="has no tttl; did you mean ttl"):
        pattern(udp(), ("tttl",))
    with pytest.raises(InputError, match=r"has no TCP\.dport"):
        pattern(udp(), ("TCP.dport",))
    assert fits(TCP, IP() / TCP(), ignore="dport")


def test_layers_can_be_ignored_as_a_whole() -> None:
    expected = Ether(src=A, dst=A) / udp()
    assert not fits(expected, udp())
    assert fits(expected, udp(), ignore=("Ether",))


@pytest.mark.parametrize("expected", [7, object(), None, b"short"], ids=["7", "object", "None", "short"])
def test_nothing_to_compare_with(expected: object) -> None:
    with pytest.raises(InputError):
        pattern(expected)


def test_ignoring_needs_a_packet() -> None:
    with pytest.raises(InputError, match="ignore="):
        pattern("udp", ("ttl",))


def test_an_expression_that_tcpdump_does_not_understand() -> None:
    with pytest.raises(InputError):
        pattern("udp prot 53")


def test_names_in_expressions() -> None:
    known = {"web2": ["10.0.0.2"], "web9": ["10.0.0.9"]}
    assert not pattern("dst host web2", (), known).differences(arrived(udp()))
    assert pattern("dst host web9", (), known).differences(arrived(udp()))


def test_its_words() -> None:
    assert pattern(IP(dst="10.0.0.2") / UDP(dport=53)).words == "IP(dst='10.0.0.2')/UDP(dport=53)"
    assert pattern("udp port 53").words == "'udp port 53'"
    assert len(pattern(UDP() / (b"x" * 2000)).words) < 400
