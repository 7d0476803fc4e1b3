"""Places where packets are seen, and what the words of a check mean. Pure.

The NICs of VMs and bare machines are where packets come from and go to; *points* are where they pass: a
host's taps and uplinks, a switch's ports, the NICs of network functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal

from netctl.errors import ConflictError, InputError
from netctl.model import Intent, devices
from netctl.model.functions import instances

Role = Literal["nic", "tap", "uplink", "switch", "function"]
Version = Literal[4, 6]
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A device of a node.

    `name` is vm/index for a VM's NIC, a machine's own name, for a point its node's and its device's.
    There is one object for each device of a lab; two are the same device when they are the same object.

    `segment` is the same for all NICs that get each other's broadcasts. `bound`: the node has more NICs, so
    a socket must be tied to this one. `forwards`: its node is a hop on the way to others. `inline`: of a
    network function that is no tap.
    """

    name: str
    node: str
    device: str
    role: Role = "nic"
    mac: bytes = b""
    ip: IPv4Address | None = None
    network: IPv4Network | None = None
    gateway: IPv4Address | None = None
    segment: tuple[str, str] = ("", "")
    vpc: str | None = None
    host: str | None = None
    mtu: int = 1500
    up: bool = True
    bound: bool = False
    trunk: bool = False
    forwards: bool = False
    ip6: IPv6Address | None = None
    network6: IPv6Network | None = None
    gateway6: IPv6Address | None = None
    inline: bool = False

    def address(self, version: Version) -> Address | None:
        """Its address of that version of IP."""
        return self.ip if version == 4 else self.ip6

    def prefix(self, version: Version) -> Network | None:
        """The network that its address of that version is in."""
        return self.network if version == 4 else self.network6

    def router(self, version: Version) -> Address | None:
        """Who takes its packets of that version further."""
        return self.gateway if version == 4 else self.gateway6

    @property
    def binding(self) -> str | None:
        """The device that sockets must be tied to, None where the node has only one."""
        return self.device if self.bound else None


@dataclass(frozen=True, slots=True)
class Target:
    """Where a packet is to go.

    `servers` maps the NICs that may receive it (any one of them) to the port there, None for "as asked".
    Empty for an address that is nobody's: only the answer can tell then.
    """

    label: str
    address: Address
    servers: Mapping[Place, int | None] = field(default_factory=dict)


def places(intent: Intent) -> dict[str, Place]:
    """All NICs of VMs and bare machines, by name.

    Real VMs (QEMU) have none: their stack is their own. Nor has a NIC that mirrors: what it gets are copies,
    whatever became of the packets.
    """
    subnets, vms = intent.file.subnets, intent.file.vms
    found = {}
    for port in intent.ports:
        if vms[port.vm].kind != "namespace":
            continue
        subnet, nic = subnets[port.subnet], vms[port.vm].nics[port.index]
        overlay = subnet.type == "overlay"
        found[port.name] = Place(
            name=port.name,
            node=port.vm,
            device=port.guest_device,
            mac=_octets(port.mac),
            ip=port.ip,
            network=port.network,
            gateway=port.gateway,
            segment=("overlay", port.subnet) if overlay else ("vlan", str(subnet.vlan)),
            vpc=subnet.vpc,
            host=port.host,
            mtu=port.mtu,
            up=port.enabled and nic.link == "up",
            bound=len(vms[port.vm].nics) > 1,
            trunk=port.mode == "trunk",
            forwards=intent.forwards(port),
            ip6=port.ip6,
            network6=subnet.cidr6,
            gateway6=subnet.router6,
        )
    for machine in intent.machines.values():
        made = machine.definition
        found[machine.name] = Place(
            name=machine.name,
            node=machine.name,
            device=devices.MACHINE_NIC,
            mac=_octets(machine.mac),
            ip=made.ip.ip if made.ip else None,
            network=made.ip.network if made.ip else None,
            gateway=made.gateway,
            segment=("vlan", str(made.vlan or 0)),
            forwards=made.kind == "router",
        )
    return found


def points(intent: Intent) -> list[Place]:
    """All taps and uplinks of hosts, all ports of switches, and all NICs of network functions."""
    found = functions(intent)
    for host in intent.hosts.values():
        for nic, made in host.nics.items():
            found.append(Place(f"{host.name} {nic}", host.name, nic, "uplink", host=host.name))
            found.append(_port(made.switch, devices.cable(host.name, nic)))
        for port in intent.ports_by_host[host.name]:
            found.append(Place(f"{host.name} {port.tap}", host.name, port.tap, "tap", host=host.name))
    parallel: Counter[tuple[str, str]] = Counter()
    for one, other in intent.links:
        pair = (min(one, other), max(one, other))
        found.append(_port(one, devices.link(other, parallel[pair])))
        found.append(_port(other, devices.link(one, parallel[pair])))
        parallel[pair] += 1
    for machine in intent.machines.values():
        found.append(_port(machine.definition.switch, devices.machine_cable(machine.name)))
    return found


def functions(intent: Intent) -> list[Place]:
    """All NICs of network functions."""
    return [
        Place(f"{one.name} {end}", one.name, end, "function", host=one.host, inline=len(one.ends) > 1)
        for one in instances(intent)
        for end in one.ends
    ]


def _port(switch: str, device: str) -> Place:
    return Place(f"{switch} {device}", switch, device, "switch")


def unused(known: Mapping[str, Place], vlan: int, version: Version = 4) -> Address | None:
    """An address that nobody has, in the network of that VLAN; None when no NIC tells what that is."""
    there = [place for place in known.values() if place.segment == ("vlan", str(vlan))]
    for network in (place.prefix(version) for place in there):
        if network is None:
            continue
        taken = {place.address(version) for place in known.values()} | {
            place.router(version) for place in there
        }
        # From the end, past the broadcast address and the one that DHCP servers like.
        for offset in range(3, min(network.num_addresses, 256)):
            address = network[-offset]
            if address not in taken:
                return address
    return None


def source(intent: Intent, known: Mapping[str, Place], word: str | None) -> Place:
    """The NIC that `from:` names. InputError when there is none, ConflictError when it is a real VM's."""
    if not word:
        raise InputError(
            "a check needs `from:`", "Write the VM, VM/NIC index or physical machine that sends."
        )
    place = _named(intent, known, word)
    if place is None:
        raise InputError(
            f"{word} is no VM, NIC or physical machine of {intent.name}",
            f"Known are: {', '.join(sorted(known)) or 'none'}.",
        )
    return place


def target(
    intent: Intent, known: Mapping[str, Place], sender: Place, word: str | None, protocol: str = "icmp"
) -> Target:
    """Where `to:` leads for this sender and protocol. InputError when it leads nowhere.

    Between two NICs that is IPv4, unless the protocol says otherwise or one of them has no IPv4 address.
    """
    if not word:
        raise InputError("a check needs `to:`", "Write a VM, VM/NIC index, physical machine or an address.")
    place = _named(intent, known, word)
    if place is not None:
        version = family(sender, place, protocol)
        address = place.address(version)
        if address is None:
            raise InputError(
                f"{place.name} has no IPv{version} address that netctl knows",
                "Give the NIC an `ip:`." if version == 4 else "Give its subnet a `cidr6:`.",
            )
        return Target(place.name, address, {place: None})
    try:
        address = ip_address(word)
    except ValueError:
        raise InputError(
            f"{word} is no VM, NIC, physical machine or IP address",
            f"Known are: {', '.join(sorted(known)) or 'none'}.",
        ) from None
    return Target(word, address, _behind(intent, known, sender, address))


def family(sender: Place, receiver: Place, protocol: str) -> Version:
    """The version of IP in which one NIC talks to another."""
    if protocol in ("icmp6", "arp"):
        return 6 if protocol == "icmp6" else 4
    both4, both6 = (sender.ip and receiver.ip), (sender.ip6 and receiver.ip6)
    return 6 if both6 and not both4 else 4


def _named(intent: Intent, known: Mapping[str, Place], word: str) -> Place | None:
    place = known.get(word) or known.get(f"{word}/0")
    if place is None and (real := intent.file.vms.get(word.partition("/")[0])) and real.kind != "namespace":
        raise ConflictError(
            f"{word} is a real VM: no check can send from inside it or look into it",
            "Send to it, or from it with its own console.",
        )
    return place


def _behind(
    intent: Intent, known: Mapping[str, Place], sender: Place, address: Address
) -> dict[Place, int | None]:
    """The NICs that an address leads to: by NAT, by a load balancer, or because they have it."""
    for vpc in intent.file.vpcs.values():
        floating = {one: owner for one, owner in vpc.floating_ips.items() if one == address}
        for owner in floating.values():
            place = _named(intent, known, owner)
            return {place: None} if place else {}
        for balancer in vpc.load_balancers.values():
            if address == balancer.vip:
                return _backends(intent, known, balancer.backends)
    owners = [place for place in known.values() if place.address(address.version) == address]
    # VPCs may use the same addresses: who is nearest to the sender is meant.
    for near in (
        [place for place in owners if place.segment == sender.segment],
        [place for place in owners if place.vpc == sender.vpc],
    ):
        if near:
            return {near[0]: None}
    return {owners[0]: None} if len(owners) == 1 else {}


def _backends(intent: Intent, known: Mapping[str, Place], words: list[str]) -> dict[Place, int | None]:
    found: dict[Place, int | None] = {}
    for word in words:
        name, _, port = word.rpartition(":")
        place = _named(intent, known, name) or next((p for p in known.values() if str(p.ip) == name), None)
        if place:
            found[place] = int(port)
    return found


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
