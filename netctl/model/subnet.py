"""Subnets: VLAN basic, VLAN (network-controller VLAN), overlay and external."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Literal

from pydantic import Field

from netctl.model.base import Model, Mtu, Name, Range, VlanId
from netctl.model.host import SwitchName

SubnetType = Literal["vlan", "vlan-basic", "overlay", "external"]


class Subnet(Model):
    """A layer 2 network and the addresses in it."""

    type: SubnetType = Field(description="What carries it and who controls it.")
    vlan: VlanId | None = Field(None, description="VLAN ID; needed by all types but overlay.")
    virtual_switch: SwitchName | None = Field(None, description="Whose uplinks it uses. Default: vs0.")
    vpc: Name | None = Field(None, description="The VPC of an overlay subnet.")
    cidr: IPv4Network | None = Field(None, description="Its addresses. Left out: unmanaged.")
    cidr6: IPv6Network | None = Field(None, description="Its IPv6 addresses.")
    gateway: IPv4Address | None = Field(
        None, description="Default for overlay subnets: the first address of the CIDR."
    )
    pool: list[Range] | None = Field(
        None, description="Ranges to assign from. Default: every address but the gateway and the first."
    )
    dhcp: bool = Field(False, description="Answer DHCP.")
    dhcp_server: IPv4Address | None = Field(None, description="Default: the last address of the CIDR.")
    dns: list[IPv4Address] = Field(default_factory=list, description="DNS servers told by DHCP.")
    domain: str | None = Field(None, description="Domain name told by DHCP.")
    lease_time: int | None = Field(None, ge=60, description="Seconds of a DHCP lease.")
    mtu: Mtu | None = Field(
        None, description="Default: 1500, for overlay less where the fabric needs it."
    )
    chain: Name | None = Field(None, description="A service chain for all of its traffic.")
    clusters: list[Name] | None = Field(None, description="Clusters it exists in. Default: all.")
