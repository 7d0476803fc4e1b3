"""A state without some interfaces: what must be written first when a device under a switch was made anew.

ovs-vswitchd keeps using the device that it opened. One of the same name that took its place carries no
packet until the port has been gone once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from netctl.model.state import Database, Ref, State, Value


def without(state: State, interfaces: Mapping[str, Iterable[str]]) -> State:
    """The state without these interfaces (by node) and without the ports that have no other."""
    nodes = {
        node: _without(database, {Ref("Interface", name) for name in interfaces[node]})
        if node in interfaces
        else database
        for node, database in state.nodes.items()
    }
    return replace(state, nodes=nodes)


def _without(database: Database, gone: set[Ref]) -> Database:
    for (table, name), row in database.items():
        members = row.columns.get("interfaces", ())
        if table == "Port" and isinstance(members, tuple) and members and set(members) <= gone:
            gone = gone | {Ref(table, name)}
    return {
        key: replace(row, columns=_purged(row.columns, gone))
        for key, row in database.items()
        if Ref(*key) not in gone
    }


def _purged(columns: Mapping[str, Value], gone: set[Ref]) -> dict[str, Value]:
    left = {
        column: tuple(member for member in value if member not in gone) if isinstance(value, tuple) else value
        for column, value in columns.items()
    }
    return {column: value for column, value in left.items() if value != ()}
