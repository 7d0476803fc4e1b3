"""Hosts (hypervisors), clusters of them, and the virtual switches over their uplinks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from netctl.model.base import Flag, Model, Mtu, Name, Rate, Says

MAX_HOSTS = 32
"""Hosts of one cluster (seed: "Maximum cluster size: 32")."""

LOWEST_RATE, HIGHEST_RATE = 64_000, 30_000_000_000
"""Bits a second that a link can be limited to; above, 32 bits for octets a second end (tc-htb(8))."""

UplinkName = Annotated[
    str, StringConstraints(pattern=r"^eth(0|[1-9][0-9]?)$"), Says("an uplink, such as eth0")
]
SwitchName = Annotated[
    str, StringConstraints(pattern=r"^vs(0|[1-9][0-9]?)$"), Says("a virtual switch, such as vs0")
]
BondMode = Literal["active-backup", "balance-slb", "balance-tcp", "none"]
LacpMode = Literal["off", "active", "passive"]


class HostNic(Model):
    """A physical NIC of a host."""

    switch: Name = Field(description="The ToR that it is cabled to.")
    rate: Rate | None = Field(None, description="Bits a second that the link carries. Default: no limit.")


class Host(Model):
    """A hypervisor."""

    nics: dict[UplinkName, HostNic] | None = Field(
        None, description="Default: eth0 on the first switch, eth1 on the second."
    )


class Cluster(Model):
    """A cluster of hosts (AHV: a Prism Element)."""

    hosts: list[Name] = Field(description="Its hosts, at most 32.")
    latency_ms: float | None = Field(
        None, ge=0, allow_inf_nan=False, strict=True, description="Latency to other clusters, milliseconds."
    )


class UplinkSettings(Model):
    """How a virtual switch uses its uplinks on one host; what is left out is as for the other hosts."""

    uplinks: list[UplinkName] | None = Field(None, description="Its uplinks there; [] for none.")
    bond: BondMode | None = Field(None, description="How they share the traffic there.")
    lacp: LacpMode | None = Field(None, description="Default: active with balance-tcp, else off.")
    lacp_fallback: Flag | None = Field(None, description="Whether to fall back to active-backup there.")
    mtu: Mtu | None = Field(None, description="Its MTU there.")


class VirtualSwitch(Model):
    """A virtual switch: vs0 is bridge br0 over bond br0-up, vs1 is br1 over br1-up, and so on."""

    uplinks: list[UplinkName] | None = Field(
        None, description="Default: every NIC that no other virtual switch claims."
    )
    bond: BondMode = Field("active-backup", description="How the uplinks share the traffic.")
    lacp: LacpMode | None = Field(None, description="Default: active with balance-tcp, else off.")
    lacp_fallback: Flag = Field(
        False, description="Fall back to active-backup while the partner does not answer LACP."
    )
    mtu: Mtu | None = Field(None, description="Default: the fabric's.")
    per_host: dict[Name, UplinkSettings] = Field(default_factory=dict, description="Where a host differs.")
