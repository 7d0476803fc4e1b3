"""The state to pass through where logical switches or routers go while others come.

ovn-northd 26.03 aborts when it finds both at once: it gives the new one the place of the old before it has
taken the old one out (an assertion in ods_assign_array_index, northd/northd.c; later ones recompute instead).
So the old ones first lose all that they have, in the transaction that does everything else, and go when
northd has seen that.
"""

from __future__ import annotations

from dataclasses import replace

from netctl.model.state import Database, Ref, Row, State, Value

DATAPATHS = ("Logical_Switch", "Logical_Router")


def halfway(desired: State, observed: State) -> State | None:
    """The state to write first, or None where `desired` can be written at once."""
    kept: dict[tuple[str, str], Row] = {}
    for table in DATAPATHS:
        old, new = _names(observed.northbound, table), _names(desired.northbound, table)
        if new - old:
            kept.update(((table, name), _bare(observed.northbound[table, name])) for name in old - new)
    if not kept:
        return None
    return replace(desired, northbound=dict(sorted({**desired.northbound, **kept}.items())))


def _names(database: Database, table: str) -> set[str]:
    return {name for of, name in database if of == table}


def _bare(row: Row) -> Row:
    """The row without its members."""
    columns = {column: value for column, value in row.columns.items() if not _has_members(value)}
    return replace(row, columns=columns)


def _has_members(value: Value) -> bool:
    return isinstance(value, tuple) and any(isinstance(member, Ref) for member in value)
