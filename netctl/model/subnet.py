"""Subnets: VLAN basic, VLAN (network-controller VLAN), overlay and external."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from pydantic import Field

from netctl.model.base import Address, Flag, Model, Mtu, Name, Network, Network6, Range, VlanId
from netctl.model.host import SwitchName

LEASE_TIME = 86400
"""Seconds of a DHCP lease where the subnet says nothing."""

SubnetType = Literal["vlan", "vlan-basic", "overlay", "external"]


class Subnet(Model):
    """A layer 2 network and the addresses in it."""

    type: SubnetType = Field(description="What carries it and who controls it.")
    vlan: VlanId | None = Field(None, description="VLAN ID; needed by all types but overlay.")
    virtual_switch: SwitchName | None = Field(None, description="Whose uplinks it uses. Default: vs0.")
    vpc: Name | None = Field(None, description="The VPC of an overlay subnet.")
    cidr: Network | None = Field(None, description="Its addresses. Left out: unmanaged.")
    cidr6: Network6 | None = Field(None, description="Its IPv6 addresses.")
    gateway: Address | None = Field(
        None, description="Default for overlay subnets: the first address of the CIDR."
    )
    pool: list[Range] | None = Field(
        None, description="Ranges to assign from. Default: every address but the gateway and the first."
    )
    dhcp: Flag | None = Field(
        None, description="Answer DHCP. Default: VLAN basic subnets with a CIDR do, others do not."
    )
    dhcp_server: Address | None = Field(
        None, description="Who answers DHCP. Default: the last address of the CIDR."
    )
    dns: list[Address] = Field(default_factory=list, description="DNS servers told by DHCP.")
    domain: str | None = Field(None, description="Domain name told by DHCP.")
    lease_time: int | None = Field(None, ge=60, strict=True, description="Seconds of a DHCP lease.")
    mtu: Mtu | None = Field(None, description="Default: 1500, for overlay less where the fabric needs it.")
    chain: Name | None = Field(None, description="A service chain for all of its traffic.")
    clusters: list[Name] | None = Field(None, description="Clusters it exists in. Default: all.")

    @property
    def switch(self) -> SwitchName:
        """The virtual switch whose uplinks it uses."""
        return self.virtual_switch or "vs0"

    @property
    def router(self) -> IPv4Address | None:
        """The gateway: as written, for an overlay subnet else the first address; None where nobody routes."""
        if self.gateway is None and self.type == "overlay" and self.cidr is not None:
            return self.cidr.network_address + 1
        return self.gateway

    @property
    def router6(self) -> IPv6Address | None:
        """The IPv6 address of an overlay subnet's router: the first; None where nobody routes."""
        return self.cidr6[1] if self.type == "overlay" and self.cidr6 is not None else None

    @property
    def resolvers(self) -> list[IPv4Address]:
        """Whom DHCP tells to ask for names: as written; with a domain alone, the router stands for OVN.

        On VLAN basic no OVN answers.
        """
        if self.dns or self.domain is None or self.router is None or self.type == "vlan-basic":
            return self.dns
        return [self.router]

    @property
    def resolvers6(self) -> list[IPv6Address]:
        """Whom VMs with IPv6 alone ask for names: with a domain the router, which stands for OVN."""
        if self.cidr is None and self.domain is not None and self.router6 is not None:
            return [self.router6]
        return []

    @property
    def dhcp_address(self) -> IPv4Address | None:
        """The address that answers DHCP: VLAN basic and DHCP subnets keep their last one for it."""
        if self.dhcp_server is not None:
            return self.dhcp_server
        if self.cidr is None or not (self.dhcp or self.type == "vlan-basic"):
            return None
        last = self.cidr.broadcast_address - 1
        # On VLAN basic it is a neighbour of the gateway, so the two cannot share an address.
        return last - 1 if self.type == "vlan-basic" and last == self.gateway else last

    @property
    def answers_dhcp(self) -> bool:
        """Whether DHCP is answered: as written, else on VLAN basic where there are addresses."""
        if self.dhcp is None:
            return self.type == "vlan-basic" and self.cidr is not None
        return self.dhcp
