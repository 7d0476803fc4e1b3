"""The flows of one node as they come together, in the words that OVS prints them in.

    TABLES = ("admission", "security", ...)         a pipeline is its tables' names, in order
    flows.add("br0.local", 0, 100, ("in_port=tap3", UNTAGGED), ("push_vlan:0x8100", ...), "vm web1")

Fields may stand in any order. Each field and action is written as `ovs-ofctl --names dump-flows` prints it
(`reg0=0x5`, `set_field:0x5->reg0`, `vlan_tci=0x0000/0x1fff`); one that is not shows as a difference that
never goes away, so no `apply` with it succeeds.
"""

from __future__ import annotations

from collections.abc import Iterable

from netctl.model.flow import Flow, FlowKey, by_key, cookie

UNTAGGED = "vlan_tci=0x0000/0x1fff"
"""Frames without an 802.1Q tag."""

GROUP_ADDRESS = "01:00:00:00:00:00/01:00:00:00:00:00"
"""Broadcast and multicast MAC addresses."""


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
                ",".join(sorted(match)),
                ",".join(actions) or "drop",
                cookie(self._owner, why),
                why,
            )
        )

    def flows(self) -> dict[FlowKey, Flow]:
        """All flows by their key, sorted."""
        return by_key(self._flows)
