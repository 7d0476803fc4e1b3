"""The intent: the file as written (`LabFile`), and the same with everything decided (`Intent`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address

from pydantic import Field

from netctl.errors import Problem
from netctl.model.base import Model, Name
from netctl.model.chain import NetworkFunction, ServiceChain
from netctl.model.check import Check
from netctl.model.fabric import Fabric, Physical
from netctl.model.host import BondMode, Cluster, Host, HostNic, LacpMode, SwitchName, VirtualSwitch
from netctl.model.policy import AddressGroup, Policy, ServiceGroup
from netctl.model.subnet import Subnet
from netctl.model.vm import NicMode, Vm
from netctl.model.vpc import Vpc


class LabFile(Model):
    """The intent file. Everything has a default but names and what an object is for."""

    name: Name = Field(description="The lab's name.")
    title: str = Field("", description="Free text.")
    fabric: Fabric = Field(default_factory=Fabric, description="The network between the hosts.")
    clusters: dict[Name, Cluster] | None = Field(None, description="Default: one with all hosts.")
    hosts: dict[Name, Host] = Field(default_factory=dict, description="Hypervisors.")
    virtual_switches: dict[SwitchName, VirtualSwitch] | None = Field(
        None, description="Default: vs0 with every NIC that no other switch claims."
    )
    subnets: dict[Name, Subnet] = Field(default_factory=dict, description="Networks of VMs.")
    vpcs: dict[Name, Vpc] = Field(default_factory=dict, description="Routers between overlay subnets.")
    vms: dict[Name, Vm] = Field(default_factory=dict, description="Virtual machines.")
    physical: dict[Name, Physical] = Field(default_factory=dict, description="Bare machines on the fabric.")
    address_groups: dict[Name, AddressGroup] = Field(
        default_factory=dict, description="Networks under one name, for policies."
    )
    service_groups: dict[Name, ServiceGroup] = Field(
        default_factory=dict, description="Services under one name, for policies."
    )
    policies: dict[Name, Policy] = Field(default_factory=dict, description="Who may talk to whom.")
    network_functions: dict[Name, NetworkFunction] = Field(
        default_factory=dict, description="Packet processors."
    )
    service_chains: dict[Name, ServiceChain] = Field(
        default_factory=dict, description="Network functions in order."
    )
    checks: list[Check] = Field(default_factory=list, description="What packets must do.")


@dataclass(frozen=True, slots=True)
class UplinkBridge:
    """A virtual switch as it is on one host: `br0` over bond `br0-up` for vs0."""

    switch: str
    uplinks: tuple[str, ...]
    mode: BondMode
    lacp: LacpMode
    lacp_fallback: bool
    mtu: int

    @property
    def bridge(self) -> str:
        """The bridge's name, such as br0."""
        return f"br{self.switch[2:]}"

    @property
    def bond(self) -> str:
        """The bond's name, such as br0-up."""
        return f"{self.bridge}-up"

    @property
    def bonded(self) -> bool:
        """Whether its uplinks are in that bond; one alone is in none."""
        return self.mode != "none" and len(self.uplinks) > 1


@dataclass(frozen=True, slots=True)
class Hypervisor:
    """A host with everything decided.

    `number` is unique in the lab and stable; `address` is br0's, the Geneve endpoint; `mac` is br0's.
    """

    name: str
    number: int
    cluster: str
    address: IPv4Interface
    mac: str
    nics: Mapping[str, HostNic]
    bridges: tuple[UplinkBridge, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VmNic:
    """A NIC of a VM with everything decided.

    `number` is unique in the lab and stable, and names the tap. `rate`: bits a second, each way; None: no
    limit.
    """

    vm: str
    index: int
    number: int
    host: str
    mac: str
    mtu: int
    enabled: bool = True
    rate: int | None = None

    @property
    def name(self) -> str:
        """How users name it: vm/index."""
        return f"{self.vm}/{self.index}"

    @property
    def tap(self) -> str:
        """The device in the host, tapN."""
        return f"tap{self.number}"

    @property
    def guest_device(self) -> str:
        """The device in the VM, ethN."""
        return f"eth{self.index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Port(VmNic):
    """A NIC in a subnet.

    `ip` is None where the subnet is unmanaged or has IPv6 alone. `dhcp`: the guest gets it by asking. `ip6`
    is the address that follows from `mac` in the subnet's IPv6 network, if it has one.
    """

    subnet: str
    ip: IPv4Address | None
    mode: NicMode
    trunked: tuple[int, ...]
    gateway: IPv4Address | None
    network: IPv4Network | None
    port_security: bool = True
    dhcp: bool = False
    ip6: IPv6Address | None = None

    @property
    def addresses(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """Its addresses, IPv4's first."""
        return tuple(address for address in (self.ip, self.ip6) if address is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror(VmNic):
    """A NIC in no subnet: it gets copies of what passes `source`, a NIC (web1/0) or an uplink (hv1/eth0)."""

    source: str


@dataclass(frozen=True, slots=True)
class Gateway:
    """A way out of a VPC over an external subnet, with everything decided.

    `hosts` are those that may be the gateway, the preferred one first; `snat_ip` is None without NAT.
    """

    vpc: str
    subnet: str
    router_ip: IPv4Address
    snat_ip: IPv4Address | None
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Machine:
    """A bare machine with everything decided."""

    name: str
    mac: str
    definition: Physical


@dataclass(frozen=True)
class Assignments:
    """What netctl decided where the file leaves it open. Kept with the lab so that it stays the same.

    `nics` maps vm/index to (number, MAC or "", address or ""), where "" stands for what the file says
    itself or what needs none; `hosts` a host to its number; `placement` a VM that the file does not
    place to its host; `machines` a bare machine to its MAC; `routers` vpc/subnet to the VPC's address in
    that external subnet, unless the file says it; `transits` vpc/hub to the VPC's address in that transit
    VPC; `speakers` vpc/subnet/host to (number, address) of who speaks BGP there. `slots` gives every VM a
    place of its own on its host, counted from 0: whoever comes next takes the lowest one that is free
    anywhere.
    """

    hosts: Mapping[str, int] = field(default_factory=dict)
    placement: Mapping[str, str] = field(default_factory=dict)
    nics: Mapping[str, tuple[int, str, str]] = field(default_factory=dict)
    machines: Mapping[str, str] = field(default_factory=dict)
    slots: Mapping[str, int] = field(default_factory=dict)
    routers: Mapping[str, str] = field(default_factory=dict)
    transits: Mapping[str, str] = field(default_factory=dict)
    speakers: Mapping[str, tuple[int, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Intent:
    """The whole intent, every default and assignment decided; all mappings sorted by name.

    `switches` and `links` (the fabric's links between switches) are in the file's order; `rstp` says
    whether the links have a loop. `placement` maps every VM to its host. `locate("vms", "web1", "nics", 0)`
    is the line and column, counted from 1, of that key or item in the file.
    """

    file: LabFile
    assignments: Assignments
    switches: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    rstp: bool
    hosts: Mapping[str, Hypervisor]
    ports: tuple[Port, ...]
    machines: Mapping[str, Machine]
    placement: Mapping[str, str] = field(default_factory=dict)
    gateways: tuple[Gateway, ...] = ()
    mirrors: tuple[Mirror, ...] = ()
    warnings: tuple[Problem, ...] = field(default=(), compare=False)
    locate: Callable[..., tuple[int, int]] | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.file.name

    @cached_property
    def ports_by_name(self) -> Mapping[str, Port]:
        """Ports by vm/index."""
        return {port.name: port for port in self.ports}

    @cached_property
    def ports_by_host(self) -> Mapping[str, tuple[Port, ...]]:
        """Ports by host; hosts without VMs too."""
        by_host: dict[str, list[Port]] = {name: [] for name in self.hosts}
        for port in self.ports:
            by_host[port.host].append(port)
        return {name: tuple(ports) for name, ports in by_host.items()}

    def port(self, name: str) -> Port:
        """The port of `vm/index`, or of a VM's first NIC when no index is given. KeyError when unknown."""
        return self.ports_by_name[name if "/" in name else f"{name}/0"]

    @cached_property
    def hops(self) -> Mapping[str, frozenset[IPv4Address]]:
        """By VPC, the addresses that its own routes and policies send others' packets to."""
        return {name: vpc.hops for name, vpc in self.file.vpcs.items()}

    def forwards(self, port: Port) -> bool:
        """Whether a NIC gets what is for others: its VPC's routes or policies lead to it."""
        vpc = self.file.subnets[port.subnet].vpc
        return vpc is not None and port.ip in self.hops.get(vpc, ())

    def transit_address(self, vpc: str, hub: str) -> IPv4Address:
        """The address of a VPC's router in a transit VPC."""
        return IPv4Address(self.assignments.transits[f"{vpc}/{hub}"])

    def gateways_beside(self, machine: Physical) -> list[Gateway]:
        """The ways out of VPCs over the network that a bare machine is on."""
        return [
            way
            for way in self.gateways
            if machine.ip is not None
            and machine.vlan == self.file.subnets[way.subnet].vlan
            and way.router_ip in machine.ip.network
        ]

    def reaches_fabric(self, host: str, switch: str) -> bool:
        """Whether a host has an uplink in a virtual switch."""
        return any(bridge.switch == switch and bridge.uplinks for bridge in self.hosts[host].bridges)

    @cached_property
    def carried_mtu(self) -> Mapping[str, int]:
        """Octets of a layer 3 packet that every host's uplinks carry, by virtual switch."""
        smallest: dict[str, int] = {}
        for host in self.hosts.values():
            for bridge in host.bridges:
                smallest[bridge.switch] = min(bridge.mtu, smallest.get(bridge.switch, self.file.fabric.mtu))
        return smallest

    def subnet_mtu(self, name: str) -> int:
        """Octets that a guest of the subnet may send at once.

        1500 unless the subnet says otherwise or its virtual switch carries less; an overlay subnet leaves
        room in vs0's for Geneve's 58 octets (outer IPv4 20, UDP 8, Geneve 8 with OVN's 8 of options, inner
        Ethernet 14).
        """
        subnet = self.file.subnets[name]
        if subnet.mtu is not None:
            return subnet.mtu
        carried = self.carried_mtu.get(subnet.switch, self.file.fabric.mtu)
        return min(1500, carried - GENEVE_OVERHEAD if subnet.type == "overlay" else carried)


GENEVE_OVERHEAD = 58
"""Octets that Geneve adds to a guest's layer 3 packet (RFC 8926, with OVN's one option)."""
