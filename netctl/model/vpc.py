"""VPCs: routing between overlay subnets and the ways out."""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Address
from typing import Annotated, Literal

from pydantic import Field, Tag

from netctl.model.base import WORD_OR_MAP, Address, Flag, Model, Name, Network, PortNumber


class ExternalAttachment(Model):
    """A way out of a VPC over an external subnet."""

    subnet: Name = Field(description="The external subnet.")
    nat: Flag = Field(True, description="Translate the VPC's addresses (SNAT) or not.")
    gateway_hosts: list[Name] = Field(
        default_factory=list, description="Hosts of the gateway, the active one first. Default: all."
    )
    router_ip: Address | None = Field(None, description="Default: from the external subnet's pool.")
    snat_ip: Address | None = Field(None, description="Default: the router's.")


class Route(Model):
    """A route of a VPC."""

    to: Network = Field(description="The destination; the longest prefix wins.")
    via: str = Field(description="An external subnet of the VPC, a transit VPC, or an address.")


class Reroute(Model):
    """Where a routing policy sends a packet instead."""

    reroute: Address = Field(description="The next hop, in the VPC.")


Action = Annotated[
    Annotated[Literal["permit", "deny", "reroute"], Tag("<word>")] | Annotated[Reroute, Tag("<map>")],
    WORD_OR_MAP,
]


class RoutingPolicy(Model):
    """A routing policy, evaluated before the route table; the highest priority first."""

    priority: int = Field(ge=1, le=1000, strict=True, description="1 to 1000; the highest is first.")
    from_: str = Field("any", alias="from", description="A subnet, address, CIDR, `external` or `any`.")
    to: str = Field("any", description="A subnet, address, CIDR, `external` or `any`.")
    protocol: Literal["any", "tcp", "udp", "icmp"] = Field("any", description="Which packets.")
    port: PortNumber | None = Field(None, description="Destination port of tcp and udp. Default: all.")
    ports: list[PortNumber] = Field(default_factory=list, description="Several destination ports.")
    action: Action = Field("permit", description="`permit`, `deny`, or `{reroute: ADDRESS}`.")
    reroute: Address | None = Field(None, description="Where to, with action reroute.")

    @property
    def hop(self) -> IPv4Address | None:
        """Where it sends packets; None when it does not."""
        return self.action.reroute if isinstance(self.action, Reroute) else self.reroute


class LoadBalancer(Model):
    """A layer 4 load balancer."""

    vip: Address = Field(description="The virtual address, in the VPC or external.")
    port: PortNumber = Field(description="The port of the VIP.")
    protocol: Literal["tcp", "udp"] = Field("tcp", description="What it balances.")
    backends: list[str] = Field(description="VM:PORT, VM/NIC:PORT or ADDRESS:PORT each.")
    health_check: Flag = Field(False, description="Leave out backends that do not answer.")
    affinity: Flag = Field(False, description="One client, one backend.")


class Vpc(Model):
    """A virtual private cloud: one logical router and its overlay subnets."""

    type: Literal["regular", "transit"] = Field("regular", description="`transit`: other VPCs attach to it.")
    external: list[ExternalAttachment] = Field(default_factory=list, description="Its ways out.")
    routes: list[Route] = Field(default_factory=list, description="Its route table.")
    floating_ips: dict[Address, str] = Field(
        default_factory=dict, description="External address to VM or VM/NIC index."
    )
    routable: list[Network] = Field(
        default_factory=list, description="Externally routable prefixes (no-NAT)."
    )
    routing_policies: list[RoutingPolicy] = Field(
        default_factory=list, description="Evaluated before the route table."
    )
    load_balancers: dict[Name, LoadBalancer] = Field(default_factory=dict, description="By name.")
    attach: list[Name] = Field(default_factory=list, description="Transit VPCs that it attaches to.")

    @property
    def hops(self) -> frozenset[IPv4Address]:
        """The addresses that its own routes and policies send others' packets to."""
        found = {policy.hop for policy in self.routing_policies if policy.hop}
        for route in self.routes:
            with contextlib.suppress(ValueError):
                found.add(IPv4Address(route.via))
        return frozenset(found)
