"""What systems send of their own accord, and what makes a packet the same all along its way. Pure."""

from __future__ import annotations

import struct
from typing import Final

from dataplane.checks.packets import (
    ETH_ARP,
    ETH_IPV4,
    ETH_QINQ,
    ETH_RARP,
    ETH_VLAN,
    ICMP,
    ICMP_ERRORS,
    TCP,
    UDP,
)

Fingerprint = tuple[object, ...]

_ETH_IPV6, _ETH_SLOW, _ETH_LLDP = 0x86DD, 0x8809, 0x88CC
_LEAST_ETHERTYPE = 1536  # below, it is a length (IEEE 802.3): spanning tree and its like
_IGMP, _HOP_BY_HOP, _ICMP6 = 2, 0, 58
_DHCP: Final = frozenset((67, 68, 546, 547))
_NEIGHBORS: Final = frozenset((130, 131, 132, 133, 134, 135, 136, 137, 143))
"""ICMPv6: multicast listeners (RFC 2710, RFC 3810), routers and neighbours (RFC 4861)."""
_ICMP6_ERRORS: Final = frozenset((1, 2, 3, 4))


def inside(frame: bytes) -> tuple[int, list[int], bytes]:
    """EtherType, VLAN IDs from the outermost on, and what an Ethernet frame carries; 0 for half a frame."""
    tags: list[int] = []
    at = 12
    while len(frame) >= at + 2:
        kind = frame[at] << 8 | frame[at + 1]
        if kind not in (ETH_VLAN, ETH_QINQ) or len(frame) < at + 4:
            return kind, tags, frame[at + 2 :]
        tags.append((frame[at + 2] << 8 | frame[at + 3]) & 0xFFF)
        at += 4
    return 0, tags, b""


def is_background(frame: bytes) -> bool:
    """ARP, RARP, spanning tree, LACP, LLDP, IGMP, DHCP, and of ICMPv6 neighbours, routers and listeners."""
    kind, _, body = inside(frame)
    if kind in (ETH_ARP, ETH_RARP, _ETH_SLOW, _ETH_LLDP) or kind < _LEAST_ETHERTYPE:
        return True
    protocol, payload = _transport(kind, body)
    if protocol == UDP and len(payload) >= 4:
        return not _DHCP.isdisjoint(struct.unpack_from("!HH", payload))
    if protocol == _ICMP6 and kind == _ETH_IPV6 and payload:
        return payload[0] in _NEIGHBORS
    return protocol == _IGMP


def fingerprint(frame: bytes) -> Fingerprint:
    """The same for a packet wherever it is seen, whatever routing, NAT and VLANs changed in it.

    Left out are MAC addresses, tags, TTL, addresses, ports, the id of an ICMP echo, and checksums.
    """
    kind, _, body = inside(frame)
    if kind == ETH_IPV4 and len(body) >= 20:
        return (kind, *_ipv4(body))
    if kind == _ETH_IPV6 and len(body) >= 40:
        return (kind, *_core(body[6], body[40 : 40 + (body[4] << 8 | body[5])]))
    return kind, body.rstrip(b"\0")


def _ipv4(packet: bytes) -> Fingerprint:
    header, length = (packet[0] & 0xF) * 4, packet[2] << 8 | packet[3]
    fragment = (packet[6] << 8 | packet[7]) & 0x3FFF
    body = packet[header:length]
    if fragment:
        return packet[9], fragment, packet[4:6], body if fragment & 0x1FFF else _core(packet[9], body)
    return _core(packet[9], body)


def _core(protocol: int, body: bytes) -> Fingerprint:
    if protocol == UDP:
        return protocol, body[8:]
    if protocol == TCP and len(body) >= 20:
        return protocol, body[4:12], body[13], body[(body[12] >> 4) * 4 :]
    if protocol == ICMP and len(body) >= 8:
        if body[0] in ICMP_ERRORS:
            return protocol, body[:2], _quoted(body[8:])
        return protocol, body[:2], body[6:8], body[8:]
    if protocol == _ICMP6 and len(body) >= 8:
        if body[0] in _ICMP6_ERRORS:
            return protocol, body[:2], body[8 + 40 + 8 :]
        return protocol, body[:2], body[6:8], body[8:]
    return protocol, body


def _quoted(packet: bytes) -> bytes:
    """Of the packet that an ICMP error is about: what NAT leaves alone, behind its ports."""
    header = (packet[0] & 0xF) * 4 if packet else 0
    return packet[header + 8 :]


def _transport(kind: int, body: bytes) -> tuple[int, bytes]:
    """The protocol in an IP packet, and its payload; -1 if it is none."""
    if kind == ETH_IPV4 and len(body) >= 20:
        return body[9], body[(body[0] & 0xF) * 4 :]
    if kind == _ETH_IPV6 and len(body) >= 40:
        protocol, payload = body[6], body[40:]
        if protocol == _HOP_BY_HOP and len(payload) >= 8:  # MLD comes behind a router alert (RFC 3810)
            return payload[0], payload[(payload[1] + 1) * 8 :]
        return protocol, payload
    return -1, b""
