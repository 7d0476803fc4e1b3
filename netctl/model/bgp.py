"""BGP: what routers on the fabric learn of VPCs, and who tells them.

A way out of a VPC that has a router (`physical:`, `kind: router`) on its VLAN gets a speaker on each of its
gateway hosts. The one on the host that is the gateway announces; the next hop is always the VPC's own
address.

    hv1 (gateway)  --- hv1.bgp1: 172.20.0.2 ---.
                                               +--- edge: 172.20.0.1   192.168.2.0/24 via 172.20.0.50
    hv3 (standby)  --- hv3.bgp2: 172.20.0.3 ---'
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from netctl.model.intent import Gateway, Intent, Machine, Port

GATEWAYS_AS, ROUTERS_AS = 64512, 64513
"""The autonomous systems of all speakers of VPCs, and of all routers (RFC 6996: private use)."""

MAC_PREFIX = "0a:62:67:70"
"""First octets of speakers' MAC addresses; locally administered. No VM or bare machine may claim one."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who speaks BGP for a way out of a VPC on one of its gateway hosts. `number` is unique in the lab."""

    number: int
    host: str
    way: Gateway
    vlan: int
    switch: str
    address: IPv4Interface

    @property
    def name(self) -> str:
        """The name of its node."""
        return f"{self.host}.bgp{self.number}"

    @property
    def device(self) -> str:
        """The device in its host."""
        return f"bgp{self.number}"

    @property
    def mac(self) -> str:
        """Its MAC address."""
        return f"{MAC_PREFIX}:{self.number >> 8:02x}:{self.number & 255:02x}"


@dataclass(frozen=True, slots=True)
class Announcement:
    """A prefix that routers learn, while the VPC has a gateway and, unless `nic` is None, that NIC is up."""

    prefix: IPv4Network
    nic: Port | None = None


def key(vpc: str, subnet: str, host: str) -> str:
    """What stands for a speaker in the assignments."""
    return f"{vpc}/{subnet}/{host}"


def routers(intent: Intent, way: Gateway) -> list[Machine]:
    """The routers that learn of a way out, by name."""
    return [
        machine
        for _, machine in sorted(intent.machines.items())
        if machine.definition.kind == "router" and way in intent.gateways_beside(machine.definition)
    ]


def speakers(intent: Intent) -> list[Speaker]:
    """All speakers of the lab."""
    found = []
    for way in intent.gateways:
        subnet = intent.file.subnets[way.subnet]
        for host in way.hosts:
            number, address = intent.assignments.speakers.get(key(way.vpc, way.subnet, host), (0, ""))
            if number and subnet.cidr is not None and subnet.vlan is not None:
                on = IPv4Interface(f"{IPv4Address(address)}/{subnet.cidr.prefixlen}")
                found.append(Speaker(number, host, way, subnet.vlan, subnet.switch, on))
    return found


def announced(intent: Intent, way: Gateway) -> list[Announcement]:
    """What is announced of a way out: floating IPs where it has NAT, externally routable prefixes else.

    Not floating IPs of NICs that the intent has down: OVN goes on to take those for up.
    A VPC that says no such prefixes routes all of its subnets, and those of the VPCs that attach to it.
    """
    vpc = intent.file.vpcs[way.vpc]
    if way.snat_ip is not None:
        cidr = intent.file.subnets[way.subnet].cidr
        return [
            Announcement(IPv4Network(address), intent.port(target))
            for address, target in sorted(vpc.floating_ips.items())
            if cidr is not None and address in cidr and intent.port(target).enabled
        ]
    inside = {way.vpc, *(name for name, other in intent.file.vpcs.items() if way.vpc in other.attach)}
    own = [one.cidr for one in intent.file.subnets.values() if one.vpc in inside and one.cidr is not None]
    return [Announcement(prefix) for prefix in sorted({*(vpc.routable or own)})]


def learned(intent: Intent, router: Machine) -> dict[IPv4Network, IPv4Address]:
    """What a router knows when all is well: prefix to next hop."""
    return {
        one.prefix: way.router_ip
        for way in intent.gateways
        if router in routers(intent, way) and any(speaker.way == way for speaker in speakers(intent))
        for one in announced(intent, way)
    }
