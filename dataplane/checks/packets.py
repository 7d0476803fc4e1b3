"""Packets as bytes: build the few kinds that checks send, read those that observers catch. Pure.

Formats: Ethernet with IEEE 802.1Q tags, ARP (RFC 826), IPv4 (RFC 791), ICMP (RFC 792), IPv6 (RFC 8200),
ICMPv6 (RFC 4443), its neighbour discovery (RFC 4861), UDP (RFC 768), TCP (RFC 9293). What identifies a packet
wherever it shows up is the *mark* at the head of its payload: eight random octets of the run, then the
number of the flight. A TCP SYN has no payload; its initial sequence number, which neither routing nor NAT
changes, takes the mark's place.
"""

from __future__ import annotations

import struct
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

RUN_LENGTH = 8
MARK_LENGTH = RUN_LENGTH + 4
"""Octets of a whole mark. A payload that is shorter holds the mark's head and is known by its ports or id."""

ETH_IPV4, ETH_ARP, ETH_RARP, ETH_VLAN, ETH_QINQ, ETH_IPV6 = 0x0800, 0x0806, 0x8035, 0x8100, 0x88A8, 0x86DD
ICMP, TCP, UDP, FRAGMENT, ICMP6 = 1, 6, 17, 44, 58
GENEVE = 6081
BROADCAST = b"\xff" * 6
IPV6_HEADER = 40

Address = IPv4Address | IPv6Address

SYN, RST, PSH, ACK = 0x02, 0x04, 0x08, 0x10
_ECHO_REPLY, _ECHO_REQUEST = 0, 8
_ECHO6_REQUEST, _ECHO6_REPLY = 128, 129
SOLICITATION, ADVERTISEMENT = 135, 136
REDIRECT, REDIRECT6 = 5, 137
ICMP_ERRORS = (3, REDIRECT, 11, 12)
ICMP6_ERRORS = (1, 2, 3, 4, REDIRECT6)


class Kind(Enum):
    """What a packet is in the talk that a check holds. ARP's kinds are IPv6's neighbour discovery as well."""

    REQUEST = "request"  # an echo request, or a marked UDP datagram in either direction
    ANSWER = "answer"  # an echo reply
    SYN = "SYN"
    SYN_ACK = "SYN-ACK"
    RESET = "RST"
    DATA = "data"  # marked TCP payload, in either direction
    ERROR = "ICMP error"
    ARP_REQUEST = "ARP request"
    ARP_REPLY = "ARP reply"
    RARP = "RARP"


class Packet(NamedTuple):
    """One packet as caught.

    Addresses are integers; `sport` and `dport` of ICMP are its id and sequence number; `number` is the
    flight's from the mark, `isn` the initial sequence number of the TCP connection, `sequence` that of the
    segment, `tunnel` the network that Geneve carries it in, each -1 when there is none; `error` an ICMP
    error's type and code, and `inner` the packet that it is about. The payload of ARP is its sender's MAC.
    `version` is that of IP.
    """

    kind: Kind
    source: int
    target: int
    protocol: int = 0
    sport: int = -1
    dport: int = -1
    number: int = -1
    isn: int = -1
    sequence: int = -1
    tunnel: int = -1
    payload: bytes = b""
    error: tuple[int, int] = (-1, -1)
    inner: Packet | None = None
    version: int = 4


_HEADER = struct.Struct("!BBHHHBBHII")
_PORTS = struct.Struct("!HH")
_ECHO = struct.Struct("!BBHHH")
_TCP = struct.Struct("!HHIIBB")
_ARP = struct.Struct("!HHBBH6sI6sI")
_NUMBER = struct.Struct("!I")
_FILLER = bytes(range(256)) * 2


# --- building -------------------------------------------------------------------------------------


def payload(run: bytes, number: int, size: int) -> bytes:
    """The mark and, after it, octets that differ from flight to flight; cut to `size`."""
    start = number & 0xFF
    filler = _FILLER[start : start + 256] * (size // 256 + 1)
    return (run + _NUMBER.pack(number) + filler)[:size]


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_request(identifier: int, sequence: int, data: bytes) -> bytes:
    """An ICMP echo request."""
    head = _ECHO.pack(_ECHO_REQUEST, 0, 0, identifier, sequence)
    return _ECHO.pack(_ECHO_REQUEST, 0, checksum(head + data), identifier, sequence) + data


def echo_request6(source: Address, target: Address, identifier: int, sequence: int, data: bytes) -> bytes:
    """An ICMPv6 echo request with its checksum."""
    return _icmp6(source, target, _ECHO.pack(_ECHO6_REQUEST, 0, 0, identifier, sequence) + data)


def _icmp6(source: Address, target: Address, message: bytes) -> bytes:
    total = checksum(_pseudo(source, target, ICMP6, len(message)) + message)
    return message[:2] + total.to_bytes(2) + message[4:]


def datagram(source: Address, target: Address, sport: int, dport: int, data: bytes) -> bytes:
    """A UDP datagram with its checksum."""
    length = 8 + len(data)
    head = struct.pack("!HHHH", sport, dport, length, 0)
    total = checksum(_pseudo(source, target, UDP, length) + head + data) or 0xFFFF
    return struct.pack("!HHHH", sport, dport, length, total) + data


def segment(
    source: Address,
    target: Address,
    ports: tuple[int, int],
    numbers: tuple[int, int],
    flags: int,
    data: bytes = b"",
) -> bytes:
    """A TCP segment; `numbers` are its sequence and acknowledgment numbers."""
    sequence, acknowledged = (number & 0xFFFFFFFF for number in numbers)
    parts = (*ports, sequence, acknowledged, 5 << 4, flags, 64240)
    head = struct.pack("!HHIIBBHHH", *parts, 0, 0)
    total = checksum(_pseudo(source, target, TCP, len(head) + len(data)) + head + data)
    return struct.pack("!HHIIBBHHH", *parts, total, 0) + data


def _pseudo(source: Address, target: Address, protocol: int, length: int) -> bytes:
    """What checksums cover of the IP header (RFC 9293, 3.1; RFC 8200, 8.1)."""
    if source.version == 6:
        return source.packed + target.packed + struct.pack("!II", length, protocol)
    return source.packed + target.packed + struct.pack("!BBH", 0, protocol, length)


def ip(source: Address, target: Address, protocol: int, data: bytes) -> bytes:
    """An IPv4 packet with the Don't Fragment bit, or an IPv6 packet."""
    if isinstance(source, IPv4Address) and isinstance(target, IPv4Address):
        return ipv4(source, target, protocol, data)
    return struct.pack("!IHBB", 6 << 28, len(data), protocol, 64) + source.packed + target.packed + data


def ipv4(
    source: IPv4Address, target: IPv4Address, protocol: int, data: bytes, identification: int = 0
) -> bytes:
    """An IPv4 packet with the Don't Fragment bit."""
    parts = (0x45, 0, 20 + len(data), identification, 0x4000, 64, protocol)
    total = checksum(_HEADER.pack(*parts, 0, int(source), int(target)))
    return _HEADER.pack(*parts, total, int(source), int(target)) + data


def ethernet(target: bytes, source: bytes, ethertype: int, data: bytes, vlan: int | None = None) -> bytes:
    """An Ethernet frame, tagged when a VLAN is given, padded to the 60 octets that Ethernet asks for."""
    tag = b"" if vlan is None else struct.pack("!HH", ETH_VLAN, vlan)
    return (target + source + tag + struct.pack("!H", ethertype) + data).ljust(60, b"\0")


def arp_request(
    run: bytes, number: int, mac: bytes, ip: IPv4Address, target: IPv4Address, vlan: int | None = None
) -> bytes:
    """A broadcast frame with an ARP request, with a mark where Ethernet's padding would be.

    `target` is the sender itself for an announcement (RFC 5227), which everybody on the segment gets and
    nobody answers, or somebody who answers.
    """
    body = _ARP.pack(1, ETH_IPV4, 6, 4, 1, mac, int(ip), b"\0" * 6, int(target))
    return ethernet(BROADCAST, mac, ETH_ARP, body + run + _NUMBER.pack(number), vlan)


def arp_reply(
    mac: bytes, ip: IPv4Address, to_mac: bytes, to_ip: IPv4Address, vlan: int | None = None
) -> bytes:
    """A frame that tells `to` who has `ip`."""
    body = _ARP.pack(1, ETH_IPV4, 6, 4, 2, mac, int(ip), to_mac, int(to_ip))
    return ethernet(to_mac, mac, ETH_ARP, body, vlan)


def question(
    run: bytes, number: int, mac: bytes, own: Address, target: Address, vlan: int | None = None
) -> bytes:
    """A frame that asks who has `target`, with a mark behind the packet: by ARP, or for a neighbour."""
    if isinstance(own, IPv4Address) and isinstance(target, IPv4Address):
        return arp_request(run, number, mac, own, target, vlan)
    group = IPv6Address(_SOLICITED | (int(target) & 0xFFFFFF))
    body = struct.pack("!BBHI", SOLICITATION, 0, 0, 0) + target.packed + struct.pack("!BB6s", 1, 1, mac)
    frame = _neighbour(own, group, body) + run + _NUMBER.pack(number)
    return ethernet(_group_mac(group), mac, ETH_IPV6, frame, vlan)


def reply(mac: bytes, own: Address, to_mac: bytes, to: Address, vlan: int | None = None) -> bytes:
    """A frame that tells `to` who has `own`: by ARP, or as a neighbour."""
    if isinstance(own, IPv4Address) and isinstance(to, IPv4Address):
        return arp_reply(mac, own, to_mac, to, vlan)
    return ethernet(to_mac, mac, ETH_IPV6, _advertisement(mac, own, to, _SOLICITED_FLAG), vlan)


def announcement(run: bytes, number: int, mac: bytes, own: Address) -> bytes:
    """A frame with which a NIC tells all others of its segment who it is, and nobody answers; with a mark."""
    if isinstance(own, IPv4Address):
        return arp_request(run, number, mac, own, own)
    packet = _advertisement(mac, own, _ALL_NODES, 0)
    return ethernet(_group_mac(_ALL_NODES), mac, ETH_IPV6, packet + run + _NUMBER.pack(number))


def _advertisement(mac: bytes, own: Address, to: Address, flags: int) -> bytes:
    head = struct.pack("!BBHI", ADVERTISEMENT, 0, 0, _OVERRIDE | flags)
    return _neighbour(own, to, head + own.packed + struct.pack("!BB6s", 2, 1, mac))


_ALL_NODES = IPv6Address("ff02::1")
_SOLICITED_FLAG, _OVERRIDE = 1 << 30, 1 << 29
_SOLICITED = int(IPv6Address("ff02::1:ff00:0"))


def _neighbour(source: Address, target: Address, body: bytes) -> bytes:
    """An IPv6 packet of neighbour discovery, whose hop limit shows that no router has passed it on."""
    packet = ip(source, target, ICMP6, _icmp6(source, target, body))
    return packet[:7] + b"\xff" + packet[8:]


def _group_mac(group: Address) -> bytes:
    return b"\x33\x33" + group.packed[12:]


# --- reading --------------------------------------------------------------------------------------


def untagged(frame: bytes) -> tuple[int, int | None, int]:
    """EtherType, VLAN ID or None, and where the payload begins, of an Ethernet frame; 0 for half a one."""
    if len(frame) < 14:
        return 0, None, len(frame)
    ethertype = (frame[12] << 8) | frame[13]
    if ethertype not in (ETH_VLAN, ETH_QINQ) or len(frame) < 18:
        return ethertype, None, 14
    return (frame[16] << 8) | frame[17], ((frame[14] << 8) | frame[15]) & 0xFFF, 18


_ARP_KINDS = {1: Kind.ARP_REQUEST, 2: Kind.ARP_REPLY, 3: Kind.RARP}


def read_arp(body: bytes, run: bytes) -> Packet | None:
    """An ARP request or reply, or the request of a RARP (RFC 903), which have the same format."""
    if len(body) < _ARP.size:
        return None
    _, _, _, _, operation, mac, source, _, target = _ARP.unpack_from(body)
    kind = _ARP_KINDS.get(operation)
    number = _number(body[_ARP.size :], run)
    return Packet(kind, source, target, number=number, payload=mac) if kind else None


def read_ipv4(packet: bytes, run: bytes) -> Packet | None:
    """A whole IPv4 packet; None for what no check can be about."""
    if len(packet) < 20:
        return None
    header = (packet[0] & 0xF) * 4
    length, protocol = (packet[2] << 8) | packet[3], packet[9]
    source, target = struct.unpack_from("!II", packet, 12)
    return _read_body(packet[header : max(length, header)], protocol, source, target, run)


def read_ipv6(packet: bytes, run: bytes) -> Packet | None:
    """A whole IPv6 packet without extension headers; None for what no check can be about."""
    if len(packet) < IPV6_HEADER:
        return None
    length, protocol = (packet[4] << 8) | packet[5], packet[6]
    source, target = int.from_bytes(packet[8:24]), int.from_bytes(packet[24:40])
    body = packet[IPV6_HEADER : IPV6_HEADER + length]
    if protocol == FRAGMENT and len(body) >= 8 and not (body[2] << 8 | body[3]) & 0xFFF8:
        protocol, body = body[0], body[8:]  # the first one: an error quotes it
    found = (
        _read_icmp6(body, source, target, packet[IPV6_HEADER + length :], run)
        if protocol == ICMP6
        else _read_body(body, protocol, source, target, run)
    )
    return found._replace(version=6) if found else None


def read_icmp6(body: bytes, run: bytes) -> Packet | None:
    """An ICMPv6 message alone, of which nobody knows from whom it is."""
    return _read_icmp6(body, 0, 0, b"", run)


def _read_icmp6(body: bytes, source: int, target: int, behind: bytes, run: bytes) -> Packet | None:
    if len(body) < 8:
        return None
    kind, code, _, identifier, sequence = _ECHO.unpack_from(body)
    if kind in ICMP6_ERRORS:
        inner = read_ipv6(body[8:], run)
        return Packet(Kind.ERROR, source, target, ICMP6, error=(kind, code), inner=inner)
    if kind in (_ECHO6_REQUEST, _ECHO6_REPLY):
        what = Kind.REQUEST if kind == _ECHO6_REQUEST else Kind.ANSWER
        data = body[8:]
        return Packet(what, source, target, ICMP6, identifier, sequence, _number(data, run), payload=data)
    if kind in (SOLICITATION, ADVERTISEMENT) and len(body) >= 24:
        # As ARP has it: who asks and about whom, or who it is and who is told.
        about, mac, number = int.from_bytes(body[8:24]), body[26:32], _number(behind, run)
        if kind == SOLICITATION:
            return Packet(Kind.ARP_REQUEST, source, about, ICMP6, number=number, payload=mac)
        return Packet(Kind.ARP_REPLY, about, target, ICMP6, number=number, payload=mac)
    return None


def _read_body(body: bytes, protocol: int, source: int, target: int, run: bytes) -> Packet | None:
    if protocol == ICMP and len(body) >= 8:
        kind, code, _, identifier, sequence = _ECHO.unpack_from(body)
        if kind in ICMP_ERRORS:
            inner = read_ipv4(body[8:], run)
            return Packet(Kind.ERROR, source, target, ICMP, error=(kind, code), inner=inner)
        if kind in (_ECHO_REQUEST, _ECHO_REPLY):
            what = Kind.REQUEST if kind == _ECHO_REQUEST else Kind.ANSWER
            data = body[8:]
            number = _number(data, run)
            return Packet(what, source, target, ICMP, identifier, sequence, number, payload=data)
    elif protocol == UDP and len(body) >= 8:
        sport, dport = _PORTS.unpack_from(body)
        data = body[8:]
        number = _number(data, run)
        if number < 0 and dport == GENEVE:
            return _read_geneve(data, run)
        return Packet(Kind.REQUEST, source, target, UDP, sport, dport, number, payload=data)
    elif protocol == TCP and len(body) >= 8:
        return _read_tcp(body, source, target, run)
    return None


def _read_geneve(body: bytes, run: bytes) -> Packet | None:
    """The IP packet in a Geneve tunnel (RFC 8926)."""
    frame = body[8 + (body[0] & 0x3F) * 4 :] if len(body) >= 8 else b""
    reads = {b"\x08\x00": read_ipv4, b"\x86\xdd": read_ipv6}.get(frame[12:14])
    found = reads(frame[14:], run) if reads else None
    return found._replace(tunnel=int.from_bytes(body[4:7])) if found else None


def _read_tcp(body: bytes, source: int, target: int, run: bytes) -> Packet | None:
    # Eight octets are all that an ICMP error must quote: the ports and the sequence number.
    sport, dport, sequence = struct.unpack_from("!HHI", body)
    if len(body) < 20:
        return Packet(Kind.DATA, source, target, TCP, sport, dport, isn=sequence)
    _, _, _, acknowledged, offset, flags = _TCP.unpack_from(body)
    if flags & RST:
        return Packet(Kind.RESET, source, target, TCP, sport, dport)
    if flags & SYN:
        if flags & ACK:
            isn = (acknowledged - 1) & 0xFFFFFFFF
            return Packet(Kind.SYN_ACK, source, target, TCP, sport, dport, isn=isn, sequence=sequence)
        return Packet(Kind.SYN, source, target, TCP, sport, dport, isn=sequence)
    data = body[(offset >> 4) * 4 :]
    number = _number(data, run)
    return Packet(Kind.DATA, source, target, TCP, sport, dport, number, sequence=sequence, payload=data)


def _number(data: bytes, run: bytes) -> int:
    if len(data) < MARK_LENGTH or data[:RUN_LENGTH] != run:
        return -1
    return int.from_bytes(data[RUN_LENGTH:MARK_LENGTH])
