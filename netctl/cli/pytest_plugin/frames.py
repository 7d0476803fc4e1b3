"""From what a test sends to the frame that leaves a NIC: Ethernet, next hop, VLAN tag.

The next hop is what the guest's own routing table says, and its MAC address what its neighbours answer.
"""

from __future__ import annotations

import errno
import itertools
import socket
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import Any

from dataplane import netns
from dataplane.checks.places import Address, Place
from netctl.cli.pytest_plugin.nics import Nics
from netctl.errors import InputError

_BROADCAST = "ff:ff:ff:ff:ff:ff"
_WITH_ETHERNET = "Send it with its Ethernet header: Ether(dst=...)/..."


def build(nics: Nics, place: Place, packet: Any, vlan: int | None) -> tuple[Any, bytes]:
    """What is sent, with whatever was filled in above Ethernet, and its frame.

    Args:
        nics: asked for the MAC address of the next hop.
        place: the NIC that it is to leave.
        packet: a scapy packet with or without Ethernet, or the octets of a frame.
        vlan: put a tag around it.

    Raises:
        InputError: it is no packet, or nobody knows where to send it.
    """
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import ARP, Dot1Q, Ether
    from scapy.packet import Packet

    if isinstance(packet, bytes):
        if len(packet) < 14:
            raise InputError(
                f"{len(packet)} octets are no frame", "Send a whole Ethernet frame, or a scapy packet."
            )
        return packet, _tagged(packet, vlan)
    if not isinstance(packet, Packet):
        raise InputError(f"{packet!r} is no packet", "Send a scapy packet, or the octets of a frame.")
    if not isinstance(packet, Ether | IP | IPv6 | ARP):
        raise InputError(
            f"a packet that begins with {type(packet).__name__} has no way to go",
            "Begin with IP(dst=...)/..., or with Ether(dst=...)/...",
        )
    sent = _single(packet).copy()
    inner = sent.getlayer(IP) or sent.getlayer(IPv6)
    if inner is not None and "src" not in inner.fields:
        own = place.address(6 if isinstance(inner, IPv6) else 4)
        if own is None:
            raise InputError(
                f"{place.name} has no address to send from",
                f"Write it: {type(inner).__name__}(src=..., dst=...).",
            )
        inner.src = str(own)
    frame = sent if isinstance(sent, Ether) else Ether() / sent.copy()
    tag = frame.getlayer(Dot1Q)
    if "src" not in frame.fields:
        frame.src = place.mac.hex(":")
    if "dst" not in frame.fields:
        frame.dst = _target(nics, place, frame, vlan if vlan is not None else tag.vlan if tag else None)
    return sent, _tagged(bytes(frame), vlan)


def _single(packet: Any) -> Any:
    """The one packet that it is; scapy's packets may also stand for a set of them."""
    first = list(itertools.islice(packet, 2))
    if len(first) != 1:
        raise InputError("this scapy packet is a set of packets", "Send them one by one: for each in packet.")
    return packet


def _tagged(frame: bytes, vlan: int | None) -> bytes:
    if vlan is None:
        return frame
    if not 0 <= vlan <= 4095:
        raise InputError(f"vlan={vlan} is no VLAN ID", "Write one from 1 to 4094.")
    return frame[:12] + b"\x81\x00" + vlan.to_bytes(2) + frame[12:]


def _target(nics: Nics, place: Place, frame: Any, vlan: int | None) -> str:
    """The destination MAC address of a frame that has none written."""
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import ARP

    arp, ip = frame.getlayer(ARP), frame.getlayer(IP)
    if arp is not None:
        return str(arp.hwdst) if arp.op == 2 and "hwdst" in arp.fields else _BROADCAST
    six = frame.getlayer(IPv6)
    if ip is None and six is None:
        raise InputError("nobody can tell the MAC address that this is to go to", _WITH_ETHERNET)
    address: Address
    own: Address
    if ip is None:
        address, own = IPv6Address(six.dst), IPv6Address(six.src)
        if address.is_multicast:  # RFC 2464, 7
            return "33:33:" + address.packed[-4:].hex(":")
    else:
        try:
            address, own = IPv4Address(ip.dst), IPv4Address(ip.src)
        except AddressValueError:
            raise InputError(f"IP.dst is {ip.dst!r}, which is no IPv4 address", "Write one.") from None
        if address == IPv4Address("255.255.255.255") or (place.network and address == place.network[-1]):
            return _BROADCAST
        if address.is_multicast:  # RFC 1112, 6.4
            return "01:00:5e:" + (int(address) & 0x7FFFFF).to_bytes(3).hex(":")
    hop = address if vlan is not None else _next_hop(nics.lab, place, address)
    found = nics.neighbor(place, hop, own, vlan)
    if found is None:
        tag = "" if vlan is None else f" in VLAN {vlan}"
        on_the_way = "" if hop == address else f", the next hop for {address}"
        raise InputError(
            f"nobody told {place.name} the MAC address of {hop}{tag}{on_the_way}", _WITH_ETHERNET
        )
    return found.hex(":")


def _next_hop(lab: str, place: Place, address: Address) -> Address:
    """What the guest's routing table says for this NIC (RTM_GETROUTE, rtnetlink(7))."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    network = place.prefix(address.version)

    def look() -> Address | None:
        with IPRoute() as netlink:
            [index] = netlink.link_lookup(ifname=place.device)
            [route] = netlink.route("get", family=family, dst=str(address), oif=index)
            gateway = route.get_attr("RTA_GATEWAY")
            if gateway:
                return ip_address(gateway)
            # Asked for a device, the kernel takes all that it has no route for to be on its link.
            if network is None or address not in network:
                [route] = netlink.route("get", family=family, dst=str(address))
                if route.get_attr("RTA_OIF") != index or route.get_attr("RTA_GATEWAY"):
                    return None
            return address

    try:
        hop = netns.inside(f"{lab}.{place.node}", look)
    except NetlinkError as error:
        if error.code not in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.ENETDOWN):
            raise
        hop = None
    if hop is None:
        raise InputError(f"{place.node} has no route to {address} over {place.name}", _WITH_ETHERNET)
    return hop
