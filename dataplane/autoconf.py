"""IPv6 addresses of guests: by router advertisements where OVN routes the subnet, else set.

A guest's kernel asks for a router when IPv6 is turned on at a NIC: so that is done once the lab is ready.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from ipaddress import IPv6Interface
from pathlib import Path

from dataplane import netns, stack
from dataplane.inventory import Node

LIMIT = 15.0
"""Seconds within which a guest must have its address."""

_SETTINGS = {"accept_dad": "0", "accept_ra": "2", "addr_gen_mode": "0", "forwarding": "0"}
"""ip-sysctl: no wait for duplicates (the address follows from the MAC), routers heard, EUI-64 identifiers."""


def configure(lab: str, node: Node) -> list[str]:
    """Give a guest its IPv6 addresses, and take from it those that are not in the intent.

    Returns in words what is still missing after LIMIT seconds.
    """
    namespace = f"{lab}.{node.name}"
    return netns.inside(namespace, lambda: _configure(node))


def _configure(node: Node) -> list[str]:
    have = stack.snapshot().addresses6
    for device in set(have) - set(node.addresses6):
        _set(device, "disable_ipv6", "1")
    wanted = {
        device: address
        for device, (address, _) in node.addresses6.items()
        if have.get(device, frozenset()) != frozenset({address})
    }
    for device, address in wanted.items():
        _set(device, "disable_ipv6", "1")
        for name, value in _SETTINGS.items():
            _set(device, name, value)
        _set(device, "disable_ipv6", "0")
        if not node.addresses6[device][1]:
            with stack.Stack() as here:
                here.add_address6(device, address)
    deadline = time.monotonic() + LIMIT
    while missing := _missing(wanted.items()):
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return [f"{node.name} {device} has not got {wanted[device]} by SLAAC" for device in missing]


def _missing(wanted: Iterable[tuple[str, IPv6Interface]]) -> list[str]:
    have = stack.snapshot().addresses6
    return [device for device, address in wanted if address not in have.get(device, frozenset())]


def _set(device: str, name: str, value: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        Path(f"/proc/sys/net/ipv6/conf/{device}/{name}").write_text(value)
