"""Checks: what a packet must do, and stories of several steps."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from netctl.model.base import Address, Duration, Model, Name, PortNumber, VlanId

Protocol = Literal["icmp", "icmp6", "arp", "tcp", "udp"]
Expectation = Literal["delivered", "dropped", "rejected"]


class Probe(Model):
    """One packet question: from where, to where, what kind, and what must become of it."""

    name: str | None = Field(None, description="What it shows. Default: its ends and its protocol.")
    from_: str | None = Field(None, alias="from", description="VM, VM/NIC index, or physical machine.")
    to: str | None = Field(None, description="VM, VM/NIC index, physical machine, or an address.")
    protocol: Protocol = Field("icmp", description="What to send.")
    port: PortNumber | None = Field(None, description="Destination port of tcp and udp.")
    vlan: VlanId | None = Field(None, description="Send tagged with this VLAN.")
    size: int | None = Field(None, ge=0, le=65000, strict=True, description="Octets of payload.")
    count: int = Field(1, ge=1, le=10000, strict=True, description="Packets to send.")
    expect: Expectation = Field(
        "delivered",
        description="`delivered`: arrives, and the answer comes back; `dropped`: arrives nowhere; "
        "`rejected`: dropped, and the sender is told.",
    )
    through: list[Name] | None = Field(None, description="Exactly these network functions, in this order.")
    on_uplink: str | None = Field(None, description="The uplink that the packet leaves on.")
    via: list[Name] | None = Field(
        None, description="The switches that it crosses, in order; hosts in between too, if one is named."
    )
    snat: Address | None = Field(None, description="The sender as the receiver sees it.")


class Migration(Model):
    """A live migration in a story."""

    vm: Name = Field(description="The VM to move.")
    to: Name = Field(description="The host to move it to.")


class Step(Model):
    """One step of a story; exactly one verb."""

    check: Probe | None = Field(None, description="A probe, as above.")
    fail: str | None = Field(
        None,
        description="`link HOST NIC`, `switch NAME`, `host NAME`, `function NAME` or `daemon HOST DAEMON`.",
    )
    heal: str | None = Field(None, description="As `fail`, or `all`.")
    traffic: Probe | None = Field(None, description="A probe that goes on to the end of the story.")
    apply: dict[str, Any] | None = Field(
        None, description="A patch of this file: keys with their new values."
    )
    migrate: Migration | None = Field(None, description="A live migration.")
    within: Duration | None = Field(None, description="How long a check may take to come true, such as 2s.")
    max_outage: Duration | None = Field(None, description="The longest gap that traffic may see.")
    rarp: list[Name] | None = Field(None, description="Subnets on which a RARP must be seen.")


class Check(Probe):
    """A probe with a name, or a story."""

    steps: list[Step] | None = Field(None, description="A story, in place of a probe: one verb a step.")
