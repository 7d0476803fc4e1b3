"""What the ports of logical routers have in common."""

from __future__ import annotations

from ipaddress import IPv4Address

ROUTER_PREFIX = "0a:58"
"""First octets of a router port's MAC, then its address; locally administered, as no VM's assigned one is.

Two ports of one subnet have different addresses, so different MACs too.
"""


def router_mac(address: IPv4Address) -> str:
    """The MAC of the router port, or of the floating IP, with this address."""
    return f"{ROUTER_PREFIX}:{address.packed.hex(':')}"
