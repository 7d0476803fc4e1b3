"""The rack of one lab: compare what is there with what must be, make the missing, remove the unwanted.

    observe -> difference -> build ... (the controller writes) ... activate -> prune

Every step can be repeated at any time: a killed run is finished by the next one. What is ours is told
by the kernel: namespaces by the mark on `lo`, devices by their group, processes by their namespace.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dataplane import (
    announce,
    autoconf,
    bgp,
    bonds,
    buffers,
    daemons,
    dnsmasq,
    functions,
    leases,
    netns,
    processes,
    rstp,
    shaping,
    stack,
    store,
    tables,
)
from dataplane.bonds import Bond, bond
from dataplane.daemons import Daemon, Runner
from dataplane.engine import Engine
from dataplane.inventory import CENTRAL, KIND_WORDS, Device, End, Inventory, Link, Node, Tunnel
from dataplane.processes import Process
from dataplane.stack import Seen, Snapshot
from netctl.errors import ChangeError, ConflictError, MachineError
from netctl.model import addressing, devices
from netctl.model.state import Endpoints, OpenFlow

GROUP = 0x6E63
"""The group (ip-link(8)) of the devices that netctl makes; set with the device in one message."""

WORKERS = 16
"""Daemons started at once. More than cores: most of a start is waiting."""

DEVICE_LIMIT = 30.0
"""Seconds until ovs-vswitchd must have made br0."""

_SWITCHING = {daemons.OVSDB.role, daemons.VSWITCHD.role}
"""Daemons without which a node neither takes configuration nor forwards."""

_BGP = {daemons.ZEBRA.role, daemons.BGPD.role, daemons.FEED.role}

NEIGHBOUR_AGE = 3600
"""Seconds that a tunnel's neighbour is remembered without traffic: the most that OVS takes (default: 900)."""

MEMBER_LIMIT = 20.0
"""Seconds that a bond may take to use an uplink with carrier again. One or two are usual."""

FUNCTION_LIMIT = 5.0
"""Seconds that a network function may take until the first packet passes it."""

ROOM_OF_NODE = 128 << 10
"""Octets on disk for a node's databases and logs; 60 to 90 KiB are used when a lab has just come up."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between the rack as it is and as it must be."""

    sign: str
    node: str
    what: str

    def __str__(self) -> str:
        return f"{self.sign} {self.node}: {self.what}"


@dataclass(frozen=True)
class Observed:
    """The rack as it is. `snapshots` has the nodes whose namespace exists and is ours."""

    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    running: Mapping[str, list[Process]] = field(default_factory=dict)


class Rack:
    """The rack of one lab, on one engine."""

    def __init__(self, inventory: Inventory, engine: Engine) -> None:
        self.inventory = inventory
        self.runner = Runner(inventory.lab, engine)
        self._devices: dict[str, list[Device]] = {node: [] for node in inventory.nodes}
        for link in inventory.links:
            for end in (link.a, link.b):
                self._devices[end.node].append(end.device)
        for tunnel in inventory.tunnels:
            self._devices[tunnel.node].append(tunnel.device)

    @property
    def lab(self) -> str:
        """The lab's name."""
        return self.inventory.lab

    def endpoints(self) -> Endpoints:
        """Where the lab's databases and bridges answer; a switch that is stopped on purpose takes nothing."""
        nodes = [
            node.name for node in self.inventory.of_kind("host", "switch") if not node.stopped & _SWITCHING
        ]
        return Endpoints(
            self.runner.remote(CENTRAL, daemons.NORTHBOUND),
            self.runner.remote(CENTRAL, daemons.SOUTHBOUND),
            {node: self.runner.remote(node, "db") for node in nodes},
            OpenFlow(
                self.runner.engine.tool("ovs-ofctl"),
                self.runner.engine.env(),
                {node: f"unix:{self.runner.directory(node)}/{{bridge}}.mgmt" for node in nodes},
            ),
        )

    def reachable(self) -> Endpoints:
        """Those of the endpoints that are there; "" for a central database that is not."""
        all_ = self.endpoints()
        there = {node: remote for node, remote in all_.nodes.items() if _listens(remote)}
        northbound, southbound = (
            remote if _listens(remote) else "" for remote in (all_.northbound, all_.southbound)
        )
        return Endpoints(northbound, southbound, there, all_.openflow)

    def refuse_foreign(self, observed: Observed) -> None:
        """Raise ConflictError when a namespace that the lab needs is there, but not among ours."""
        needed = [
            self.inventory.namespace(node) for node in self.inventory.nodes if node not in observed.snapshots
        ]
        foreign = [name for name in needed if netns.inode(name) is not None]
        if foreign:
            raise ConflictError(
                f"these network namespaces are there already and are not netctl's: {', '.join(foreign)}",
                "Remove them (ip netns delete NAME) or give the lab another name.",
            )

    def require_means(self, observed: Observed) -> None:
        """Raise MachineError when the disk has no room for what is still to be made, or FRR is missing."""
        if any(node.bgp is not None for node in self.inventory.nodes.values()):
            bgp.program(daemons.BGPD.program)
        fresh = [
            node
            for node in self.inventory.nodes.values()
            if node.kind in daemons.ALL and node.name not in observed.snapshots
        ]
        store.require_space(self.lab, ROOM_OF_NODE * (1 + len(fresh)))

    def seen_addresses(self) -> dict[str, dict[tuple[str, str], set[IPv4Address]]]:
        """The IPv4 addresses that each CVM has seen guests use, by its device and their MAC address.

        The device is a VLAN's (netctl.model.addressing.tunnel_end). A CVM that is not there has seen none.
        """
        there = set(owned(self.lab))
        return {
            node.name: netns.inside(self.inventory.namespace(node.name), stack.neighbours)
            for node in self.inventory.of_kind("cvm")
            if node.name in there and any(tunnel.node == node.name for tunnel in self.inventory.tunnels)
        }

    @property
    def silent(self) -> set[str]:
        """Nodes with a daemon that is stopped on purpose: nothing is to be expected of them."""
        return {node.name for node in self.inventory.nodes.values() if node.stopped}

    def observe(self, nodes: Collection[str] | None = None) -> Observed:
        """Read the namespaces, devices and processes of the lab, or of some of its nodes."""
        there = [node for node in owned(self.lab) if nodes is None or node in nodes]
        snapshots = {node: netns.inside(self.inventory.namespace(node), stack.snapshot) for node in there}
        return Observed(snapshots, running(self.lab, there))

    def difference(self, observed: Observed) -> list[Change]:
        """What `build`, `activate` and `prune` would do."""
        changes = []
        place = functions.directory(self.lab)
        for node in self.inventory.nodes.values():
            seen = observed.snapshots.get(node.name)
            if seen is None:
                changes.append(Change("+", node.name, f"{KIND_WORDS[node.kind]} with its namespace"))
                continue
            alive = daemons.roles_of(observed.running.get(node.name, ()))
            changes += [
                Change("+", node.name, f"daemon {daemon.role} is not running")
                for daemon in _wanted(node, daemons.of(node))
                if daemon.role not in alive
            ]
            if bgp.outdated(self.lab, node):
                changes.append(Change("~", node.name, "BGP is configured for something else"))
            changes += [
                Change("-", node.name, f"daemon {role} runs") for role in sorted(_unneeded(node) & alive)
            ]
            if node.probed and not functions.told(self.runner, node):
                changes.append(Change("~", node.name, "its network functions are others"))
            changes += [
                Change("-", node.name, f"daemon {role} runs") for role in sorted(node.stopped & alive)
            ]
            changes += [
                Change("~", node.name, f"daemon {role} runs with another configuration")
                if role in alive
                else Change("+", node.name, f"daemon {role} is not running")
                for role in map(dnsmasq.role, self._missing_servers(node, observed))
            ]
            changes += [
                Change("-", node.name, f"daemon {role} runs") for role in self._unwanted_servers(node, alive)
            ]
            changes += [
                Change("+", node.name, f"{device} has no DHCP client")
                for device in leases.missing(node, observed.running.get(node.name, ()))
            ]
            changes += [Change("~", node.name, text) for text in self._layer3_difference(node, seen)]
            if node.program is not None:
                text = functions.wrong(self.lab, node, place, observed.running.get(node.name, ()))
                changes += [Change("~", node.name, text)] if text else []
        for link in self.inventory.links:
            changes += self._link_difference(link, observed)
        for tunnel in self.inventory.tunnels:
            changes += self._tunnel_difference(tunnel, observed)
        changes += [
            Change("-", node, f"device {device}") for node, device in self._unwanted_devices(observed)
        ]
        changes += [
            Change("-", node, "node with its namespace")
            for node in observed.snapshots
            if node not in self.inventory.nodes
        ]
        return changes

    def build(self, observed: Observed, progress: Progress) -> dict[str, list[str]]:
        """Make namespaces, links and guests, start databases and switches; touch nothing that is right.

        Returns the devices that were made under running switches, by node: those switches must let go of
        the old ones first.
        """
        store.directory(self.lab).mkdir(parents=True, exist_ok=True)
        netns.share_directory()
        progress("namespaces")
        fresh = [node for node in self.inventory.nodes.values() if node.name not in observed.snapshots]
        # A namespace whose name somebody deleted lives on with its daemons, which hold on to our files.
        processes.end(
            pid
            for node in fresh
            if node.kind in daemons.ALL
            for pid in processes.with_files_in(self.runner.directory(node.name))
        )
        for node in fresh:
            netns.create(self.inventory.namespace(node.name), self.lab)
        self.runner.prepare(
            (node.name, node.kind) for node in self.inventory.nodes.values() if node.kind in daemons.ALL
        )
        self._stop(observed)
        self._prepare_bgp(observed)
        processes.end(
            pid
            for node in self.inventory.of_kind("vm")
            for pid in leases.outdated(node, observed.running.get(node.name, ()))
        )
        processes.end(
            process.pid
            for node in self.inventory.of_kind("host")
            for process in observed.running.get(node.name, ())
            if daemons.roles_of([process]) & _unneeded(node)
        )
        processes.end(
            pid
            for node in self.inventory.of_kind("cvm")
            for pid in dnsmasq.outdated(
                self.lab, node, observed.running.get(node.name, ()), self._tunnel_ends(node, observed)
            )
        )
        progress("databases and switches")
        with _pool() as pool:
            # Central first: it takes longest, and everybody else waits for it in the end.
            order = self.inventory.of_kind("central") + self.inventory.of_kind("host", "switch")
            started = [
                pool.submit(
                    self.runner.start,
                    node.name,
                    _wanted(node, daemons.BASE[node.kind]),
                    observed.running.get(node.name, ()),
                )
                for node in order
            ]
            progress("links and guests")
            links = pool.submit(self._make_links, observed)
            _all([*started, links])
        progress("network functions")
        self._start_functions(observed, {node for node, _ in links.result()})
        under_switches: dict[str, list[str]] = {}
        for name, device in sorted(links.result()):
            if daemons.VSWITCHD.role in daemons.roles_of(observed.running.get(name, ())):
                under_switches.setdefault(name, []).append(device)
        return under_switches

    def _start_functions(self, observed: Observed, renewed: Collection[str]) -> None:
        """Start the programs of functions that do not run as they must, or whose NICs are new."""
        place = functions.directory(self.lab)
        for host in self.inventory.of_kind("host"):
            if host.probed:
                functions.tell(self.runner, host)
        with _pool() as pool:
            work = []
            for node in self.inventory.of_kind("function"):
                running = observed.running.get(node.name, ())
                wrong = functions.wrong(self.lab, node, place, running)
                if not node.stopped and (wrong or node.name in renewed):
                    work.append(pool.submit(functions.start, self.lab, node, place, running))
            _all(work)

    def activate(self, observed: Observed, progress: Progress) -> None:
        """What needs the written configuration: host addresses and ovn-controllers."""
        progress("controllers")
        hosts = self.inventory.of_kind("host")
        speaking = [node for node in self.inventory.nodes.values() if node.bgp is not None]
        # Some may have ended since they were observed: see _prepare_bgp.
        heard = running(self.lab, [node.name for node in speaking])
        with _pool() as pool:
            _all(
                [
                    pool.submit(
                        self.runner.start,
                        node.name,
                        _wanted(node, (daemons.CONTROLLER, *beside(node))),
                        observed.running.get(node.name, ()),
                    )
                    for node in hosts
                ]
                + [
                    pool.submit(
                        dnsmasq.start,
                        self.lab,
                        node,
                        observed.running.get(node.name, ()),
                        self._tunnel_ends(node, observed),
                    )
                    for node in self.inventory.of_kind("cvm")
                ]
                + [
                    pool.submit(
                        self.runner.start,
                        node.name,
                        _wanted(node, daemons.of(node)),
                        heard[node.name],
                    )
                    for node in speaking
                ]
                + [pool.submit(self._address_host, node) for node in hosts if not node.stopped & _SWITCHING]
            )

    def _prepare_bgp(self, observed: Observed) -> None:
        """Write the configuration of who speaks BGP, and end those that speak with another, or no more."""
        for node in self.inventory.nodes.values():
            if bgp.outdated(self.lab, node):
                processes.end(
                    process.pid
                    for process in observed.running.get(node.name, ())
                    if daemons.roles_of([process]) & _BGP
                )
                bgp.prepare(self.lab, node)

    def await_routes(self) -> None:
        """Wait until every router knows by BGP what it is to know, and nothing else. ChangeError else."""
        wrong = bgp.await_learned(
            {
                self.inventory.namespace(node.name): node.bgp.learned
                for node in self.inventory.of_kind("machine")
                if node.bgp is not None
            }
        )
        if wrong:
            raise ChangeError("; ".join(wrong[:5]), "`netctl status` shows what runs.")

    def warm(self, observed: Observed, changed: bool) -> None:
        """Make the first packet pass: active bonds, known tunnel neighbours, no stale MAC tables.

        ovs-vswitchd would otherwise lose the first Geneve packet to each peer while ARP resolves it.
        `changed`: NICs or links may be elsewhere than the switches learned.
        """
        hosts = [node for node in self.inventory.of_kind("host") if "br0" in node.addresses]
        there = [node for node in self.inventory.of_kind("host", "switch") if not node.stopped & _SWITCHING]
        with _pool() as pool:
            _all(
                [pool.submit(self._settle_bonds, node, observed, changed) for node in there if node.bonds]
                + [
                    pool.submit(rstp.settle, self.runner, node.name)
                    for node in there
                    if node.kind == "switch"
                ]
            )
            work = [pool.submit(self._warm_host, node, hosts) for node in there if node in hosts]
            work.append(pool.submit(self._enlarge_buffers))
            if changed:
                work += [pool.submit(self._forget, node) for node in there]
            _all(work)
        if changed:
            self._announce([node for node in there if node.bonds])

    def _announce(self, hosts: Iterable[Node]) -> None:
        """Have the guests of hosts with balance-slb announce themselves, as their stacks do when they boot.

        A switch floods what is for a MAC that it does not know over all uplinks of such a bond. OVN answers
        the ARP that would have made it known.
        """
        slb = set()
        for host in hosts:
            found = [bond(self.runner, host.name, name) for name in host.bonds]
            if any(state is not None and state.running == "balance-slb" for state in found):
                slb.add(host.name)
        for link in self.inventory.links:
            guest, device = link.b.node, link.b.device
            if link.a.node not in slb or self.inventory.nodes[guest].kind != "vm":
                continue
            self._announce_end(link, self.inventory.nodes[guest].addresses.get(device.name))

    def _announce_end(self, link: Link, address: IPv4Interface | None) -> None:
        guest, device = link.b.node, link.b.device
        if address is not None and device.mac is not None and device.up and link.a.device.up:
            netns.inside(
                self.inventory.namespace(guest),
                partial(announce.announce, device.name, device.mac, address.ip),
            )

    def introduce(self, observed: Observed) -> None:
        """Have guests of a lab that was there announce the addresses that are new, as stacks do that boot.

        Who knows such an address as somebody else's, who is gone, would go on sending there.
        """
        vms = {node.name for node in self.inventory.of_kind("vm")}
        if not vms & observed.snapshots.keys():
            return
        for link in self.inventory.links:
            guest, device = link.b.node, link.b.device
            if guest not in vms or self.inventory.nodes[link.a.node].stopped & _SWITCHING:
                continue
            node, seen = self.inventory.nodes[guest], observed.snapshots.get(guest, Snapshot())
            lease = node.leases.get(device.name)
            address = lease.address if lease else node.addresses.get(device.name)
            before = seen.devices.get(device.name)
            known = before is not None and before.mac == device.mac
            if not known or address not in seen.addresses.get(device.name, ()):
                self._announce_end(link, address)

    def greet(self) -> None:
        """Have each bare machine ask for the MAC addresses of the VPCs beside it: so both know each other.

        A VPC's gateway keeps four packets for a neighbour that it still asks for, and drops the rest.
        """
        for node in self.inventory.of_kind("machine"):
            if node.routers:
                netns.inside(
                    self.inventory.namespace(node.name),
                    lambda node=node: stack.provoke_arp(node.routers),  # type: ignore[misc]
                )

    def ask_for_addresses(self, observed: Observed) -> None:
        """Have guests ask for the addresses that they are to get by DHCP or SLAAC; the lab must be ready.

        ChangeError when one does not get what it is to have, unless something is broken on purpose.
        """
        guests = self.inventory.of_kind("vm")
        with _pool() as pool:
            asking = [
                pool.submit(leases.ask, self.lab, node, observed.running.get(node.name, ()))
                for node in guests
                if node.leases
            ]
            asking += [
                pool.submit(autoconf.configure, self.lab, node)
                for node in guests
                if node.addresses6 or observed.snapshots.get(node.name, Snapshot()).addresses6
            ]
            _all([*asking, *(pool.submit(leases.write_resolver, self.lab, node) for node in guests)])
        late = [words for each in asking for words in each.result()]
        if late and not any(node.stopped for node in self.inventory.nodes.values()):
            raise ChangeError("; ".join(late[:5]), "`netctl status` shows what runs.")

    def await_functions(self, observed: Observed) -> None:
        """Wait until something has come through each inline function whose program was just started.

        Not for ever: what a program does with packets is its own business, and `status` shows it.
        """
        place = functions.directory(self.lab)
        fresh = {
            node.name
            for node in self.inventory.of_kind("function")
            if not node.stopped
            and functions.wrong(self.lab, node, place, observed.running.get(node.name, ()))
        }
        deadline = time.monotonic() + FUNCTION_LIMIT
        while time.monotonic() < deadline:
            silent = {
                f"{name}.{host.name}"
                for host in self.inventory.of_kind("host")
                if host.probed and not host.stopped
                for name in host.probed.keys() - functions.living(self.runner, host.name)
            }
            if not silent & fresh:
                return
            time.sleep(0.05)

    def warm_tunnels(self) -> None:
        """Tell the hosts each other's MAC addresses again; a lab at rest forgets them after an hour."""
        hosts = [node for node in self.inventory.of_kind("host") if "br0" in node.addresses]
        with _pool() as pool:
            _all(
                [pool.submit(self._warm_host, node, hosts) for node in hosts if not node.stopped & _SWITCHING]
            )

    def break_down(self, observed: Observed) -> None:
        """Stop the daemons and set the devices up or down that differ in what was observed; nothing else.

        What breaks without warning: nobody is told, and only a switch forgets what is behind a dead port.
        """
        self._stop(observed)
        changed: set[tuple[str, str]] = set()
        for node, seen in observed.snapshots.items():
            work = [
                (device, seen.devices[device.name])
                for device in self._devices.get(node, ())
                if device.name in seen.devices and seen.devices[device.name].up != device.up
            ]
            if work:
                netns.inside(
                    self.inventory.namespace(node),
                    lambda work=work: _set_states(work),  # type: ignore[misc]
                )
                changed |= {(node, device.name) for device, _ in work}
        for switch, ports in self._dead_ports(changed).items():
            learning = self.inventory.nodes[switch].learning
            if learning:
                tables.forget_learned(self.runner, switch, learning)
            else:
                tables.forget(self.runner, switch, devices.SWITCH_BRIDGE, ports)

    def _dead_ports(self, changed: set[tuple[str, str]]) -> dict[str, set[str]]:
        """Ports that lost their carrier with a change of these devices, by the switch that notices it."""
        found: dict[str, set[str]] = {}
        for link in self.inventory.links:
            ends = [(end.node, end.device.name) for end in (link.a, link.b)]
            if (link.a.device.up and link.b.device.up) or not changed & set(ends):
                continue
            for node, device in ends:
                known = self.inventory.nodes[node]
                if known.kind == "switch" and not known.stopped & _SWITCHING:
                    found.setdefault(node, set()).add(device)
        return found

    def recover(self) -> None:
        """Wait until the switches forward, and each bond has taken back the uplinks with carrier."""
        with _pool() as pool:
            _all(
                [
                    pool.submit(self._await_members, node, name)
                    for node in self.inventory.of_kind("host")
                    if not node.stopped & _SWITCHING
                    for name in node.bonds
                ]
                + [
                    pool.submit(rstp.settle, self.runner, node.name)
                    for node in self.inventory.of_kind("switch")
                    if not node.stopped & _SWITCHING
                ]
            )

    def _await_members(self, node: Node, name: str) -> None:
        """Wait until a bond uses all of its uplinks that have carrier and a living switch.

        LACP that both sides have given up is begun again.
        """
        began = asked = time.monotonic()
        while (now := time.monotonic()) < began + MEMBER_LIMIT:
            state = bond(self.runner, node.name, name)
            seen = netns.inside(self.inventory.namespace(node.name), stack.snapshot).devices
            left = [
                (uplink, far)
                for uplink, enabled in (state.members if state else {}).items()
                if not enabled and uplink in seen and seen[uplink].carrier
                for far in self._far_ends(node.name, uplink)
            ]
            if state is None or not left:
                return
            if state.lacp != "off" and now > asked + bonds.ASKING:
                for uplink, far in left:
                    bonds.ask_again(self.runner, node.name, uplink)
                    bonds.ask_again(self.runner, far.node, far.device.name)
                asked = now
            time.sleep(0.02)

    def _far_ends(self, node: str, device: str) -> list[End]:
        """The other end of a link, unless its switch is stopped on purpose."""
        ends = [(link.a, link.b) for link in self.inventory.links]
        return [
            far
            for near, far in ends + [(b, a) for a, b in ends]
            if (near.node, near.device.name) == (node, device)
            and not self.inventory.nodes[far.node].stopped & _SWITCHING
        ]

    def _stop(self, observed: Observed) -> None:
        """End the daemons that are not to run."""
        processes.end(
            process.pid
            for node in self.inventory.nodes.values()
            if node.stopped
            for process in observed.running.get(node.name, ())
            if daemons.roles_of([process]) & node.stopped
        )

    def prune(self, observed: Observed) -> None:
        """Remove the nodes and devices that the intent no longer has."""
        for node, device in self._unwanted_devices(observed):
            netns.inside(self.inventory.namespace(node), lambda device=device: stack.delete_device(device))  # type: ignore[misc]
        remove_nodes(self.lab, [node for node in observed.snapshots if node not in self.inventory.nodes])

    # --- links and guests ----------------------------------------------------------------------------

    def _make_links(self, observed: Observed) -> set[tuple[str, str]]:
        """Make the missing links and configure all nodes; returns the new ends as (node, device)."""
        renewed: set[tuple[str, str]] = set()
        missing = [link for link in self.inventory.links if not _joined(link, observed)]
        with _Handles(self.lab) as handles, IPRoute() as netlink:
            for link in missing:
                self._make_link(link, observed, handles, netlink)
                renewed |= {(link.a.node, link.a.device.name), (link.b.node, link.b.device.name)}
        for tunnel in self.inventory.tunnels:
            if not _there(tunnel, observed):
                netns.inside(
                    self.inventory.namespace(tunnel.node),
                    lambda tunnel=tunnel: _make_tunnel(tunnel),  # type: ignore[misc]
                )
                renewed.add((tunnel.node, tunnel.device.name))
        for node in self.inventory.nodes.values():
            seen = observed.snapshots.get(node.name, Snapshot())
            work = [
                (device, None if (node.name, device.name) in renewed else seen.devices.get(device.name))
                for device in self._devices[node.name]
            ]
            work = [
                (device, have) for device, have in work if have is None or _device_difference(device, have)
            ]
            if work or self._layer3_difference(node, seen):
                netns.inside(
                    self.inventory.namespace(node.name),
                    lambda node=node, work=work: self._configure(node, work),  # type: ignore[misc]
                )
        return renewed

    def _configure(self, node: Node, work: list[tuple[Device, Seen | None]]) -> None:
        if node.kind == "host":
            stack.answer_arp_where_asked()
        elif node.kind == "cvm":
            stack.learn_from_announcements()
        with stack.Stack() as here:
            for device, seen in work:
                here.configure_device(device, seen)
            if node.forwards:
                stack.forward(True)
            if node.kind == "host":
                here.make_bridge(devices.CVM_BRIDGE, devices.CVM_LINK)
            left = {*node.leases, *node.free}
            here.configure_layer3(node.addresses, node.routes, self._managed(node), leave=left)

    def _managed(self, node: Node) -> set[str]:
        made = {device.name for device in self._devices[node.name]}
        return (made | set(node.addresses)) - set(node.leases) - node.free

    def _layer3_difference(self, node: Node, seen: Snapshot) -> list[str]:
        """Addresses and routes that are not as they must be; devices that others made are none of ours."""
        words = []
        for device in sorted(self._managed(node)):
            wanted = {node.addresses[device]} if device in node.addresses else set()
            have = seen.addresses.get(device, frozenset())
            words += [f"address {address} of {device} is missing" for address in wanted - have]
            words += [f"address {address} of {device} is not in the intent" for address in have - wanted]
        known = set(node.routes)
        for device, lease in sorted(node.leases.items()):
            # What is missing the client has still to get: see `ask_for_addresses`.
            if lease.address is None:
                continue
            wrong = seen.addresses.get(device, frozenset()) - {lease.address}
            words += [f"address {address} of {device} is not in the intent" for address in wrong]
            known |= set(lease.routes)
        words += [f"{route} is missing" for route in sorted(set(node.routes) - seen.routes)]
        words += ["it does not forward packets"] if node.forwards and not seen.forwards else []
        foreign = {route for route in seen.routes - known if route.device not in node.free}
        words += [f"{route} is not in the intent" for route in sorted(foreign)]
        if node.kind == "vm":
            wanted6 = {device: frozenset({address}) for device, (address, _) in node.addresses6.items()}
            words += [
                f"the IPv6 addresses of {device} are not as in the intent"
                for device in sorted({*wanted6, *seen.addresses6})
                if device not in node.free - wanted6.keys()
                and wanted6.get(device, frozenset()) != seen.addresses6.get(device, frozenset())
            ]
        return words

    def _make_link(self, link: Link, observed: Observed, handles: _Handles, netlink: IPRoute) -> None:
        for end in (link.a, link.b):
            if end.device.name in observed.snapshots.get(end.node, Snapshot()).devices:
                netns.inside(
                    self.inventory.namespace(end.node),
                    lambda name=end.device.name: stack.delete_device(name),  # type: ignore[misc]
                )
        a, b = link.a.device, link.b.device
        netlink.link(
            "add",
            kind="veth",
            ifname=a.name,
            net_ns_fd=handles[link.a.node],
            mtu=a.mtu,
            group=GROUP,
            **({"address": a.mac} if a.mac else {}),
            peer={
                "ifname": b.name,
                "net_ns_fd": handles[link.b.node],
                "mtu": b.mtu,
                "group": GROUP,
                **({"address": b.mac} if b.mac else {}),
            },
        )

    def _link_difference(self, link: Link, observed: Observed) -> list[Change]:
        if not _joined(link, observed):
            where = f"{link.b.node} {link.b.device.name}"
            return [Change("+", link.a.node, f"link {link.a.device.name} - {where}")]
        return [
            Change("~", end.node, f"device {end.device.name}: {text}")
            for end in (link.a, link.b)
            for text in _device_difference(end.device, observed.snapshots[end.node].devices[end.device.name])
        ]

    def _tunnel_difference(self, tunnel: Tunnel, observed: Observed) -> list[Change]:
        if tunnel.node not in observed.snapshots:
            return []
        name = tunnel.device.name
        if not _there(tunnel, observed):
            return [Change("+", tunnel.node, f"device {name}")]
        seen = observed.snapshots[tunnel.node].devices[name]
        return [
            Change("~", tunnel.node, f"device {name}: {text}")
            for text in _device_difference(tunnel.device, seen)
        ]

    def _tunnel_ends(self, node: Node, observed: Observed) -> set[str]:
        """The VXLAN devices that a CVM had when it was observed."""
        return {
            tunnel.device.name
            for tunnel in self.inventory.tunnels
            if tunnel.node == node.name and _there(tunnel, observed)
        }

    def _missing_servers(self, node: Node, observed: Observed) -> list[str]:
        running = observed.running.get(node.name, ())
        return dnsmasq.missing(self.lab, node, running, self._tunnel_ends(node, observed))

    def _unwanted_servers(self, node: Node, alive: Iterable[str]) -> list[str]:
        wanted = {dnsmasq.role(subnet) for subnet in node.servers}
        return sorted(role for role in alive if role.startswith(dnsmasq.ROLE) and role not in wanted)

    def _unwanted_devices(self, observed: Observed) -> list[tuple[str, str]]:
        wanted = {(node, device.name) for node, found in self._devices.items() for device in found}
        return [
            (node, name)
            for node, seen in observed.snapshots.items()
            if node in self.inventory.nodes
            for name, device in seen.devices.items()
            if device.kind in ("veth", "vxlan") and device.group == GROUP and (node, name) not in wanted
        ]

    # --- hosts -----------------------------------------------------------------------------------------

    def _address_host(self, node: Node) -> None:
        bridges = sorted({"br0", addressing.BRIDGE} & node.addresses.keys())

        def configure() -> None:
            for bridge in bridges:
                stack.wait_for_device(bridge, DEVICE_LIMIT)
            with stack.Stack() as here:
                for bridge in bridges:
                    here.set_up(bridge)
                if self._layer3_difference(node, here.snapshot()):
                    here.configure_layer3(node.addresses, node.routes, self._managed(node))

        netns.inside(self.inventory.namespace(node.name), configure)

    def _settle_bonds(self, node: Node, observed: Observed, changed: bool) -> None:
        """Wait until each bond has an active member; on a host that just started that is the first uplink.

        One with LACP has all of its members then, each with its part of the hashes.
        """
        fresh = daemons.VSWITCHD.role not in daemons.roles_of(observed.running.get(node.name, ()))
        for name, uplinks in node.bonds.items():
            state = self._await_bond(node.name, name)
            if fresh and state.running in ("active-backup", "balance-slb") and state.active != uplinks[0]:
                self._ask_switch(node.name, "bond/set-active-member", name, uplinks[0])
            if changed and state.lacp != "off":
                self._await_members(node, name)
                bonds.spread(self.runner, node.name, name.removesuffix("-up"), name)

    def _await_bond(self, node: str, name: str) -> Bond:
        deadline = time.monotonic() + DEVICE_LIMIT
        while True:
            state = bond(self.runner, node, name)
            if state is not None and any(state.members.values()):
                return state
            if not self._any_uplink_up(node, name) or time.monotonic() > deadline:
                # All its uplinks are down or cut: somebody wants it so, and `status` shows it.
                return state or Bond(name, "", None, {})
            time.sleep(0.02)

    def _any_uplink_up(self, node: str, name: str) -> bool:
        uplinks = self.inventory.nodes[node].bonds[name]
        seen = netns.inside(self.inventory.namespace(node), stack.snapshot).devices
        return any(seen[uplink].carrier for uplink in uplinks if uplink in seen)

    def _warm_host(self, node: Node, hosts: list[Node]) -> None:
        self.runner.ask_all(
            node.name,
            daemons.VSWITCHD,
            [
                ("tnl/neigh/aging", str(NEIGHBOUR_AGE)),
                *(
                    ("tnl/neigh/set", "br0", str(peer.addresses["br0"].ip), str(peer.mac))
                    for peer in hosts
                    if peer.name != node.name
                ),
                *_cvm_neighbour(node),
            ],
        )

    def _enlarge_buffers(self) -> None:
        switches = [node.name for node in self.inventory.of_kind("host", "switch")]
        for found in running(self.lab, switches).values():
            for process in found:
                if process.program == daemons.VSWITCHD.program:
                    # A container may forbid it: slower under load, and `netctl doctor` says so.
                    with contextlib.suppress(OSError):
                        buffers.enlarge(process.pid)

    def _forget(self, node: Node) -> None:
        for bridge in node.bridges:
            self._ask_switch(node.name, "fdb/flush", bridge)
        if node.learning:
            tables.forget_learned(self.runner, node.name, node.learning)

    def _ask_switch(self, node: str, command: str, *arguments: str) -> str:
        return self.runner.ask(node, daemons.VSWITCHD, command, *arguments)


def marked() -> set[str]:
    """Names of all labs that have a namespace on this machine, told by the marks."""
    found = set()
    for name in netns.names(""):
        lab = name.partition(".")[0]
        if "." in name and lab not in found and netns.inode(name) is not None and netns.owner_of(name) == lab:
            found.add(lab)
    return found


def owned(lab: str) -> list[str]:
    """Names of the nodes of a lab whose namespace exists and is ours."""
    prefix = f"{lab}."
    return [
        name.removeprefix(prefix)
        for name in netns.names(prefix)
        if netns.inode(name) is not None and netns.owner_of(name) == lab
    ]


def running(lab: str, nodes: Iterable[str]) -> dict[str, list[Process]]:
    """Processes by node."""
    inodes = {node: netns.inode(f"{lab}.{node}") for node in nodes}
    found = processes.living_in({inode for inode in inodes.values() if inode is not None})
    return {node: found.get(inode, []) if inode else [] for node, inode in inodes.items()}


def remove_nodes(lab: str, nodes: Iterable[str]) -> None:
    """End what lives in these nodes, and remove them with their namespaces."""
    nodes = list(nodes)
    living = running(lab, nodes)
    processes.end(process.pid for found in living.values() for process in found)
    for node in nodes:
        netns.remove(f"{lab}.{node}")


def remove(lab: str) -> None:
    """Remove all of a lab's nodes, also those that lost their name and what a killed `create` left."""
    remove_nodes(lab, owned(lab))
    processes.end(processes.with_files_in(store.directory(lab)))
    for name in netns.names(f"{lab}."):
        if netns.is_remnant(name):
            netns.remove(name)


def _joined(link: Link, observed: Observed) -> bool:
    """Whether both ends are there and are each other's peer."""
    a = observed.snapshots.get(link.a.node, Snapshot()).devices.get(link.a.device.name)
    b = observed.snapshots.get(link.b.node, Snapshot()).devices.get(link.b.device.name)
    return a is not None and b is not None and a.peer == b.index and b.peer == a.index


def _device_difference(device: Device, seen: Seen) -> list[str]:
    words = []
    if device.mac and device.mac != seen.mac:
        words.append(f"its MAC address is {seen.mac}, not {device.mac}")
    if device.mtu != seen.mtu:
        words.append(f"its MTU is {seen.mtu}, not {device.mtu}")
    if device.up != seen.up:
        words.append(f"it is {'up' if seen.up else 'down'}")
    if not shaping.same(device.rate, seen.rate):
        words.append(f"its rate is {_rate(seen.rate)}, not {_rate(device.rate)}")
    return words


def _rate(rate: int | None) -> str:
    return "unlimited" if rate is None else f"{rate / 1e6:g} Mbit/s"


def beside(node: Node) -> tuple[Daemon, ...]:
    """Daemons beside a host's switch, where they are needed and it runs."""
    if node.stopped & _SWITCHING:
        return ()
    return (*((daemons.PUNT,) if node.punted else ()), *((daemons.HEALTH,) if node.probed else ()))


def _unneeded(node: Node) -> set[str]:
    """The roles of daemons that a host has no use for."""
    if node.kind != "host":
        return set()
    found = {daemons.PUNT.role: node.punted, daemons.HEALTH.role: bool(node.probed)}
    return {role for role, needed in found.items() if not needed}


def _wanted(node: Node, started: Iterable[Daemon]) -> list[Daemon]:
    """Those of the daemons that are to run."""
    return [daemon for daemon in started if daemon.role not in node.stopped]


def _set_states(work: Iterable[tuple[Device, Seen]]) -> None:
    with stack.Stack() as here:
        for device, seen in work:
            here.configure_device(replace(device, mac=None, mtu=seen.mtu, rate=seen.rate), seen)


def _there(tunnel: Tunnel, observed: Observed) -> bool:
    seen = observed.snapshots.get(tunnel.node, Snapshot()).devices.get(tunnel.device.name)
    return seen is not None and seen.kind == "vxlan"


def _make_tunnel(tunnel: Tunnel) -> None:
    """Make the device in the calling thread's namespace, in the place of any other of that name."""
    device = tunnel.device
    stack.delete_device(device.name)
    try:
        with IPRoute() as netlink:
            netlink.link(
                "add",
                kind="vxlan",
                ifname=device.name,
                mtu=device.mtu,
                group=GROUP,
                vxlan_id=tunnel.vni,
                vxlan_group=str(tunnel.remote),
                vxlan_port=tunnel.udp_port,
                vxlan_learning=False,
                **({"address": device.mac} if device.mac else {}),
            )
    except NetlinkError as error:
        if error.code != errno.EOPNOTSUPP:
            raise
        raise MachineError(
            f"{tunnel.node} needs the VXLAN device {device.name}, and this kernel makes none",
            "Load its module: modprobe vxlan",
        ) from error


def _cvm_neighbour(node: Node) -> Iterable[tuple[str, ...]]:
    if addressing.BRIDGE in node.addresses:
        yield "tnl/neigh/set", addressing.BRIDGE, str(addressing.CVM_ADDRESS.ip), addressing.CVM_MAC


class _Handles:
    """Open namespace files by node, for the messages that make links."""

    def __init__(self, lab: str) -> None:
        self._lab = lab
        self._open: dict[str, int] = {}

    def __enter__(self) -> _Handles:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)

    def __getitem__(self, node: str) -> int:
        if node not in self._open:
            self._open[node] = os.open(netns.path(f"{self._lab}.{node}"), os.O_RDONLY | os.O_CLOEXEC)
        return self._open[node]


def _listens(remote: str) -> bool:
    return os.path.exists(remote.removeprefix("unix:"))


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(WORKERS, thread_name_prefix="rack")


def _all(futures: Iterable[Future[Any]]) -> None:
    """Wait for all of them, then raise the first error: no work goes on behind our back."""
    futures = list(futures)
    wait(futures)
    for future in futures:
        future.result()
