"""Announcements of guests: a gratuitous ARP request, as stacks send it when a link comes up (RFC 5227)."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address

_ETH_ARP = 0x0806
_REQUEST = bytes.fromhex("0001080006040001")  # Ethernet, IPv4, 6 and 4 octets, request


def announce(device: str, mac: str, address: IPv4Address) -> None:
    """Announce an address at a device of the calling thread's namespace, so that switches learn the MAC."""
    octets, ip = bytes.fromhex(mac.replace(":", "")), address.packed
    frame = b"\xff" * 6 + octets + _ETH_ARP.to_bytes(2, "big") + _REQUEST + octets + ip + bytes(6) + ip
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC) as raw:
        raw.bind((device, 0))
        raw.send(frame)
