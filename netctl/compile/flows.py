"""The flows of one node as they come together, in the words that OVS prints them in.

    LOCAL = Pipeline({"admission": "which NIC, which VLAN", "security": "whose addresses", ...})
    flows.add("br0.local", LOCAL["admission"], 100, ("in_port=tap3", UNTAGGED), (..., LOCAL.goto("security")),
              "vm web1")

Fields may stand in any order. Each field and action is written as `ovs-ofctl --names dump-flows` prints it
(`reg0=0x5`, `set_field:0x5->reg0`, `vlan_tci=0x0000/0x1fff`); one that is not shows as a difference that
never goes away, so no `apply` with it succeeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from netctl.model.flow import Flow, FlowKey, by_key, cookie, match_text, switching

UNTAGGED = "vlan_tci=0x0000/0x1fff"
"""Frames without an 802.1Q tag."""

TAGGED = "vlan_tci=0x1000/0x1000"
"""Frames with an 802.1Q tag; actions that look into one or take it away need this in the match."""

GROUP_ADDRESS = "01:00:00:00:00:00/01:00:00:00:00:00"
"""Broadcast and multicast MAC addresses."""

LINK_LOCAL = "01:80:c2:00:00:00/ff:ff:ff:ff:ff:f0"
"""MAC addresses that no bridge forwards: spanning trees, LACP, LLDP (IEEE 802.1D-2004, 7.12.6)."""


class FlowSet:
    """Flows of one node; adding two with the same bridge, table, priority and match is a mistake."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._flows: list[Flow] = []

    def add(
        self, bridge: str, table: int, priority: int, match: Iterable[str], actions: Iterable[str], why: str
    ) -> None:
        """Add a flow. No fields match everything; no actions drop."""
        self._flows.append(
            Flow(
                bridge,
                table,
                priority,
                match_text(match),
                ",".join(actions) or "drop",
                cookie(self._owner, why),
                why,
            )
        )

    def switch(self, bridge: str, why: str) -> None:
        """Have a bridge forward as a learning switch: the flow that Open vSwitch gives a new bridge.

        It has no cookie of ours, so a bridge that was just made is as it should be.
        """
        self._flows.append(replace(switching(bridge), why=why))

    def flows(self) -> dict[FlowKey, Flow]:
        """All flows by their key, sorted."""
        return by_key(self._flows)


class Pipeline:
    """The tables of a bridge in the order that frames take, each with what it does."""

    def __init__(self, tables: Mapping[str, str]) -> None:
        self.tables = tables
        self._numbers = {name: number for number, name in enumerate(tables)}

    def __getitem__(self, name: str) -> int:
        """The number of a table."""
        return self._numbers[name]

    def goto(self, name: str) -> str:
        """The action that goes on in a later table."""
        return f"goto_table:{self[name]}"

    def look_up(self, name: str) -> str:
        """The action that comes back from a table, with the registers that it set."""
        return f"resubmit(,{self[name]})"
