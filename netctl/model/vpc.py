"""VPCs: routing between overlay subnets and the ways out."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Literal

from pydantic import Field

from netctl.model.base import Model, Name, PortNumber


class ExternalAttachment(Model):
    """A way out of a VPC over an external subnet."""

    subnet: Name = Field(description="The external subnet.")
    nat: bool = Field(True, description="Translate the VPC's addresses (SNAT) or not.")
    gateway_hosts: list[Name] = Field(
        default_factory=list, description="Hosts of the gateway, the active one first. Default: all."
    )
    router_ip: IPv4Address | None = Field(None, description="Default: from the external subnet's pool.")
    snat_ip: IPv4Address | None = Field(None, description="Default: the router's.")


class Route(Model):
    """A route of a VPC."""

    to: IPv4Network
    via: str = Field(description="An external subnet of the VPC, or an address.")


class RoutingPolicy(Model):
    """A routing policy, evaluated before the route table; the highest priority first."""

    priority: int = Field(ge=1, le=1000)
    from_: str = Field("any", alias="from", description="A subnet, address, CIDR, `external` or `any`.")
    to: str = Field("any", description="A subnet, address, CIDR, `external` or `any`.")
    protocol: Literal["any", "tcp", "udp", "icmp"] = "any"
    port: PortNumber | None = None
    ports: list[PortNumber] = Field(default_factory=list)
    action: Literal["permit", "deny", "reroute"] | dict[Literal["reroute"], IPv4Address] = "permit"
    reroute: IPv4Address | None = Field(None, description="Where to, with action reroute.")


class LoadBalancer(Model):
    """A layer 4 load balancer."""

    vip: IPv4Address = Field(description="The virtual address, in the VPC or external.")
    port: PortNumber
    protocol: Literal["tcp", "udp"] = "tcp"
    backends: list[str] = Field(description="VM:PORT, VM/NIC:PORT or ADDRESS:PORT each.")
    health_check: bool = False
    affinity: bool = False


class Vpc(Model):
    """A virtual private cloud: one logical router and its overlay subnets."""

    type: Literal["regular", "transit"] = "regular"
    external: list[ExternalAttachment] = Field(default_factory=list)
    routes: list[Route] = Field(default_factory=list)
    floating_ips: dict[IPv4Address, str] = Field(
        default_factory=dict, description="External address to VM or VM/NIC index."
    )
    routable: list[IPv4Network] = Field(
        default_factory=list, description="Externally routable prefixes (no-NAT)."
    )
    routing_policies: list[RoutingPolicy] = Field(default_factory=list)
    load_balancers: dict[Name, LoadBalancer] = Field(default_factory=dict)
    attach: list[Name] = Field(default_factory=list, description="Transit VPCs that it attaches to.")
