"""Address management of VLAN basic subnets, as AHV has it: VXLAN ports from a host's br0.local to its CVM.

    br0.dhcp     what guests of managed subnets ask of DHCP, and what the CVM's server answers
    br0.arp      the ARP packets of guests, from which the CVM learns who has which address

Over both, the VXLAN network identifier is the VLAN. Open vSwitch's own datapath sends VXLAN by one of its own
bridges only, hence br.cvm: one port, and it leads to the CVM.

    br0.local -- br0.dhcp, br0.arp ~~ br.cvm -- vnet1 -- eth2 (CVM) ~~ dhcp0.20: DHCP server of VLAN 20
                                                                    ~~ arp0.20: addresses seen in VLAN 20

Here are the names and numbers, so that who makes the ports and who makes the CVM's side agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Interface
from typing import Literal

from netctl.model import basic
from netctl.model.intent import Hypervisor, Intent, Port, UplinkBridge

Purpose = Literal["dhcp", "arp"]
"""What a VXLAN port to the CVM is for."""

PURPOSES: tuple[Purpose, ...] = ("dhcp", "arp")

BRIDGE = "br.cvm"
"""The bridge of a host over which its VXLAN ports reach the CVM."""

LINK = "vnet1"
"""The host's side of that bridge's link to the CVM."""

CVM_DEVICE = "eth2"
"""The CVM's side of that link."""

# The half of AHV's internal network (192.168.5.0/24) that virbr0 leaves; the same on every host.
HOST_ADDRESS = IPv4Interface("192.168.5.129/25")
CVM_ADDRESS = IPv4Interface("192.168.5.130/25")

CVM_MAC = "0a:63:76:6d:00:02"

FIRST_UDP_PORT, UDP_PORT_STEP = 4789, 10
"""VXLAN's UDP port (RFC 7348). Each VXLAN port of a host has one of its own, counted up from this one."""

SERVER_MAC_PREFIX = "0a:58"
"""First octets of a DHCP server's MAC, then its address: as OVN's servers have it here."""


def tunnel(bridge: UplinkBridge, purpose: Purpose) -> str:
    """The VXLAN port of a virtual switch: br0.dhcp, br0.arp."""
    return f"{bridge.bridge}.{purpose}"


def udp_port(bridge: UplinkBridge, purpose: Purpose) -> int:
    """The UDP port of a VXLAN port, at both ends."""
    place = len(PURPOSES) * basic.number(bridge) + PURPOSES.index(purpose)
    return FIRST_UDP_PORT + UDP_PORT_STEP * place


def tunnel_end(bridge: UplinkBridge, purpose: Purpose, vlan: int) -> str:
    """The CVM's device at which a VLAN of a virtual switch comes out: dhcp0.20, arp0.20."""
    return f"{purpose}{basic.number(bridge)}.{vlan}"


@dataclass(frozen=True, slots=True)
class Served:
    """A VLAN basic subnet that has NICs on a host.

    `server` is the address of its DHCP server, `mac` that one's, None where the subnet is not managed.
    """

    subnet: str
    bridge: UplinkBridge
    vlan: int
    ports: tuple[Port, ...]
    server: IPv4Interface | None = None
    mac: str | None = None


def subnets_of(intent: Intent, host: Hypervisor) -> list[Served]:
    """The VLAN basic subnets that NICs on a host are in; other VLANs of a trunk do not count."""
    found = []
    for bridge in basic.bridges_of(intent, host):
        ports: dict[str, list[Port]] = {}
        for port in basic.ports_of(intent, host, bridge):
            ports.setdefault(port.subnet, []).append(port)
        for name, its in sorted(ports.items()):
            subnet = intent.file.subnets[name]
            address = subnet.dhcp_address
            assert subnet.vlan is not None
            server = mac = None
            if subnet.answers_dhcp and subnet.cidr is not None and address is not None:
                server = IPv4Interface((address, subnet.cidr.prefixlen))
                mac = f"{SERVER_MAC_PREFIX}:{address.packed.hex(':')}"
            found.append(Served(name, bridge, subnet.vlan, tuple(its), server, mac))
    return found


def managed(intent: Intent, bridge: UplinkBridge, vlans: Iterable[int]) -> list[int]:
    """Those of a virtual switch's VLANs in which nobody answers DHCP but the CVMs."""
    answered = {
        subnet.vlan
        for subnet in intent.file.subnets.values()
        if subnet.type == "vlan-basic" and subnet.switch == bridge.switch and subnet.answers_dhcp
    }
    return sorted(vlan for vlan in vlans if vlan in answered)
