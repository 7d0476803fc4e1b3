"""A frame in one line, for people who watch: `vlan 10  10.10.0.11 > 10.10.0.12  ICMP echo request 7/1`. Pure.

Whoever wants every field writes a file and opens it with Wireshark; this tells packets apart at a glance.
A frame that is cut short or broken gets as far as it can be read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address

from dataplane.checks.packets import ETH_ARP, ETH_IPV4, ETH_QINQ, ETH_RARP, ETH_VLAN, GENEVE

_ETH_IPV6, _ETH_SLOW, _ETH_LLDP = 0x86DD, 0x8809, 0x88CC
_ETHERNET_IN_GENEVE = 0x6558
_ICMP, _TCP, _UDP, _ICMP6 = 1, 6, 17, 58
_OPTIONS = (0, 43, 60)
"""IPv6 extension headers that carry a length of their own (RFC 8200)."""

_PROTOCOLS = {2: "IGMP", 47: "GRE", 50: "ESP", 89: "OSPF", 112: "VRRP", 132: "SCTP"}

_ICMP_WORDS = {
    3: "unreachable",
    5: "redirect",
    9: "router advertisement",
    10: "router solicitation",
    11: "time exceeded",
    12: "parameter problem",
}
_ICMP_UNREACHABLE = {
    0: "network unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port unreachable",
    4: "fragmentation needed",
    9: "network prohibited",
    10: "host prohibited",
    13: "prohibited",
}
_ICMP6_WORDS = {
    1: "unreachable",
    2: "packet too big",
    3: "time exceeded",
    4: "parameter problem",
    128: "echo request",
    129: "echo reply",
    130: "MLD query",
    131: "MLD report",
    132: "MLD done",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbor solicitation",
    136: "neighbor advertisement",
    137: "redirect",
    143: "MLDv2 report",
}
_DHCP_WORDS = {
    1: "discover",
    2: "offer",
    3: "request",
    4: "decline",
    5: "ack",
    6: "nak",
    7: "release",
    8: "inform",
}
_TCP_FLAGS = ((0x02, "SYN"), (0x10, "ACK"), (0x01, "FIN"), (0x04, "RST"), (0x08, "PSH"), (0x20, "URG"))
_UDP_WORDS = {53: "DNS", 123: "NTP", 546: "DHCPv6", 547: "DHCPv6", 3784: "BFD", 4789: "VXLAN"}


def summary(frame: bytes) -> str:
    """The frame in one line."""
    try:
        return _ethernet(frame)
    except (struct.error, IndexError, ValueError):
        return f"{len(frame)} octets that end too early"


def _ethernet(frame: bytes) -> str:
    (kind,) = struct.unpack_from("!H", frame, 12)
    body, words = frame[14:], ""
    while kind in (ETH_VLAN, ETH_QINQ):
        tag, kind = struct.unpack_from("!HH", body)
        body, words = body[4:], f"{words}vlan {tag & 0xFFF}  "
    if kind < 1536:
        return words + _length_field(frame, body[:kind])
    if read := _ETHERTYPES.get(kind):
        return words + read(body)
    return f"{words}{_mac(frame[6:])} > {_mac(frame)}  ethertype 0x{kind:04x}, {len(body)} octets"


def _length_field(frame: bytes, body: bytes) -> str:
    """IEEE 802.2: of what switches say to each other, mostly the spanning tree."""
    if body[:3] != b"\x42\x42\x03":
        return f"{_mac(frame[6:])} > {_mac(frame)}  LLC, {len(body)} octets"
    version, kind = body[5], body[6]
    if kind == 0x80:
        return "STP topology change"
    root, cost, bridge = struct.unpack_from("!8sI8s", body, 8)
    name = {0: "STP", 2: "RSTP"}.get(version, "MSTP")
    return f"{name} bridge {_bridge(bridge)}, root {_bridge(root)}, cost {cost}"


def _bridge(identifier: bytes) -> str:
    return f"{int.from_bytes(identifier[:2]):04x}.{_mac(identifier[2:])}"


def _arp(body: bytes) -> str:
    operation, mac, sender, _, target = struct.unpack_from("!6xH6s4s6s4s", body)
    one, other = IPv4Address(sender), IPv4Address(target)
    if operation == 1:
        return f"ARP announces {one}" if one == other else f"ARP who has {other}? tell {one}"
    if operation == 2:
        return f"ARP {one} is at {_mac(mac)}"
    return f"ARP operation {operation}"


def _rarp(body: bytes) -> str:
    operation, mac = struct.unpack_from("!6xH6s", body)
    return f"RARP {'request' if operation == 3 else 'reply'} of {_mac(mac)}"


def _lldp(body: bytes) -> str:
    return f"LLDP, {len(body)} octets"


def _slow(body: bytes) -> str:
    return "LACP" if body[0] == 1 else f"slow protocol {body[0]}"


def _ipv4(body: bytes) -> str:
    length, fragment, protocol, source, target = struct.unpack_from("!2xH2xHxB2x4s4s", body)
    ends = f"{IPv4Address(source)} > {IPv4Address(target)}"
    payload = body[(body[0] & 0xF) * 4 : length or None]
    offset, more = (fragment & 0x1FFF) * 8, fragment & 0x2000
    if offset:
        return f"{ends}  fragment from octet {offset}{' on' if more else ', the last'}"
    return f"{ends}  {_transport(protocol, payload)}{', first fragment' if more else ''}"


def _ipv6(body: bytes) -> str:
    length, protocol, _, source, target = struct.unpack_from("!4xHBB16s16s", body)
    payload = body[40 : 40 + length]
    while protocol in _OPTIONS:
        protocol, payload = payload[0], payload[8 + payload[1] * 8 :]
    return f"{IPv6Address(source)} > {IPv6Address(target)}  {_transport(protocol, payload)}"


def _transport(protocol: int, payload: bytes) -> str:
    if read := _TRANSPORTS.get(protocol):
        return read(payload)
    return f"{_PROTOCOLS.get(protocol, f'IP protocol {protocol}')}, {len(payload)} octets"


def _icmp(payload: bytes) -> str:
    kind, code, first, second = struct.unpack_from("!BB2xHH", payload)
    if kind in (0, 8):
        return f"ICMP echo {'request' if kind else 'reply'} {first}/{second}, {len(payload) - 8} octets"
    word = _ICMP_UNREACHABLE.get(code) if kind == 3 else None
    word = word or _ICMP_WORDS.get(kind, f"type {kind}")
    about = f": {_ipv4(payload[8:])}" if kind in (3, 5, 11, 12) and len(payload) >= 36 else ""
    return f"ICMP {word}{about}"


def _icmp6(payload: bytes) -> str:
    kind, first, second = struct.unpack_from("!B3xHH", payload)
    words = f"ICMPv6 {_ICMP6_WORDS.get(kind, f'type {kind}')}"
    if kind in (128, 129):
        return f"{words} {first}/{second}, {len(payload) - 8} octets"
    if kind in (135, 136) and len(payload) >= 24:
        return f"{words} of {IPv6Address(payload[8:24])}"
    return words


def _tcp(payload: bytes) -> str:
    source, target, _, _, offset, bits = struct.unpack_from("!HHIIBB", payload)
    flags = " ".join(word for bit, word in _TCP_FLAGS if bits & bit)
    octets = len(payload) - (offset >> 4) * 4
    return f"TCP {source} > {target} {flags}" + (f", {octets} octets" if octets > 0 else "")


def _udp(payload: bytes) -> str:
    source, target, length = struct.unpack_from("!HHH", payload)
    data = payload[8:length] if length >= 8 else payload[8:]
    if target == GENEVE and len(data) >= 8:
        return _geneve(data)
    if {source, target} & {67, 68} and len(data) > 240:
        return f"DHCP {_dhcp(data[240:])}"
    word = next((f" {_UDP_WORDS[port]}" for port in (target, source) if port in _UDP_WORDS), "")
    return f"UDP {source} > {target}{word}, {len(data)} octets"


def _dhcp(options: bytes) -> str:
    while len(options) > 2 and options[0] != 255:
        if options[0] == 0:
            options = options[1:]
            continue
        if options[0] == 53:
            return _DHCP_WORDS.get(options[2], f"message {options[2]}")
        options = options[2 + options[1] :]
    return "message"


def _geneve(data: bytes) -> str:
    kind, network = struct.unpack_from("!2xHI", data)
    inner = data[8 + (data[0] & 0x3F) * 4 :]
    what = f"Geneve {network >> 8}"
    if kind != _ETHERNET_IN_GENEVE or len(inner) < 14:
        return f"{what}, {len(inner)} octets"
    return f"{what} | {summary(inner)}"


def _mac(octets: bytes) -> str:
    return octets[:6].hex(":")


_ETHERTYPES: Mapping[int, Callable[[bytes], str]] = {
    ETH_IPV4: _ipv4,
    _ETH_IPV6: _ipv6,
    ETH_ARP: _arp,
    ETH_RARP: _rarp,
    _ETH_SLOW: _slow,
    _ETH_LLDP: _lldp,
}
_TRANSPORTS: Mapping[int, Callable[[bytes], str]] = {
    _ICMP: _icmp,
    _TCP: _tcp,
    _UDP: _udp,
    _ICMP6: _icmp6,
}
