"""IPv6 addresses that follow from a MAC address (RFC 4291, Appendix A): what SLAAC gives a guest."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

LINK_LOCAL = IPv6Network("fe80::/64")
"""The network of the addresses that interfaces give themselves (RFC 4291, 2.5.6)."""

PREFIX_LENGTH = 64
"""SLAAC fills the second half of an address."""


def autoconfigured(network: IPv6Network, mac: str) -> IPv6Address:
    """The address that a NIC with this MAC address gives itself in a /64 (modified EUI-64)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return network[int.from_bytes(identifier)]
