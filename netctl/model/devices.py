"""Names of the devices on the fabric: one place, so that who makes a link and who bridges it agree.

A device of a switch is called after what hangs on the other end: `hv1.eth0` for a host's NIC, `tor2.0`
for the first link to tor2, `client.eth0` for a bare machine. Names of the intent have no dot, and all
nodes of a lab have different names, so no two devices of one switch clash. A name that Linux would not
take (over 15 characters) keeps its end and gets a hash in its middle: `hyp_d5ac3k.eth0`.
"""

from __future__ import annotations

from base64 import b32encode
from hashlib import sha256

MAX_LENGTH = 15
"""IFNAMSIZ less the final zero (linux/if.h)."""

SWITCH_BRIDGE = "br"
"""The one bridge of a top-of-rack switch."""

INTEGRATION_BRIDGE = "brAtlas"
"""The bridge of a host in which ovn-controller owns every flow."""

CVM_BRIDGE = "virbr0"
"""The Linux bridge between a host and its controller VM."""

CVM_LINK = "vnet0"
"""The host's side of the link to its controller VM."""

MACHINE_NIC = "eth0"
"""The device of a bare machine."""


def _device(node: str, end: str) -> str:
    name = f"{node}.{end}"
    if len(name) <= MAX_LENGTH:
        return name
    digest = b32encode(sha256(node.encode()).digest()).decode().lower()[:6]
    return f"{node[: MAX_LENGTH - len(end) - 8]}_{digest}.{end}"


def cable(host: str, nic: str) -> str:
    """The switch's side of the cable to a host's NIC."""
    return _device(host, nic)


def link(peer: str, index: int = 0) -> str:
    """A switch's side of a link to another switch; `index` counts parallel links of the pair from 0.

    The link between tor1 and tor2 is `link("tor2")` on tor1 and `link("tor1")` on tor2.
    """
    return _device(peer, str(index))


def machine_cable(machine: str) -> str:
    """The switch's side of the cable to a bare machine."""
    return _device(machine, MACHINE_NIC)


def function_port(function: str, end: str) -> str:
    """The host's side of a NIC of a network function."""
    return _device(function, end)
