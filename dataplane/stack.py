"""Devices, addresses and routes of one namespace: read them, and make them as they must be (rtnetlink(7)).

All functions here act on the *calling thread's* namespace (`netns.inside`).
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import select
import socket
import struct
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTMGRP_LINK

from dataplane import shaping
from dataplane.inventory import Device, Route
from netctl.errors import ChangeError

_IFF_UP = 1
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17
_RTPROT_BOOT, _RTPROT_STATIC, _RTPROT_RA = 3, 4, 9
_IFA_F_PERMANENT = 0x80
_MAIN_TABLE = 254
_DISCARD = 9
_GLOBAL = 0  # RT_SCOPE_UNIVERSE


@dataclass(frozen=True, slots=True)
class Seen:
    """A device as the kernel shows it; `peer` is the index of the other end of a veth pair.

    `rate`: bits a second that it sends at most.
    """

    index: int
    group: int
    mac: str
    mtu: int
    up: bool
    carrier: bool
    kind: str
    peer: int | None
    rate: int | None = None


@dataclass(frozen=True)
class Snapshot:
    """What a namespace holds: devices by name, addresses by device, IPv4 routes that somebody set.

    Of IPv6 addresses only those that reach beyond the link. `forwards`: it passes on packets for others.
    """

    devices: Mapping[str, Seen] = field(default_factory=dict)
    addresses: Mapping[str, frozenset[IPv4Interface]] = field(default_factory=dict)
    routes: frozenset[Route] = frozenset()
    addresses6: Mapping[str, frozenset[IPv6Interface]] = field(default_factory=dict)
    forwards: bool = False


def snapshot() -> Snapshot:
    """Read the calling thread's namespace."""
    with Stack() as here:
        return here.snapshot()


class Stack:
    """The network stack of the calling thread's namespace, over one netlink socket."""

    def __init__(self) -> None:
        self._netlink = IPRoute()

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_: object) -> None:
        self._netlink.close()

    def snapshot(self) -> Snapshot:
        """Read devices, addresses and routes."""
        devices: dict[str, Seen] = {}
        names: dict[int, str] = {}
        for link in self._netlink.get_links():
            info = link.get_attr("IFLA_LINKINFO")
            name = str(link.get_attr("IFLA_IFNAME"))
            names[link["index"]] = name
            devices[name] = Seen(
                index=link["index"],
                group=int(link.get_attr("IFLA_GROUP") or 0),
                mac=str(link.get_attr("IFLA_ADDRESS")),
                mtu=int(link.get_attr("IFLA_MTU")),
                up=bool(link["flags"] & _IFF_UP),
                carrier=bool(link.get_attr("IFLA_CARRIER")),
                kind=str(info.get_attr("IFLA_INFO_KIND") or "") if info else "",
                peer=link.get_attr("IFLA_LINK"),
                rate=shaping.limit_of(self._netlink, link["index"])
                if link.get_attr("IFLA_QDISC") == shaping.QUEUEING
                else None,
            )
        addresses: dict[str, set[IPv4Interface]] = {}
        for entry in self._netlink.get_addr(family=socket.AF_INET):
            # IFA_LOCAL is the device's own address, IFA_ADDRESS the peer's on point-to-point links.
            address = IPv4Interface(f"{entry.get_attr('IFA_LOCAL')}/{entry['prefixlen']}")
            addresses.setdefault(names[entry["index"]], set()).add(address)
        routes = set()
        direct = set()
        for route in self._netlink.get_routes(family=socket.AF_INET, table=_MAIN_TABLE):
            via = route.get_attr("RTA_GATEWAY")
            if not via:
                direct.add((names.get(route.get_attr("RTA_OIF")), route.get_attr("RTA_DST")))
            if via and route["proto"] in (_RTPROT_BOOT, _RTPROT_STATIC):
                to = f"{route.get_attr('RTA_DST') or '0.0.0.0'}/{route['dst_len']}"
                device = names.get(route.get_attr("RTA_OIF"), "")
                routes.add(Route(to, str(via), device, int(route.get_attr("RTA_PRIORITY") or 0)))
        # An address whose network somebody took out of the routes is of no use: it counts as missing.
        frozen = {
            name: frozenset(
                address
                for address in found
                if address.network.prefixlen == 32
                or not devices[name].up
                or (name, str(address.network[0])) in direct
            )
            for name, found in addresses.items()
        }
        forwards = Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
        return Snapshot(devices, frozen, frozenset(routes), self._addresses6(names), forwards)

    def _addresses6(self, names: Mapping[int, str]) -> dict[str, frozenset[IPv6Interface]]:
        """IPv6 addresses by device; without the routes that come with it, one counts as missing."""
        direct, out = set(), set()
        for route in self._netlink.get_routes(family=socket.AF_INET6, table=_MAIN_TABLE):
            device = names.get(route.get_attr("RTA_OIF"), "")
            if route.get_attr("RTA_DST"):
                direct.add((device, route.get_attr("RTA_DST")))
            elif route["proto"] == _RTPROT_RA:
                out.add(device)
        found: dict[str, set[IPv6Interface]] = {}
        for entry in self._netlink.get_addr(family=socket.AF_INET6, scope=_GLOBAL):
            device = names[entry["index"]]
            address = IPv6Interface(f"{entry.get_attr('IFA_ADDRESS')}/{entry['prefixlen']}")
            advertised = not entry["flags"] & _IFA_F_PERMANENT
            if (device, str(address.network[0])) in direct and (device in out or not advertised):
                found.setdefault(device, set()).add(address)
        return {device: frozenset(addresses) for device, addresses in found.items()}

    def configure_device(self, device: Device, seen: Seen | None) -> None:
        """Give a device its MAC, MTU, state and rate; `seen` None: it is new, made with MAC and MTU."""
        changes: dict[str, object] = {}
        if seen is None:
            changes["state"] = "up" if device.up else "down"
        else:
            if seen.mtu != device.mtu:
                changes["mtu"] = device.mtu
            if device.mac and seen.mac != device.mac:
                changes["address"] = device.mac
            if seen.up != device.up:
                changes["state"] = "up" if device.up else "down"
        if changes:
            self._netlink.link("set", index=self._index(device.name), **changes)
        if device.stack:
            checksum_in_software(device.name)
        limited = seen.rate if seen else None
        if not shaping.same(limited, device.rate):
            index = self._index(device.name)
            with _tolerating(errno.ENOENT):
                shaping.unlimit(self._netlink, index)
            if device.rate is not None:
                shaping.limit(self._netlink, index, device.rate, device.mtu)

    def configure_layer3(
        self,
        addresses: Mapping[str, IPv4Interface],
        routes: tuple[Route, ...],
        managed: Collection[str],
        leave: Collection[str] = (),
    ) -> None:
        """Make the addresses of the managed devices, and the routes, exactly these.

        A device that is not there (yet) is passed over. Routes over the devices in `leave` are somebody
        else's (a DHCP client's).
        """
        seen = self.snapshot()
        for name in managed:
            if name not in seen.devices:
                continue
            index = seen.devices[name].index
            wanted = {addresses[name]} if name in addresses else set()
            have = seen.addresses.get(name, frozenset())
            for address in have - wanted:
                with _tolerating(errno.EADDRNOTAVAIL):
                    self._netlink.addr(
                        "del", index=index, address=str(address.ip), prefixlen=_length(address)
                    )
            for address in wanted - have:
                # With an address that is there after all, its network is not in the routes.
                with _tolerating(errno.EADDRNOTAVAIL):
                    self._netlink.addr(
                        "del", index=index, address=str(address.ip), prefixlen=_length(address)
                    )
                with _tolerating(errno.EEXIST):
                    self._netlink.addr(
                        "add", index=index, address=str(address.ip), prefixlen=_length(address)
                    )
        gone = {route for route in seen.routes - set(routes) if route.device not in leave}
        # Those that stay are set again too: the kernel drops routes along with an address.
        for verb, concerned in (("del", gone), ("replace", set(routes))):
            for route in sorted(concerned):
                with _tolerating(errno.ESRCH):
                    self._netlink.route(
                        verb,
                        dst=route.to,
                        gateway=route.via,
                        oif=seen.devices[route.device].index if route.device in seen.devices else None,
                        priority=route.metric,
                        proto=_RTPROT_STATIC,
                    )

    def add_address6(self, name: str, address: IPv6Interface) -> None:
        """Add an IPv6 address to a device; nothing happens when it is there."""
        with _tolerating(errno.EEXIST):
            self._netlink.addr(
                "add", index=self._index(name), address=str(address.ip), prefixlen=address.network.prefixlen
            )

    def make_bridge(self, name: str, member: str) -> None:
        """Make the Linux bridge `name` with one member, both up (virbr0 between a host and its CVM)."""
        with _tolerating(errno.EEXIST):
            self._netlink.link("add", ifname=name, kind="bridge")
        index = self._index(name)
        self._netlink.link("set", index=index, state="up")
        self._netlink.link("set", index=self._index(member), master=index, state="up")

    def set_up(self, name: str) -> None:
        """Set a device up."""
        self._netlink.link("set", index=self._index(name), state="up")

    def _index(self, name: str) -> int:
        found = self._netlink.link_lookup(ifname=name)
        if not found:
            raise ChangeError(f"the device {name} is not there")
        return int(found[0])


def checksum_in_software(device: str) -> None:
    """Turn transmit checksum offload off (ethtool(8), `-K DEV tx off`).

    veth hands over packets with checksums still to be computed; a userspace datapath would forward
    them broken, and TCP would not work.
    """
    value = array.array("B", struct.pack("=II", _ETHTOOL_STXCSUM, 0))
    address, _ = value.buffer_info()
    request = struct.pack("16sP16x", device.encode(), address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCETHTOOL, request)


def provoke_arp(addresses: Iterable[IPv4Address]) -> None:
    """Have the kernel ask for the MAC addresses of these neighbours: a datagram each, to nobody."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for address in addresses:
            with contextlib.suppress(OSError):
                sender.sendto(b"", (str(address), _DISCARD))


def answer_arp_where_asked() -> None:
    """Answer ARP only on the device that has the address (arp_ignore=1, ip-sysctl).

    A host's stack sees what comes in on its uplinks too. By default it would answer there for br0's address
    with the uplink's MAC, ovs-vswitchd of the peer would learn that one, and Geneve would go nowhere.
    """
    Path("/proc/sys/net/ipv4/conf/all/arp_ignore").write_text("1")


def learn_from_announcements() -> None:
    """Remember who announces an address of his own accord (arp_accept=1, ip-sysctl), as a neighbour."""
    Path("/proc/sys/net/ipv4/conf/all/arp_accept").write_text("1")


def neighbours() -> dict[tuple[str, str], set[IPv4Address]]:
    """The IPv4 addresses that the calling thread's namespace knows, by device and MAC address."""
    found: dict[tuple[str, str], set[IPv4Address]] = {}
    with IPRoute() as netlink:
        names = {link["index"]: str(link.get_attr("IFLA_IFNAME")) for link in netlink.get_links()}
        for entry in netlink.get_neighbours(family=socket.AF_INET):
            mac, address = entry.get_attr("NDA_LLADDR"), entry.get_attr("NDA_DST")
            if mac and address:
                found.setdefault((names[entry["ifindex"]], str(mac)), set()).add(IPv4Address(address))
    return found


@dataclass(frozen=True, slots=True)
class Hop:
    """The next hop of a packet: over which device, to which MAC address, and by which route, in words."""

    device: str
    mac: str
    words: str


def next_hop(address: str, limit: float) -> Hop | str:
    """How the kernel would send a packet to this address; in words why it would not.

    A neighbour that is not known is asked for, `limit` seconds at most.
    """
    with IPRoute() as netlink:
        try:
            (route,) = netlink.route("get", dst=address)
        except NetlinkError:
            return f"it has no route to {address}"
        via = str(route.get_attr("RTA_GATEWAY") or address)
        (link,) = netlink.get_links(route.get_attr("RTA_OIF"))
        words = f"to {via}" if via != address else "it is its neighbour"
        deadline = time.monotonic() + limit
        while True:
            for entry in netlink.get_neighbours(family=socket.AF_INET, dst=via):
                mac = entry.get_attr("NDA_LLADDR")
                if mac and mac != "00:00:00:00:00:00":
                    return Hop(str(link.get_attr("IFLA_IFNAME")), str(mac), words)
            if time.monotonic() > deadline:
                return f"nobody tells it the MAC address of {via}"
            provoke_arp([IPv4Address(via)])
            time.sleep(0.05)


def forward(on: bool) -> None:
    """Forward packets as a router does, or not (ip-sysctl).

    A router tells nobody of a shorter way: who is told would keep to it when the route has gone.
    """
    here = Path("/proc/sys/net/ipv4")
    (here / "ip_forward").write_text(f"{on:d}")
    for scope in ("all", "default", "eth0"):
        with contextlib.suppress(FileNotFoundError):
            (here / "conf" / scope / "send_redirects").write_text(f"{not on:d}")


def delete_device(name: str) -> None:
    """Delete a device; nothing happens when it is gone."""
    with IPRoute() as netlink, _tolerating(errno.ENODEV):
        for index in netlink.link_lookup(ifname=name):
            netlink.link("del", index=index)


def wait_for_device(name: str, limit: float) -> None:
    """Wait until the device is there, told by the kernel's link events. ChangeError after `limit` seconds."""
    deadline = time.monotonic() + limit
    with IPRoute() as netlink, IPRoute() as events:
        events.bind(RTMGRP_LINK)
        while not netlink.link_lookup(ifname=name):
            left = deadline - time.monotonic()
            if left <= 0:
                raise ChangeError(f"the device {name} did not appear within {limit:.0f} s")
            _await_event(events, min(left, 1.0))


def _await_event(events: IPRoute, limit: float) -> None:
    if select.select([events.fileno()], [], [], limit)[0]:
        for _ in events.get():
            pass


def _length(address: IPv4Interface) -> int:
    return address.network.prefixlen


@contextlib.contextmanager
def _tolerating(number: int) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code != number:
            raise
