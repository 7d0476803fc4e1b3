"""Rows that are ours but lost our mark (`ovs-vsctl clear Interface tap1 external_ids`) get it back.

A row that a plan would create may be there already, without anybody's mark. It is ours when one of our rows
refers to it or it refers to one of ours; whatever else has a name that we want is somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import ovs.db.idl
from ovs.db import types

from netctl.drivers import rows
from netctl.drivers.replica import Replica, scalar, values
from netctl.model.change import Change
from netctl.model.state import OWNER_KEY


def suspects(replica: Replica, changes: Iterable[Change]) -> dict[str, list[str]]:
    """Names by table that a plan would create in a database where something of ours is already."""
    tables = replica.kind.tables
    if all(tables[table].shared for table, _ in rows.owned(replica)):
        return {}
    created: dict[str, list[str]] = {}
    for change in changes:
        if change.action == "create" and tables[change.table].key == "name":
            created.setdefault(change.table, []).append(change.name)
    return created


def lost(replica: Replica, names: dict[str, list[str]]) -> list[Any]:
    """The rows with these names that are ours but have lost their mark."""
    kept = rows.owned(replica).values()
    ours = {row.uuid for row in kept}
    referred = {uuid for row in kept for uuid in _references(row)}
    candidates = []
    for table, wanted in names.items():
        for row in replica.rows(table):
            if OWNER_KEY not in values(row, "external_ids") and scalar(row, "name") in set(wanted):
                candidates.append(row)
    found: list[Any] = []
    while True:
        more = [
            row
            for row in candidates
            if row not in found and (row.uuid in referred or not ours.isdisjoint(_references(row)))
        ]
        if not more:
            return found
        for row in more:
            found.append(row)
            ours.add(row.uuid)
            referred |= _references(row)


def mark(replica: Replica, found: Iterable[Any]) -> ovs.db.idl.Transaction:
    """A transaction that gives rows our mark back."""
    transaction = ovs.db.idl.Transaction(replica.idl)
    for row in found:
        row.setkey("external_ids", OWNER_KEY, replica.owner)
    return transaction


def _references(row: Any) -> set[UUID]:
    return {
        uuid
        for name, column in row._table.columns.items()
        if column.type.key.type == types.UuidType
        for uuid in values(row, name)
    }
