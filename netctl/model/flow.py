"""OpenFlow flows as plain values: what compile wants on bridges, what the driver reads back.

Texts are OVS's own, exactly as `ovs-ofctl --names dump-flows` prints them (ovs-fields(7), ovs-actions(7)):
so desired and observed are compared as they are. Ports go by name, without quotes: a port that was made anew,
under another number, shows as a difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

FlowKey = tuple[str, int, int, str]
"""What tells flows of one node apart: bridge, table, priority and match."""

ANY = 0
"""The half of a cookie that stands for no thing of the intent: flows that ours have learned carry it."""

NOBODYS = 0
"""The cookie of the flow that makes a new bridge a learning switch (ovs-vswitchd.conf.db(5), fail_mode)."""


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow that we want. `match` is as `match_text` gives it; "" matches everything."""

    bridge: str
    table: int
    priority: int
    match: str
    actions: str
    cookie: int
    why: str = field(default="", compare=False)

    @property
    def key(self) -> FlowKey:
        """What tells it from the other flows of its node."""
        return (self.bridge, self.table, self.priority, self.match)

    @property
    def text(self) -> str:
        """The flow in a line, without its bridge."""
        match = f",{self.match}" if self.match else ""
        return f"table={self.table},priority={self.priority}{match} actions={self.actions}"


Flows = Mapping[FlowKey, Flow]
"""Flows of one node by their key."""


def match_text(fields: Iterable[str]) -> str:
    """The fields of a match in their order: protocols, which others need, before all that have a value."""
    return ",".join(sorted(fields, key=lambda one: ("=" in one, one)))


def switching(bridge: str) -> Flow:
    """The flow that Open vSwitch gives a new bridge, by which it forwards as a learning switch."""
    return Flow(bridge, 0, 0, "", "NORMAL", NOBODYS)


def by_key(flows: Iterable[Flow]) -> dict[FlowKey, Flow]:
    """Flows by their key, sorted. ValueError where two have the same one."""
    found: dict[FlowKey, Flow] = {}
    for flow in sorted(flows, key=lambda flow: flow.key):
        if flow.key in found:
            raise ValueError(f"{flow.text}: compiled for {found[flow.key].why} and for {flow.why}")
        found[flow.key] = flow
    return found


def owner_cookie(owner: str) -> int:
    """The upper 32 bits of the cookies of an owner's flows (the lower are 0)."""
    return _digest(f"owner {owner}") << 32


def cookie(owner: str, why: str) -> int:
    """The cookie of an owner's flow: whose it is, and which thing of the intent it is for."""
    return owner_cookie(owner) | _digest(f"for {why}")


def learned_cookie(owner: str) -> int:
    """The cookie of flows that switches learn by flows of ours: neither desired nor compared."""
    return owner_cookie(owner) | ANY


def _digest(text: str) -> int:
    """32 bits, never 0."""
    return int.from_bytes(sha256(text.encode()).digest()[:4], "big") or 1
