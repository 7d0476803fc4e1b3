"""Rates of devices: what a link carries in the direction in which its device sends (tc-htb(8)).

A queue of 50 ms in front of the rate, and LACP past it: a switch sends its own protocols before all else, or
a bond whose uplinks are full would lose its partner.
"""

from __future__ import annotations

from typing import Any

from pyroute2 import IPRoute

QUEUEING = "htb"
"""The kind of a queueing discipline that limits a device."""

_QUEUE_SECONDS = 0.05
_BURST_SECONDS = 0.002
_FRAME = 1518
_OVERHEAD = 22
"""Octets of Ethernet's header with two VLAN tags."""

_ROOT, _FIFO = 0x10000, 0x200000
_LINK, _FIRST, _REST = 0x10001, 0x10010, 0x10020
_TOP = 0xFFFFFFFF
_ETH_P_SLOW = 0x8809
_SUBTYPE_LACP = "0x01/0xff+0"


def limit(netlink: IPRoute, index: int, rate: int, mtu: int) -> None:
    """Limit what a device sends, which has no queueing discipline so far.

    Args:
        netlink: the device's namespace.
        index: the device.
        rate: bits a second.
        mtu: the device's; whole packets of it must fit in a burst.
    """
    octets = rate // 8
    burst = max(2 * (mtu + _OVERHEAD), int(octets * _BURST_SECONDS))
    sizes = {"ceil": octets, "burst": burst, "cburst": burst, "quantum": max(mtu + _OVERHEAD, 1514)}
    netlink.tc("add", QUEUEING, index, _ROOT, default=_REST & 0xFFFF)
    netlink.tc("add-class", QUEUEING, index, _LINK, parent=_ROOT, rate=octets, **sizes)
    netlink.tc(
        "add-class", QUEUEING, index, _FIRST, parent=_LINK, prio=0, rate=max(1, octets // 100), **sizes
    )
    netlink.tc("add-class", QUEUEING, index, _REST, parent=_LINK, prio=1, rate=octets, **sizes)
    packets = max(8, int(octets * _QUEUE_SECONDS / _FRAME))
    netlink.tc("add", "pfifo", index, _FIFO, parent=_REST, limit=packets)
    netlink.tc(
        "add-filter",
        "u32",
        index,
        parent=_ROOT,
        prio=1,
        protocol=_ETH_P_SLOW,
        target=_FIRST,
        keys=[_SUBTYPE_LACP],
    )


def same(one: int | None, other: int | None) -> bool:
    """Whether two limits are one to the kernel, which counts octets."""
    return one == other or (one is not None and other is not None and one // 8 == other // 8)


def unlimit(netlink: IPRoute, index: int) -> None:
    """Take a device's queueing discipline away. NetlinkError (ENOENT) where it has none."""
    netlink.tc("del", index=index, parent=_TOP)


def limit_of(netlink: IPRoute, index: int) -> int | None:
    """The limit of a device in bits a second; None where there is none of ours."""
    for found in netlink.get_classes(index=index):
        if found["handle"] == _LINK:
            options: Any = found.get_attr("TCA_OPTIONS")
            return int(options.get_attr("TCA_HTB_PARMS")["rate"]) * 8
    return None
