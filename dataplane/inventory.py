"""What a lab's rack must consist of: nodes, links and the guests' network configuration. Pure.

    intent ---> Inventory ---> rack makes the missing, mends the different, removes the unwanted

Every node is the network namespace LAB.NODE. Names that netctl adds itself hold a character that no
name of the intent can have, so they never clash: `_central`, and `hv1.cvm` for the CVM of hv1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface
from typing import Literal

from netctl.model import Hypervisor, Intent, addressing, basic, bgp, devices
from netctl.model.chain import NetworkFunction
from netctl.model.functions import Instance, instances
from netctl.model.subnet import LEASE_TIME, Subnet

Kind = Literal["central", "host", "switch", "vm", "machine", "cvm", "speaker", "function"]

CENTRAL = "_central"

DEFAULT = "0.0.0.0/0"

GUEST_MTU = 1500

TUNNEL_MTU = 2000
"""Of the link that carries VXLAN to the CVM: room for what guests put into DHCP and ARP, and for VXLAN."""

TAG = 4
"""Octets of an 802.1Q tag."""

PEER_OVERHEAD = 8
"""Octets that a frame may be longer on the link of an MLAG pair: its own VLAN tag, and the pair's."""

_ROUTER, _DNS, _DOMAIN, _MTU = 3, 6, 15, 26
"""DHCP options (RFC 2132)."""

# AHV's internal network between a host and its CVM; the same on every host, it never leaves it.
HOST_INTERNAL = IPv4Interface("192.168.5.1/25")
CVM_INTERNAL = IPv4Interface("192.168.5.2/25")

KIND_WORDS: Mapping[Kind, str] = {
    "central": "OVN central",
    "host": "host",
    "switch": "top-of-rack switch",
    "vm": "VM",
    "machine": "bare machine",
    "cvm": "controller VM",
    "speaker": "BGP speaker",
    "function": "network function",
}
"""What users call each kind of node."""


@dataclass(frozen=True, order=True, slots=True)
class Route:
    """A route of a guest over one of its devices; the lowest metric wins."""

    to: str
    via: str
    device: str
    metric: int = 0

    def __str__(self) -> str:
        return f"route to {self.to} via {self.via} on {self.device}"


@dataclass(frozen=True, slots=True)
class Lease:
    """What a guest's NIC must get by DHCP; `names`: this is the NIC whose DNS servers the guest asks.

    `address` is None in unmanaged subnets: whether anybody answers there is not the lab's business.
    """

    address: IPv4Interface | None
    routes: tuple[Route, ...] = ()
    names: bool = False


@dataclass(frozen=True, slots=True)
class Server:
    """A DHCP server in a CVM: the device that it serves, and its configuration (netctl.model.addressing).

    `clients` are the addresses that it gives, by MAC address; `options` what it tells all of them, by number.
    """

    device: str
    address: IPv4Interface
    clients: Mapping[str, IPv4Address]
    lease_time: int
    options: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Program:
    """What a network function runs: a program of netctl's or a command; `rules` are a firewall's."""

    name: str
    inline: bool
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """A device of a node as it must be; `mac` None: whatever the kernel gave it.

    `stack`: a Linux stack sends from it into a userspace datapath, so it must compute checksums itself.
    `rate`: bits a second that it sends at most; None: no limit.
    """

    name: str
    mac: str | None
    mtu: int
    up: bool = True
    stack: bool = False
    rate: int | None = None


@dataclass(frozen=True, slots=True)
class End:
    """One end of a veth pair."""

    node: str
    device: Device


@dataclass(frozen=True, slots=True)
class Link:
    """A veth pair: a cable of the fabric, or a VM's NIC with its tap."""

    a: End
    b: End


@dataclass(frozen=True, slots=True)
class Bgp:
    """How a node speaks BGP: the router's number, and the neighbours whom it lets call.

    `feeds` of a speaker is what its feed reads: (router port, chassis). A router has none, and a routing
    table: `learned` maps the prefixes that it knows when all is well to next hops.
    """

    identifier: IPv4Address
    listens: IPv4Network | None = None
    feeds: tuple[str, str] | None = None
    learned: Mapping[IPv4Network, IPv4Address] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Node:
    """A node and its layer 3 configuration: addresses by device, and routes.

    `mac` is that of a host's br0; `bonds` are a host's bonds of several uplinks, and `bridges` the bridges of
    a host or switch that learn MAC addresses. `stopped` are roles of daemons that are not to run.
    `learning` are the bridges whose flows learn MAC addresses.
    `routers` are the addresses of VPCs that a bare machine has on its network. `leases` are what the guest's
    own DHCP clients must get, by device; `resolver` are the lines of its resolv.conf. `addresses6` are IPv6
    addresses by device, and whether the guest gives itself that address (SLAAC). `punted`: a host whose
    br.microseg hands packets to a daemon. `bgp`: a router, or a speaker of a gateway host. `forwards`: it
    must pass on packets that are for others. `servers` are a CVM's DHCP servers, by subnet. `free` are a
    guest's devices in unmanaged subnets: it gives them addresses itself, or none.
    `program` is what a network function runs. `probed` are a host's inline functions, with their ports in
    br.nf.
    """

    name: str
    kind: Kind
    addresses: Mapping[str, IPv4Interface] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    mac: str | None = None
    bonds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bridges: tuple[str, ...] = ()
    learning: tuple[str, ...] = ()
    stopped: frozenset[str] = frozenset()
    routers: tuple[IPv4Address, ...] = ()
    leases: Mapping[str, Lease] = field(default_factory=dict)
    resolver: tuple[str, ...] = ()
    addresses6: Mapping[str, tuple[IPv6Interface, bool]] = field(default_factory=dict)
    punted: bool = False
    bgp: Bgp | None = None
    forwards: bool = False
    servers: Mapping[str, Server] = field(default_factory=dict)
    free: frozenset[str] = frozenset()
    program: Program | None = None
    probed: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A VXLAN device of a CVM; its name stands for all that the kernel does not let one change."""

    node: str
    device: Device
    vni: int
    udp_port: int
    remote: IPv4Address


@dataclass(frozen=True)
class Inventory:
    """The whole rack of a lab."""

    lab: str
    nodes: Mapping[str, Node]
    links: tuple[Link, ...]
    tunnels: tuple[Tunnel, ...] = ()

    def namespace(self, node: str) -> str:
        """The network namespace of a node."""
        return f"{self.lab}.{node}"

    def of_kind(self, *kinds: Kind) -> list[Node]:
        """Nodes of these kinds, sorted by name."""
        return [node for node in self.nodes.values() if node.kind in kinds]


def inventory(intent: Intent) -> Inventory:
    """The rack that an intent needs."""
    nodes = [Node(CENTRAL, "central")]
    paired = {name for pair in intent.file.fabric.mlag for name in pair}
    nodes += [
        Node(
            name,
            "switch",
            bridges=(devices.SWITCH_BRIDGE,),
            learning=(devices.SWITCH_BRIDGE,) if name in paired else (),
        )
        for name in intent.switches
    ]
    links = _switch_links(intent)
    tunnels: list[Tunnel] = []
    found: dict[str, list[Instance]] = {}
    for instance in instances(intent):
        found.setdefault(instance.host, []).append(instance)
    for host in intent.hosts.values():
        addresses = {devices.CVM_BRIDGE: HOST_INTERNAL}
        if any(bridge.bridge == "br0" for bridge in host.bridges):
            addresses["br0"] = host.address
        managed = bool(basic.bridges_of(intent, host))
        if managed:
            addresses[addressing.BRIDGE] = addressing.HOST_ADDRESS
        nodes.append(
            Node(
                host.name,
                "host",
                addresses,
                mac=host.mac,
                bonds={bridge.bond: bridge.uplinks for bridge in host.bridges if bridge.bonded},
                bridges=tuple(bridge.bridge for bridge in host.bridges),
                learning=basic.learning_bridges(intent, host),
                punted=basic.punts(intent, host),
                probed={
                    one.function: (one.port("in"), one.port("out"))
                    for one in found.get(host.name, ())
                    if len(one.ends) > 1
                },
            )
        )
        links += _host_links(host, intent.file.fabric.mtu)
        cvm = Node(f"{host.name}.cvm", "cvm", {"eth1": CVM_INTERNAL})
        if managed:
            cvm = _managing(intent, host, cvm)
            tunnels += _tunnels(intent, host, cvm.name)
            links.append(
                Link(
                    End(host.name, Device(addressing.LINK, None, TUNNEL_MTU)),
                    End(
                        cvm.name,
                        Device(addressing.CVM_DEVICE, addressing.CVM_MAC, TUNNEL_MTU, stack=True),
                    ),
                )
            )
        nodes.append(cvm)
    nodes += _vms(intent)
    for port in (*intent.ports, *intent.mirrors):
        links.append(
            Link(
                End(port.host, Device(port.tap, None, port.mtu, up=port.enabled, rate=port.rate)),
                End(port.vm, Device(port.guest_device, port.mac, port.mtu, stack=True, rate=port.rate)),
            )
        )
    for instance in instances(intent):
        nodes.append(Node(instance.name, "function", program=_program(instance.definition)))
        links += _function_links(intent, instance)
    for machine in intent.machines.values():
        made = machine.definition
        routes = [Route(str(route.to), str(route.via), devices.MACHINE_NIC) for route in made.routes]
        if made.gateway:
            routes.append(Route(DEFAULT, str(made.gateway), devices.MACHINE_NIC))
        nodes.append(
            Node(
                machine.name,
                "machine",
                {devices.MACHINE_NIC: made.ip} if made.ip else {},
                tuple(routes) if made.ip else (),
                routers=tuple(way.router_ip for way in intent.gateways_beside(made)),
                bgp=Bgp(made.ip.ip, listens=made.ip.network, learned=bgp.learned(intent, machine))
                if made.kind == "router" and made.ip
                else None,
                forwards=made.kind == "router",
            )
        )
        mtu = min(GUEST_MTU, intent.file.fabric.mtu)
        links.append(
            Link(
                End(made.switch, Device(devices.machine_cable(machine.name), None, mtu)),
                End(machine.name, Device(devices.MACHINE_NIC, machine.mac, mtu, stack=True)),
            )
        )
    for speaker in bgp.speakers(intent):
        feeds = f"{speaker.way.vpc}/{speaker.way.subnet}", speaker.host
        nodes.append(
            Node(
                speaker.name,
                "speaker",
                {devices.MACHINE_NIC: speaker.address},
                bgp=Bgp(speaker.address.ip, feeds=feeds),
            )
        )
        mtu = min(GUEST_MTU, intent.file.fabric.mtu)
        links.append(
            Link(
                End(speaker.host, Device(speaker.device, None, mtu)),
                End(speaker.name, Device(devices.MACHINE_NIC, speaker.mac, mtu, stack=True)),
            )
        )
    return Inventory(
        intent.name,
        {node.name: node for node in sorted(nodes, key=lambda n: n.name)},
        tuple(links),
        tuple(tunnels),
    )


def _switch_links(intent: Intent) -> list[Link]:
    links = []
    seen: Counter[tuple[str, str]] = Counter()
    paired = {(min(pair), max(pair)) for pair in intent.file.fabric.mlag}
    mtu = intent.file.fabric.mtu
    for a, b in intent.links:
        pair = (min(a, b), max(a, b))
        index = seen[pair]
        seen[pair] += 1
        carried = mtu + PEER_OVERHEAD if pair in paired else mtu
        links.append(
            Link(
                End(a, Device(devices.link(b, index), None, carried)),
                End(b, Device(devices.link(a, index), None, carried)),
            )
        )
    return links


def _host_links(host: Hypervisor, mtu: int) -> list[Link]:
    links = [
        Link(
            End(host.name, Device(name, None, mtu, rate=nic.rate)),
            End(nic.switch, Device(devices.cable(host.name, name), None, mtu, rate=nic.rate)),
        )
        for name, nic in host.nics.items()
    ]
    links.append(
        Link(
            End(host.name, Device(devices.CVM_LINK, None, GUEST_MTU)),
            End(f"{host.name}.cvm", Device("eth1", None, GUEST_MTU)),
        )
    )
    return links


def _managing(intent: Intent, host: Hypervisor, cvm: Node) -> Node:
    """The CVM with the DHCP servers of the managed VLAN basic subnets that have NICs on its host."""
    addresses, servers = dict(cvm.addresses), {}
    addresses[addressing.CVM_DEVICE] = addressing.CVM_ADDRESS
    for each in addressing.subnets_of(intent, host):
        if each.server is None:
            continue
        device = addressing.tunnel_end(each.bridge, "dhcp", each.vlan)
        addresses[device] = each.server
        subnet = intent.file.subnets[each.subnet]
        servers[each.subnet] = Server(
            device,
            each.server,
            {port.mac: port.ip for port in each.ports if port.ip is not None},
            subnet.lease_time or LEASE_TIME,
            _options(subnet, intent.subnet_mtu(each.subnet)),
        )
    return replace(cvm, addresses=addresses, servers=servers)


def _options(subnet: Subnet, mtu: int) -> dict[int, str]:
    """What DHCP tells, by option (RFC 2132): the same as OVN does in other subnets (netctl.compile.dhcp)."""
    options = {_MTU: str(mtu)}
    if subnet.router is not None:
        options[_ROUTER] = str(subnet.router)
    if subnet.resolvers:
        options[_DNS] = ",".join(map(str, subnet.resolvers))
    if subnet.domain is not None:
        options[_DOMAIN] = subnet.domain
    return options


def _tunnels(intent: Intent, host: Hypervisor, cvm: str) -> Iterator[Tunnel]:
    """The ends of the host's VXLAN ports in its CVM: one a VLAN."""
    for each in addressing.subnets_of(intent, host):
        for purpose in addressing.PURPOSES:
            if purpose == "dhcp" and each.server is None:
                continue
            name = addressing.tunnel_end(each.bridge, purpose, each.vlan)
            yield Tunnel(
                cvm,
                Device(name, each.mac if purpose == "dhcp" else None, GUEST_MTU),
                each.vlan,
                addressing.udp_port(each.bridge, purpose),
                addressing.HOST_ADDRESS.ip,
            )


def _program(function: NetworkFunction) -> Program:
    rules = tuple(f"allow {rule.allow}" if rule.allow else f"deny {rule.deny}" for rule in function.rules)
    return Program(function.program.strip(), function.mode == "inline", rules)


def _function_links(intent: Intent, instance: Instance) -> Iterator[Link]:
    """The NICs of a function: with room for the largest frame of any NIC, and its tag."""
    mtu = max((port.mtu for port in intent.ports), default=GUEST_MTU) + TAG
    for end in instance.ends:
        yield Link(
            End(instance.host, Device(instance.port(end), None, mtu)),
            End(instance.name, Device(end, None, mtu)),
        )


def _vms(intent: Intent) -> list[Node]:
    addresses: dict[str, dict[str, IPv4Interface]] = {name: {} for name in intent.file.vms}
    routes: dict[str, list[Route]] = {name: [] for name in intent.file.vms}
    leases: dict[str, dict[str, Lease]] = {name: {} for name in intent.file.vms}
    resolvers: dict[str, tuple[str, ...]] = {}
    six: dict[str, dict[str, tuple[IPv6Interface, bool]]] = {name: {} for name in intent.file.vms}
    forwarding = {port.vm for port in intent.ports if intent.forwards(port)}
    free: dict[str, set[str]] = {name: set() for name in intent.file.vms}
    for port in intent.ports:
        subnet = intent.file.subnets[port.subnet]
        resolver = _resolver(subnet)
        first = bool(resolver) and port.vm not in resolvers
        if first:
            resolvers[port.vm] = resolver
        if port.ip6 is not None and subnet.cidr6 is not None and port.enabled:
            address6 = IPv6Interface((port.ip6, subnet.cidr6.prefixlen))
            six[port.vm][port.guest_device] = (address6, subnet.router6 is not None)
        if port.ip is None:
            free[port.vm].add(port.guest_device)
            if port.dhcp:
                leases[port.vm][port.guest_device] = Lease(None)
            continue
        prefix = (port.network or IPv4Network(f"{port.ip}/32")).prefixlen
        address = IPv4Interface(f"{port.ip}/{prefix}")
        # As DHCP clients do it: a default route for each NIC with a gateway, the first NIC's preferred.
        way = [Route(DEFAULT, str(port.gateway), port.guest_device, port.index)] if port.gateway else []
        if port.dhcp:
            leases[port.vm][port.guest_device] = Lease(address, tuple(way), first)
        else:
            addresses[port.vm][port.guest_device] = address
            routes[port.vm] += way
    return [
        Node(
            name,
            "vm",
            found,
            tuple(routes[name]),
            leases=leases[name],
            resolver=resolvers.get(name, ()),
            addresses6=six[name],
            forwards=name in forwarding,
            free=frozenset(free[name]),
        )
        for name, found in addresses.items()
    ]


def _resolver(subnet: Subnet) -> tuple[str, ...]:
    """resolv.conf (resolv.conf(5)) of a guest in this subnet."""
    servers = [f"nameserver {server}" for server in (*subnet.resolvers, *subnet.resolvers6)]
    return (f"search {subnet.domain}", *servers) if subnet.domain and servers else tuple(servers)
