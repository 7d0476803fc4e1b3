"""Security policies (microsegmentation): who may talk to whom, by category."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Any, Literal

from pydantic import Field

from netctl.model.base import Model, Name

Selector = dict[str, Any]
"""Categories that a VM must all have, or `all:`, `any:`, `not:` of selectors."""

Service = str
"""`tcp/80`, `udp/5000-5010`, `icmp`, `icmp/8`, a bare protocol, or a service group."""

Peer = Selector | str
"""A category selector, an address group, a subnet, a VPC, a CIDR, or `any`."""


class InboundRule(Model):
    """What may come in."""

    from_: Peer = Field("any", alias="from")
    services: list[Service] = Field(default_factory=list, description="Default: every service.")
    action: Literal["allow", "reject"] = "allow"
    chain: Name | None = None


class OutboundRule(Model):
    """What may go out."""

    to: Peer = "any"
    services: list[Service] = Field(default_factory=list, description="Default: every service.")
    action: Literal["allow", "reject"] = "allow"
    chain: Name | None = None


class Policy(Model):
    """A security policy; quarantine is evaluated first, then isolation, then application."""

    type: Literal["application", "isolation", "quarantine", "shared-service"]
    mode: Literal["enforce", "monitor", "save"] = "enforce"
    scope: Literal["all", "vlan"] | list[Name] = "all"
    secured: Selector | None = Field(None, description="The VMs with all of these categories.")
    between: list[Selector] | None = Field(None, description="The two sides of an isolation policy.")
    inbound: list[InboundRule] | None = Field(None, description="Left out: not restricted.")
    outbound: list[OutboundRule] | None = Field(None, description="Left out: not restricted.")
    intra_group: Literal["allow", "deny"] | dict[str, Any] = "deny"
    hit_log: bool = False
    chain: Name | None = None


AddressGroup = list[IPv4Network | IPv6Network]
ServiceGroup = list[Service]
