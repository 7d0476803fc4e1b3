"""Network functions as instances on hosts, and the ports that they have there: one place for all who ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from netctl.model import devices
from netctl.model.basic import is_basic
from netctl.model.chain import NetworkFunction
from netctl.model.intent import Intent, Port

AROUND = 13
"""The table of br.nf that says which functions are dead: there a flow of `dead` for each of them."""

PROBE_MAC = "0a:6e:66:00:00:01"
"""The sender of the frames by which it is seen whether a function lives."""

PROBE_ID = 24947
"""The `id` of the actions that are for who sends them (dataplane.health)."""

End = Literal["in", "out"]
"""A NIC of a function. What whoever began a connection sends comes in at `in`, the answers at `out`."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A network function on one host."""

    function: str
    host: str
    definition: NetworkFunction

    @property
    def name(self) -> str:
        """Its node: fw.hv1. No name of the intent has a dot."""
        return f"{self.function}.{self.host}"

    @property
    def ends(self) -> tuple[End, ...]:
        """Its NICs: a tap has only one."""
        return ("in", "out") if self.definition.mode == "inline" else ("in",)

    def port(self, end: End) -> str:
        """The device of the host that one of its NICs hangs on, in br.nf."""
        return devices.function_port(self.function, end)


def instances(intent: Intent) -> Iterator[Instance]:
    """All instances, by function and host."""
    for name, function in sorted(intent.file.network_functions.items()):
        for host in intent.hosts:
            if function.hosts == "all" or host in function.hosts:
                yield Instance(name, host, function)


def number(kind: str, name: str) -> str:
    """What stands for a chain or a function in a register; never 0."""
    return f"{int.from_bytes(sha256(f'{kind} {name}'.encode()).digest()[:4], 'big') or 1:#x}"


def dead(function: str) -> str:
    """Where the flow of a dead function stands, and what it matches."""
    return f"table={AROUND},reg8={number('function', function)}"


def own_chain(intent: Intent, port: Port) -> str | None:
    """The chain that a NIC has by itself, or by its subnet."""
    nic = intent.file.vms[port.vm].nics[port.index]
    return nic.chain or intent.file.subnets[port.subnet].chain


def detours(intent: Intent, port: Port) -> bool:
    """Whether the tap of a NIC that OVN knows is in br.nf, and a patch from there its port in brAtlas.

    All of them are in a lab with chains, so that none has to move when it gets one.
    """
    return bool(intent.file.service_chains) and not is_basic(intent, port) and port.mode != "trunk"
