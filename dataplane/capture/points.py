"""Points of a lab at which packets can be captured, and what the words for them mean. Pure.

A point is a device of a node. The *usual* points are where a packet enters or leaves something: the NICs
of VMs and bare machines, the taps and uplinks of hosts, the ports of switches. Any other device of a
node's namespace is a point too when it is asked for.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from dataplane.checks import places
from dataplane.inventory import CENTRAL, KIND_WORDS, Inventory, inventory
from netctl.errors import InputError
from netctl.model import Hypervisor, Intent, addressing, devices

Devices = Callable[[str], Sequence[str]]
"""The names of the devices that a node has at the moment; empty for a node that is not there."""

Explain = Callable[[str, str], InputError | None]
"""What a port of a node's switches is that is no device, and where to look instead."""

_MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Point:
    """A device of a node. `name` is the word for it, `about` tells what it is in the intent's names."""

    name: str
    node: str
    device: str
    about: str


def usual(intent: Intent) -> list[Point]:
    """All NICs, taps, uplinks and switch ports. A real VM (QEMU) is seen at its tap only."""
    found = []
    for nic in places.places(intent).values():
        about = f"{nic.name} NIC ({nic.device})"
        if nic.node in intent.machines:
            about = f"{nic.name} NIC of the bare machine ({nic.device})"
        found.append(Point(nic.name, nic.node, nic.device, about))
    for mirror in intent.mirrors:
        about = f"{mirror.name} NIC ({mirror.guest_device}), copies of {mirror.source}"
        found.append(Point(mirror.name, mirror.vm, mirror.guest_device, about))
    ends = _ends(intent)
    for place in places.points(intent):
        found.append(
            Point(place.name, place.node, place.device, ends.get((place.node, place.device), place.name))
        )
    return found


def _ends(intent: Intent) -> dict[tuple[str, str], str]:
    """What each tap, uplink and switch port is, by node and device."""
    found = {}
    for host in intent.hosts.values():
        for nic, made in host.nics.items():
            cable = devices.cable(host.name, nic)
            found[host.name, nic] = f"{host.name} {nic} uplink to {made.switch}"
            found[made.switch, cable] = f"{made.switch} port to {host.name} {nic} ({cable})"
    for port in intent.ports:
        found[port.host, port.tap] = f"{port.name} tap on {port.host} ({port.tap})"
    for link in inventory(intent).links:
        for end, other in ((link.a, link.b), (link.b, link.a)):
            if end.node in intent.switches and other.node in (*intent.switches, *intent.machines):
                device = end.device.name
                found[end.node, device] = f"{end.node} port to {other.node} ({device})"
    return found


class Catalogue:
    """The points of one lab, by the words for them."""

    def __init__(self, intent: Intent, devices: Devices, explain: Explain | None = None) -> None:
        """The points of a lab.

        Args:
            intent: what the lab is to be.
            devices: asked which devices a node has, for words that name one which is not among the usual.
            explain: asked what a port is that is no device of the node.
        """
        self._intent, self._devices, self._explain = intent, devices, explain
        self._inventory: Inventory = inventory(intent)
        self.usual = usual(intent)
        self._by_name = {point.name: point for point in self.usual}
        self._by_device = {(point.node, point.device): point for point in self.usual}
        self._nodes = [name for name in self._inventory.nodes if name != CENTRAL]

    def find(self, words: Iterable[str]) -> list[Point]:
        """The points that these words name, each once, in their order; all the usual ones without a word.

        A word is a VM, VM/NIC, host, switch or machine, or HOST:DEVICE, which may also be two words.

        Raises:
            InputError: a word that names none, with the nearest that does.
        """
        waiting = list(words)
        if not waiting:
            return self.usual
        found: dict[tuple[str, str], Point] = {}
        while waiting:
            word = waiting.pop(0)
            if waiting and self._is_device_of(word, waiting[0]):
                word = f"{word}:{waiting.pop(0)}"
            for point in self._meant(word):
                found.setdefault((point.node, point.device), point)
        return list(found.values())

    def _is_device_of(self, node: str, word: str) -> bool:
        """Whether the word that follows a node's name is one of its devices, and nothing by itself."""
        if node not in self._nodes or word in self._nodes or word in self._by_name:
            return False
        return (node, word) in self._by_device or word in self._devices(node)

    def _meant(self, word: str) -> list[Point]:
        if word in self._by_name:
            return [self._by_name[word]]
        node, _, device = (" ".join(word.split()) if " " in word else word.replace(":", " ", 1)).partition(
            " "
        )
        if device:
            return [self._device(node, device)]
        if word in self._nodes:
            return self._of_node(word)
        vm, _, index = word.partition("/")
        if vm in self._intent.file.vms and index:
            return [self._nic(vm, index)]
        raise self._unknown(word)

    def _of_node(self, node: str) -> list[Point]:
        found = [point for point in self.usual if point.node == node]
        if node in self._intent.file.vms:
            found += [self._tap(port.name) for port in self._intent.ports if self._is_real(port.vm, node)]
        if not found:
            found = [self._device(node, device) for device in self._devices(node) if device != "lo"]
        if not found:
            raise InputError(f"{node} has no device to capture at", "Name another point.")
        return found

    def _is_real(self, vm: str, node: str) -> bool:
        return vm == node and f"{vm}/0" not in self._by_name

    def _nic(self, vm: str, index: str) -> Point:
        count = len(self._intent.file.vms[vm].nics)
        if not index.isdigit() or int(index) >= count:
            has = f"NIC {vm}/0" if count == 1 else f"NICs {vm}/0 to {vm}/{count - 1}" if count else "no NIC"
            raise InputError(f"{vm} has no NIC {index}", f"It has {has}.")
        return self._tap(f"{vm}/{int(index)}")

    def _tap(self, nic: str) -> Point:
        """Where a real VM's NIC can be seen: nobody looks into it from outside."""
        port = self._intent.port(nic)
        return self._by_device[port.host, port.tap]

    def _device(self, node: str, device: str) -> Point:
        if node not in self._nodes:
            raise self._unknown(node)
        if (node, device) in self._by_device:
            return self._by_device[node, device]
        there = self._devices(node)
        if device in there:
            return Point(f"{node} {device}", node, device, self._about(node, device))
        raise (self._explain and self._explain(node, device)) or self._no_device(node, device, there)

    def _about(self, node: str, device: str) -> str:
        words = {
            devices.INTEGRATION_BRIDGE: "integration bridge",
            devices.CVM_BRIDGE: "bridge to the controller VM",
            devices.CVM_LINK: "link to the controller VM",
            addressing.LINK: "link to the controller VM, with DHCP and ARP of guests in VXLAN",
            addressing.BRIDGE: "bridge to the controller VM",
            "ovs-netdev": "device of the datapath",
            "lo": "loopback",
        }
        host = self._intent.hosts.get(node)
        if host is not None:
            words |= {each.bridge: "bridge, the host's own port of it" for each in host.bridges}
        elif node in self._intent.switches:
            words = {devices.SWITCH_BRIDGE: "the switch's own port of its bridge"}
        what = words.get(device) or f"device of the {KIND_WORDS[self._inventory.nodes[node].kind]}"
        return f"{node} {device}, {what}"

    def _no_device(self, node: str, device: str, there: Sequence[str]) -> InputError:
        host = self._intent.hosts.get(node)
        bond = next((each for each in host.bridges if each.bond == device), None) if host else None
        if host is not None and bond is not None:
            where = " or ".join(f"{node}:{uplink}" for uplink in bond.uplinks) or "no uplink"
            return InputError(
                f"{device} is a bond of {node}, and no device: its packets pass one of its members",
                f"Capture at {where}.",
            )
        names = sorted({*(name for at, name in self._by_device if at == node), *there} - {"lo"})
        if not names:
            return InputError(f"{node} has no device {device}", "`netctl status` shows what is there.")
        return InputError(
            f"{node} has no device {device}{_nearest(device, names)}", f"It has {_some(names)}."
        )

    def _unknown(self, word: str) -> InputError:
        owners = [node for node, device in self._by_device if device == word]
        if owners:
            return InputError(
                f"{word} is a device, but of which node?", f"Write {_some([f'{n}:{word}' for n in owners])}."
            )
        known = [*self._nodes, *self._by_name]
        lab = self._intent.name
        return InputError(
            f"{word} is no VM, NIC, host, switch or machine of {lab}{_nearest(word, known)}",
            f"It has {_some(self._nodes)}; of each any device, as in HOST:eth0.",
        )


def explain_port(host: Hypervisor | None, node: str, device: str, shown: str) -> InputError | None:
    """What a switch's port is that is no device, told by its daemon's `dpif/show`; None if it has none such.

    Args:
        host: the host that it is on; None on a top-of-rack switch.
        node: the host's or switch's name.
        device: the port's name.
        shown: what `dpif/show` said (ovs-vswitchd(8)).
    """
    bridges: dict[str, str] = {}
    kinds: dict[str, str] = {}
    bridge = ""
    for line in shown.splitlines():
        indent = len(line) - len(line.lstrip())
        if indent == 2:
            bridge = line.strip().rstrip(":")
        elif indent == 4:
            name, _, rest = line.strip().partition(" ")
            bridges[name], kinds[name] = bridge, rest.partition("(")[2].rstrip(")")
    kind = kinds.get(device, "")
    uplinks = ", ".join(f"{node}:{nic}" for nic in host.nics) if host else "a port of the switch"
    if kind.startswith("patch"):
        peer = kind.partition("peer=")[2]
        return InputError(
            f"{device} of {node} is a patch port between {bridges[device]} and {bridges.get(peer, peer)}, "
            "and no device: ovs-vswitchd passes packets through it without a copy",
            f"Capture where they come in and go out, at the taps and at {uplinks} (`netctl capture {node}`).",
        )
    if kind.startswith("vxlan"):
        return InputError(
            f"{device} of {node} is a tunnel port, and no device: its packets go to the CVM, in VXLAN",
            f"Capture at {node}:{addressing.LINK}.",
        )
    if kind.startswith("geneve"):
        return InputError(
            f"{device} of {node} is a tunnel port, and no device: its packets leave by an uplink, in Geneve",
            f"Capture at {uplinks}.",
        )
    return None


def _nearest(word: str, known: Iterable[str]) -> str:
    spelled: Mapping[str, str] = {name.replace(" ", ":"): name.replace(" ", ":") for name in known}
    near = difflib.get_close_matches(word, spelled, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
