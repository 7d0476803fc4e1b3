"""A running lab as a Mininet net: nodes, links and Mininet's CLI on what is there already.

    from dataplane.mininet_lab import Lab

    with Lab("first-lab") as net:
        print(net.get("web1").cmd("ping -c1 web2"))

Nothing of the lab is made, changed or removed by opening or stopping the net.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from dataplane import engine, enter, store
from dataplane.inventory import Inventory, inventory
from dataplane.nodes import Attached, Cable, Cvm, Function, Hypervisor, Machine, Port, Tor, Vm
from netctl.errors import InputError, MachineError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Mininet imports distutils
    from mininet.cli import CLI
    from mininet.log import error, lg, output
    from mininet.net import Mininet

if TYPE_CHECKING:
    from netctl.model import Intent

CLASSES: dict[str, type[Attached]] = {
    "vm": Vm,
    "machine": Machine,
    "cvm": Cvm,
    "speaker": Cvm,
    "function": Function,
    "host": Hypervisor,
    "switch": Tor,
}

PING_LIMIT = 1
"""Seconds that pingall waits for an answer."""


class Lab(Mininet):
    """A running lab as a Mininet net.

    `hosts` are the VMs and bare machines, `switches` the ToRs, `hypervisors`, `cvms` and `functions` what
    they are called; a host's BGP speakers are beside its CVM. `name` may be left out when one lab is running.
    Raises InputError when there is no such lab.
    """

    def __init__(self, name: str | None = None, intent: Intent | None = None) -> None:
        # Not Mininet's own constructor: it would set kernel limits, and build what is there already.
        record = store.read(intent.name if intent else _lab(name))
        if intent is None:
            if record is None:
                raise InputError(f"the lab {name} is not whole", "Bring it up with: netctl up FILE")
            from netctl.intent import loads

            intent = loads(record.text, record.file, record.assignments)
        self.name = intent.name
        self.intent = intent
        self.hosts: list[Attached] = []
        self.switches: list[Attached] = []
        self.hypervisors: list[Attached] = []
        self.cvms: list[Attached] = []
        self.functions: list[Attached] = []
        self.controllers: list[Attached] = []
        self.links: list[Cable] = []
        self.nameToNode: dict[str, Attached] = {}
        self.terms: list[Any] = []
        self.topo = None
        self.built = True
        rack = inventory(intent)
        tools = _tools(record.engine if record else None)
        self._add_nodes(rack, tools)
        self._add_links(rack)

    def _add_nodes(self, rack: Inventory, tools: dict[str, str]) -> None:
        path = os.environ.get("PATH", os.defpath)
        lists = {
            "vm": self.hosts,
            "machine": self.hosts,
            "switch": self.switches,
            "host": self.hypervisors,
            "cvm": self.cvms,
            "speaker": self.cvms,
            "function": self.functions,
        }
        for node in rack.nodes.values():
            if node.kind not in CLASSES:
                continue
            made = CLASSES[node.kind](
                node.name,
                rack.namespace(node.name),
                partial(enter.names, self.intent, node.name),
                enter.environment(self.name, node.name, tools, path),
            )
            self.nameToNode[node.name] = made
            lists[node.kind].append(made)

    def _add_links(self, rack: Inventory) -> None:
        linked = {(end.node, end.device.name) for link in rack.links for end in (link.a, link.b)}
        # Bridges with an address first: br0's is what `hv1.IP()` means.
        for node in rack.nodes.values():
            for device, address in sorted(node.addresses.items()):
                if (node.name, device) not in linked and node.name in self.nameToNode:
                    Port(device, self.nameToNode[node.name], str(address.ip), address.network.prefixlen, None)
        for link in rack.links:
            ends = []
            for end in (link.a, link.b):
                known = rack.nodes[end.node].addresses.get(end.device.name)
                ip, prefix = (str(known.ip), known.network.prefixlen) if known else (None, None)
                ends.append(Port(end.device.name, self.nameToNode[end.node], ip, prefix, end.device.mac))
            self.links.append(Cable(*ends))

    def __iter__(self) -> Iterator[str]:
        for node in chain(self.hosts, self.hypervisors, self.cvms, self.switches):
            yield node.name

    def __len__(self) -> int:
        return len(self.nameToNode)

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def getNodeByName(self, *args: str) -> Any:
        """The node of that name, or a list for several. InputError when there is none."""
        for name in args:
            if name not in self.nameToNode:
                known = ", ".join(sorted(self.nameToNode))
                raise InputError(f"the lab {self.name} has no node {name}", f"It has {known}.")
        return super().getNodeByName(*args)

    def start(self) -> None:
        """Nothing: the lab is running."""

    def stop(self) -> None:
        """End the nodes' shells. The lab goes on."""
        for node in self.nameToNode.values():
            node.terminate()

    def ping(self, hosts: Sequence[Attached] | None = None, timeout: str | float | None = None) -> float:
        """Ping between all of `hosts` (default: all VMs and bare machines); returns the percentage lost."""
        nodes = list(hosts or self.hosts)
        if not hosts:
            output("*** Ping: testing ping reachability\n")
        sent = lost = 0
        for node in nodes:
            output(f"{node.name} -> ")
            for target in nodes:
                if target is node or target.name not in node.names:
                    continue
                command = ("ping", "-c1", "-W", str(timeout or PING_LIMIT), node.names[target.name])
                answered = node.pexec(*command)[2] == 0
                sent += 1
                lost += not answered
                output(f"{target.name} " if answered else "X ")
            output("\n")
        if not sent:
            output("*** Warning: No packets sent\n")
            return 0.0
        output(f"*** Results: {100 * lost // sent}% dropped ({sent - lost}/{sent} received)\n")
        return 100.0 * lost / sent


class LabCli(CLI):
    """Mininet's CLI, which finds a node's address as seen from the node that runs the command."""

    def __init__(self, net: Lab, **kwargs: Any) -> None:
        self.prompt = f"{net.name}> " if sys.stdin.isatty() else ""
        super().__init__(net, **kwargs)

    @classmethod
    def initReadline(cls) -> None:
        """History and completion, where there is a terminal; a history that cannot be kept is no error."""
        if sys.stdin.isatty():
            with contextlib.suppress(OSError):
                super().initReadline()

    def completenames(self, text: str, *ignored: Any) -> list[str]:
        """Commands and nodes."""
        return [*super().completenames(text, *ignored), *(n for n in sorted(self.mn) if n.startswith(text))]

    def completedefault(self, *args: Any) -> list[str]:
        """Nodes, after the first word."""
        text = str(args[0])
        return [name for name in sorted(self.mn) if name.startswith(text)]

    def do_net(self, _line: str) -> None:
        """List network connections."""
        for node in self.mn.values():
            ends = []
            for intf in node.intfList():
                if intf.link is not None:
                    (peer,) = {intf.link.intf1, intf.link.intf2} - {intf}
                    ends.append(f"{intf}:{peer.node.name}-{peer}")
            output(" ".join([node.name, *ends]) + "\n")

    def do_links(self, _line: str) -> None:
        """Report on links."""
        for link in self.mn.links:
            output(f"{link} {link.status()}\n")

    def do_pingall(self, line: str) -> None:
        """Ping between all VMs and bare machines; seconds to wait for an answer: 1, or as given."""
        self.mn.pingAll(line.strip() or None)

    def do_switch(self, _line: str) -> None:
        """Not here: daemons are started and stopped with netctl."""
        error("switches are started and stopped with netctl: see `netctl apply --help`\n")

    def parseline(self, line: str) -> tuple[str | None, str | None, str]:
        """As in Cmd, but a name with dashes or dots, such as hv1.cvm, is one word."""
        first, _, rest = line.strip().partition(" ")
        if first in self.mn:
            return first, rest.strip(), line
        command, args, line = super().parseline(line)
        return command, args, line

    def default(self, line: str) -> None:
        """`NODE COMMAND ...`: run the command in the node, names of nodes replaced by their addresses."""
        first, _, rest = line.strip().partition(" ")
        if first not in self.mn:
            error(f"*** Unknown command: {line}\n")
            return
        if not rest.strip():
            error(f"*** Please enter a command for node: {first} <cmd>\n")
            return
        node = self.mn[first]
        words = [node.names.get(word, word) if word in self.mn else word for word in rest.split(" ")]
        node.sendCmd(" ".join(words))
        self.waitForNode(node)

    def waitForNode(self, node: Attached) -> None:
        """Show what the command writes. Keys go to it from a terminal; a script's next line is not for it."""
        if sys.stdin.isatty():
            super().waitForNode(node)
            return
        while node.waiting:
            output(node.monitor())


def console(intent: Intent) -> None:
    """Mininet's CLI on a running lab, until its user leaves it. What commands write goes to stdout."""
    for handler in lg.handlers:
        handler.setStream(sys.stdout)  # Mininet's own choice is stderr, for results too
        handler.handleError = _reraise  # a reader who went away ends the console, as with any command
    with Lab(intent=intent) as net:
        LabCli(net)


def _reraise(_: object) -> None:
    failure = sys.exc_info()[1]
    if failure is not None:
        raise failure


def _lab(name: str | None) -> str:
    there = store.labs()
    if name is not None:
        if name not in there:
            raise InputError(
                f"there is no lab {name}",
                f"Labs here: {', '.join(there)}" if there else "Bring one up with: netctl up FILE",
            )
        return name
    if len(there) == 1:
        return there[0]
    if there:
        raise InputError(f"which lab? There are {', '.join(there)}", f'Say which: Lab("{there[0]}")')
    raise InputError("there is no lab on this machine", "Bring one up with: netctl up FILE")


def _tools(selection: str | None) -> dict[str, str]:
    try:
        return engine.find(selection, warn=lambda _: None).env()
    except MachineError:
        return {}  # commands in a VM need no engine
