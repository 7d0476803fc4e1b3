"""Changes of databases and flows as plain values: what plan decides and drivers write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from netctl.model.flow import Flow
from netctl.model.state import NORTHBOUND, Ref, Value, show

Action = Literal["create", "update", "delete"]

_SIGNS = {"create": "+", "update": "~", "delete": "-"}


@dataclass(frozen=True, slots=True)
class Change:
    """One row to create, update or delete.

    `columns` maps each column that differs to its old and new value; None stands for the default. A row that
    is created has only new values, a row that is deleted only old ones.
    """

    database: str
    action: Action
    table: str
    name: str
    columns: Mapping[str, tuple[Value | None, Value | None]]
    why: str = ""

    @property
    def text(self) -> str:
        """The change in a line: `+ subnet web: Logical_Switch web`."""
        where = "" if self.database == NORTHBOUND else f" of {self.database}"
        row = self.table if self.name == "." else f"{self.table} {self.name}"
        line = f"{_SIGNS[self.action]} {self.why or self.database}: {row}{where}"
        if self.action == "update":
            line += ": " + "; ".join(
                f"{column} {_difference(old, new)}" for column, (old, new) in sorted(self.columns.items())
            )
        return line

    def __str__(self) -> str:
        return self.text

    def to_json(self) -> dict[str, Any]:
        """The change as JSON data."""
        return {
            "action": self.action,
            "for": self.why,
            "database": self.database,
            "table": self.table,
            "name": self.name,
            "columns": {
                column: {"old": _plain(old), "new": _plain(new)}
                for column, (old, new) in sorted(self.columns.items())
            },
        }


@dataclass(frozen=True, slots=True)
class FlowChange:
    """One flow to create (no `old`), update or delete (no `new`) on a bridge of a node."""

    node: str
    old: Flow | None
    new: Flow | None

    @property
    def flow(self) -> Flow:
        """The flow as it will be, or as it was where it goes."""
        flow = self.new or self.old
        assert flow is not None
        return flow

    @property
    def action(self) -> Action:
        """What is done with the flow."""
        return "create" if self.old is None else "delete" if self.new is None else "update"

    @property
    def why(self) -> str:
        """Which thing of the intent the flow is for; the node where that is no longer known."""
        return self.flow.why or self.node

    @property
    def text(self) -> str:
        """The change in a line: `+ vm web1: flow of br0.local of hv1: table=0,... actions=...`."""
        line = (
            f"{_SIGNS[self.action]} {self.why}: flow of {self.flow.bridge} of {self.node}: {self.flow.text}"
        )
        if self.old and self.new and self.old.actions != self.new.actions:
            line += f" (was {self.old.actions})"
        return line

    def __str__(self) -> str:
        return self.text

    def to_json(self) -> dict[str, Any]:
        """The change as JSON data."""
        flow = self.flow
        return {
            "action": self.action,
            "for": self.why,
            "node": self.node,
            "bridge": flow.bridge,
            "table": flow.table,
            "priority": flow.priority,
            "match": flow.match,
            "actions": {
                "old": self.old.actions if self.old else None,
                "new": self.new.actions if self.new else None,
            },
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Changes in order, those of one database or bridge together.

    Empty (and false) when there is nothing to do.
    """

    owner: str
    changes: tuple[Change, ...] = ()
    flows: tuple[FlowChange, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes or self.flows)

    def __len__(self) -> int:
        return len(self.changes) + len(self.flows)

    def __iter__(self) -> Iterator[Change | FlowChange]:
        yield from self.changes
        yield from self.flows

    def __str__(self) -> str:
        return "\n".join(change.text for change in self)

    def by_database(self) -> Iterator[tuple[str, tuple[Change, ...]]]:
        """The changes of each database that has any."""
        for database, changes in groupby(self.changes, key=lambda change: change.database):
            yield database, tuple(changes)

    def to_json(self) -> list[dict[str, Any]]:
        """The plan as JSON data."""
        return [change.to_json() for change in self]


def by_bridge(
    changes: Iterable[FlowChange],
) -> Iterator[tuple[tuple[str, str], tuple[FlowChange, ...]]]:
    """The changes of each bridge that has any, by node and bridge; those of one must stand together."""
    for place, of_one in groupby(changes, key=lambda change: (change.node, change.flow.bridge)):
        yield place, tuple(of_one)


def _difference(old: Value | None, new: Value | None) -> str:
    """What changes of a value: of a set or mapping only the members that come and go."""
    if isinstance(old, Mapping) or isinstance(new, Mapping):
        before = old if isinstance(old, Mapping) else {}
        after = new if isinstance(new, Mapping) else {}
        changed = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
        return ", ".join(f"{key} {_arrow(before.get(key), after.get(key))}" for key in changed)
    if isinstance(old, tuple | None) and isinstance(new, tuple | None):
        gone, come = set(old or ()) - set(new or ()), set(new or ()) - set(old or ())
        return ", ".join(
            f"{sign}{text}"
            for sign, members in (("-", gone), ("+", come))
            for text in sorted(show(member) for member in members)
        )
    return _arrow(old, new)


def _arrow(old: Value | None, new: Value | None) -> str:
    return f"{'unset' if old is None else show(old)} -> {'unset' if new is None else show(new)}"


def _plain(value: Value | None) -> Any:
    if isinstance(value, Mapping):
        return dict(sorted(value.items()))
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.name if isinstance(value, Ref) else value
