"""What the ports of logical routers have in common."""

from __future__ import annotations

from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address

ROUTER_PREFIX = "0a:58"
"""First octets of a router port's MAC, then its address; locally administered, as no VM's assigned one is.

Two ports of one subnet have different addresses, so different MACs too.
"""


def router_mac(address: IPv4Address | IPv6Address | None) -> str:
    """The MAC of the router port, or of the floating IP, with this address; of an IPv6 address a hash."""
    assert address is not None
    tail = address.packed if isinstance(address, IPv4Address) else sha256(address.packed).digest()[:4]
    return f"{ROUTER_PREFIX}:{tail.hex(':')}"
