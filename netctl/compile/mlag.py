"""MLAG: two ToRs that answer LACP as one switch (IEEE 802.1AX distributed relay, in the way switches do it).

Each port to a bond's uplink is a *leg*. Both switches run LACP on theirs under one system ID and one key, so
the host sees one partner and uses both.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

from netctl.compile.bridges import add_port
from netctl.compile.partners import Aggregate
from netctl.compile.rows import Rows
from netctl.model.intent import Intent
from netctl.model.state import Ref

SYSTEM_PREFIX = "0a:61:6d"
"""First octets of the LACP system ID of a pair, then a hash of its switches' names."""


def peer(intent: Intent, switch: str) -> str | None:
    """The switch that a switch is in an MLAG pair with; None without one."""
    for one, other in intent.file.fabric.mlag:
        if switch in (one, other):
            return other if switch == one else one
    return None


def add_legs(rows: Rows, intent: Intent, switch: str, aggregate: Aggregate) -> Iterator[Ref]:
    """The ports of a switch to one bond. Each has a port number that no other port of the pair has."""
    pair = sorted((switch, peer(intent, switch) or ""))
    system = f"{SYSTEM_PREFIX}:{sha256(' '.join(pair).encode()).digest()[:3].hex(':')}"
    for index, (at, device) in enumerate(aggregate.ports):
        if at == switch:
            yield add_port(
                rows,
                device,
                f"host {aggregate.host}",
                lacp="active",
                limited=aggregate.limited,
                port_config={"lacp-time": "fast", "lacp-system-id": system},
                device_config={
                    "lacp-aggregation-key": str(aggregate.number),
                    "lacp-port-id": str(aggregate.number * PORTS_OF_A_BOND + index + 1),
                },
            )


PORTS_OF_A_BOND = 16
"""LACP port numbers that each bond has on a pair."""
