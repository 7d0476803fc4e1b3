"""The fabric: top-of-rack switches, the links between them, and bare machines on their ports."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from netctl.model.base import Address, Interface, Mac, Model, Mtu, Name, Network, VlanId


class Switch(Model):
    """A top-of-rack switch (ToR); every VLAN on every port."""


class Fabric(Model):
    """The physical network between the hosts."""

    switches: dict[Name, Switch] | None = Field(None, description="The ToRs. Default: tor1 and tor2.")
    links: list[Annotated[list[Name], Field(min_length=2, max_length=2)]] | None = Field(
        None, description="Pairs of switches. Default: one line in the order given; RSTP breaks loops."
    )
    mlag: list[Annotated[list[Name], Field(min_length=2, max_length=2)]] = Field(
        default_factory=list, description="Pairs of switches that answer LACP as one switch."
    )
    mtu: Mtu = Field(9000, description="Octets of a layer 3 packet on every fabric link.")


class StaticRoute(Model):
    """A route of a bare machine."""

    to: Network = Field(description="The destination.")
    via: Address = Field(description="The next hop.")


class Physical(Model):
    """A bare machine on an access port of a ToR."""

    switch: Name = Field(description="The ToR that it hangs on.")
    vlan: VlanId | None = Field(None, description="The access VLAN of its port. Default: untagged.")
    ip: Interface | None = Field(None, description="Its address with the prefix length.")
    gateway: Address | None = Field(None, description="Its default gateway.")
    mac: Mac | None = Field(None, description="Default: assigned, then stable.")
    routes: list[StaticRoute] = Field(default_factory=list, description="Further routes.")
    kind: Literal["machine", "router"] = Field("machine", description="`router`: runs FRR with BGP.")
