"""Checks: what a packet must do, and stories of several steps."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from netctl.model.base import Address, Duration, Model, Name, PortNumber, VlanId

Protocol = Literal["icmp", "icmp6", "arp", "tcp", "udp"]
Expectation = Literal["delivered", "dropped", "rejected"]


class Probe(Model):
    """One packet question: from where, to where, what kind, and what must become of it."""

    name: str | None = None
    from_: str | None = Field(None, alias="from", description="VM, VM/NIC index, or physical machine.")
    to: str | None = Field(None, description="VM, VM/NIC index, physical machine, or an address.")
    protocol: Protocol = "icmp"
    port: PortNumber | None = Field(None, description="Destination port of tcp and udp.")
    vlan: VlanId | None = Field(None, description="Send tagged with this VLAN.")
    size: int | None = Field(None, ge=0, le=65000, strict=True, description="Octets of payload.")
    count: int = Field(1, ge=1, le=10000, strict=True, description="Packets to send.")
    expect: Expectation = "delivered"
    through: list[Name] | None = Field(None, description="Exactly these network functions, in this order.")
    on_uplink: str | None = Field(None, description="The uplink that the packet leaves on.")
    via: list[Name] | None = Field(None, description="The switches that it crosses.")
    snat: Address | None = Field(None, description="The sender as the receiver sees it.")


class Migration(Model):
    """A live migration in a story."""

    vm: Name
    to: Name


class Step(Model):
    """One step of a story; exactly one verb."""

    check: Probe | None = None
    fail: str | None = None
    heal: str | None = None
    traffic: Probe | None = None
    apply: dict[str, Any] | None = None
    migrate: Migration | None = None
    within: Duration | None = Field(None, description="How long a check may take to come true, such as 2s.")
    max_outage: Duration | None = Field(None, description="The longest gap that traffic may see.")
    rarp: list[Name] | None = Field(None, description="Subnets on which a RARP must be seen.")


class Check(Probe):
    """A probe with a name, or a story."""

    steps: list[Step] | None = None
