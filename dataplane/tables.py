"""The MAC tables of switches: what a physical switch forgets when a port loses its carrier."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from dataplane import daemons, tools
from dataplane.daemons import Runner
from netctl.model.flow import learned_cookie

_PORT = re.compile(r"^\s+(\S+) (\d+)/", re.MULTILINE)
_ENTRY = re.compile(r"^ *(\d+) +(\d+) +([0-9a-f:]{17}) ", re.MULTILINE)


def forget(runner: Runner, node: str, bridge: str, ports: Collection[str]) -> None:
    """Remove the MACs that a bridge has learned on these ports, as switches do when the carrier goes.

    Open vSwitch keeps them until they age out (300 s). Packets that its cached flows have forwarded count as
    learning too, up to 500 ms late, and would bring back what is removed: so the cache goes first, which
    settles its accounts (`revalidator/purge`, ovs-vswitchd(8)).
    """
    known, learned = runner.ask_all(
        node,
        daemons.VSWITCHD,
        [("dpif/show",), ("revalidator/purge",), ("fdb/show", bridge)],
    )[::2]
    names = {number: name for name, number in _PORT.findall(known) if name in ports}
    gone = [(names[port], vlan, mac) for port, vlan, mac in _ENTRY.findall(learned) if port in names]
    # Only static entries can be deleted one by one; making one takes the place of the learned one.
    runner.ask_all(
        node,
        daemons.VSWITCHD,
        [
            command
            for port, vlan, mac in gone
            for command in (("fdb/add", bridge, port, vlan, mac), ("fdb/del", bridge, vlan, mac))
        ],
    )


def forget_learned(runner: Runner, node: str, bridges: Iterable[str]) -> None:
    """Remove what the flows of these bridges have learned; as with MAC tables, the cache goes first."""
    runner.ask(node, daemons.VSWITCHD, "revalidator/purge")
    for bridge in bridges:
        target = f"unix:{runner.directory(node) / bridge}.mgmt"
        learned = f"cookie={learned_cookie(runner.lab):#x}/-1"
        tools.run(runner, node, "ovs-ofctl", "-OOpenFlow15", "del-flows", target, learned)
