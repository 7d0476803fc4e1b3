"""VMs and their NICs."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from netctl.model.base import Flag, Mac, Model, Name, Rate, Says, VlanId, _address

NicMode = Literal["access", "trunk"]


def _address_or_dhcp(value: Any) -> Any:
    return value if value == "dhcp" else _address(value)


NicAddress = Annotated[
    IPv4Address | Literal["dhcp"], BeforeValidator(_address_or_dhcp), Says("an IPv4 address, or dhcp")
]
"""An address, or `dhcp`."""


class Nic(Model):
    """A NIC of a VM."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["subnet"]}, {"required": ["mirror"]}]}
    )

    subnet: Name = Field("", description="Its subnet; a trunk's native VLAN. Left out where it mirrors.")
    ip: NicAddress | None = Field(
        None, description="Default: from the pool, then stable. `dhcp`: the guest asks."
    )
    mac: Mac | None = Field(None, description="Default: assigned from OUI 50:6b:8d, then stable.")
    mode: NicMode = Field("access", description="A trunk carries more VLANs, tagged.")
    trunked: list[VlanId] = Field(default_factory=list, description="VLANs of a trunk.")
    categories: dict[str, str] = Field(default_factory=dict, description="Categories of this NIC alone.")
    rate: Rate | None = Field(None, description="Bits a second, each way. Default: no limit.")
    link: Literal["up", "down"] = Field("up", description="The state of its link.")
    chain: Name | None = Field(None, description="A service chain for its traffic.")
    mirror: str | None = Field(
        None, description="A NIC (vm/1) or uplink (hv1/eth0): this one gets copies of what passes there."
    )
    port_security: Flag = Field(True, description="Refuse frames with another sender's MAC or IP address.")


class Vm(Model):
    """A virtual machine: a network namespace, or a real one."""

    host: Name | None = Field(None, description="Left out: netctl places it.")
    kind: Literal["namespace", "qemu"] = Field("namespace", description="`qemu`: a real VM.")
    image: Name | None = Field(None, description="The image of a qemu VM, from vm-images/. Default: tiny.")
    memory: int | None = Field(None, ge=16, strict=True, description="Mebibytes of memory.")
    affinity: list[Name] = Field(default_factory=list, description="Hosts that it may run on. Default: all.")
    anti_affinity: list[Name] = Field(
        default_factory=list, description="VMs that it should not share a host with."
    )
    categories: dict[str, str] = Field(default_factory=dict, description="Category to value.")
    nics: list[Nic] = Field(default_factory=list, description="Its NICs, by index from 0: eth0, eth1, ...")
