"""Our rows of a replica as plain values, and changes of them as one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import ovs.db.error
import ovs.db.idl
from ovs.db import types
from ovs.db.data import Datum

from netctl.drivers.replica import Replica, default_of, scalar, values
from netctl.drivers.tables import Table
from netctl.errors import MachineError
from netctl.model.change import Change
from netctl.model.state import NAME_KEY, OWNER_KEY, WHY_KEY, Database, Ref, Row, Scalar, Value

Key = tuple[str, str]


def read(replica: Replica) -> Database:
    """Our rows, with the columns and keys that are ours and not at their default."""
    rows = owned(replica)
    names = {row.uuid: Ref(*key) for key, row in rows.items()}
    read = {key: _read_row(replica, key, row, names) for key, row in sorted(rows.items())}
    # A shared row without anything of ours is none of our rows.
    return {key: row for key, row in read.items() if row.columns or not replica.kind.tables[key[0]].shared}


def owned(replica: Replica) -> dict[Key, Any]:
    """Our rows in the replica by table and name.

    Of two rows with the same name the one with the higher UUID is called `NAME (UUID)`, which nobody wants.
    """
    found: dict[Key, Any] = {}
    for name, table in replica.kind.tables.items():
        if not table.columns and not table.keys:
            continue
        for row in sorted(replica.rows(name), key=lambda row: row.uuid.int):
            key = (name, _name(row, table))
            if not table.marked or key[1] in table.adopted or _is_marked(row, replica.owner):
                found[key if key not in found else (name, f"{key[1]} ({row.uuid})")] = row
    return found


def _name(row: Any, table: Table) -> str:
    if table.key is None:
        return "."
    if table.key == "external_ids":
        return str(values(row, "external_ids").get(NAME_KEY, ""))
    return str(scalar(row, table.key, ""))


def _is_marked(row: Any, owner: str) -> bool:
    return bool(values(row, "external_ids").get(OWNER_KEY) == owner)


def _read_row(replica: Replica, key: Key, row: Any, names: Mapping[Any, Ref]) -> Row:
    table = replica.kind.tables[key[0]]
    types_ = row._table.columns
    columns: dict[str, Value] = {}
    for column in table.columns:
        if column in types_:
            value = _value(values(row, column), types_[column].type, names)
            if value is not None:
                columns[column] = value
    for column, ours in table.keys.items():
        if column in types_:
            have = values(row, column)
            mapping = {k: have[k] for k in sorted(ours) if k in have}
            if mapping:
                columns[column] = mapping
    why = cast(Mapping[str, str], columns.get("external_ids", {})).get(WHY_KEY, "")
    return Row(*key, columns, why)


def _value(raw: dict[Any, Any], type_: Any, names: Mapping[Any, Ref]) -> Value | None:
    """A column as a plain value; None when it is at its default."""
    if type_.is_map():
        return dict(sorted(raw.items())) or None
    if type_.key.type == types.UuidType:
        return tuple(sorted(names[uuid] for uuid in raw if uuid in names)) or None
    if type_.n_max > 1:
        return tuple(sorted(raw)) or None
    value: Value | None = next(iter(raw), None)
    if type_.n_min == 1 and value == type_.key.type.default:
        return None
    return value


def compose(replica: Replica, changes: Iterable[Change]) -> ovs.db.idl.Transaction:
    """One transaction that carries out all changes of a database.

    Sets of references and mappings are changed member by member, so what others have in them stays.
    """
    transaction = ovs.db.idl.Transaction(replica.idl)
    try:
        rows = owned(replica)
        changes = list(changes)
        for change in changes:
            key = (change.table, change.name)
            if change.action == "create" and not (key in rows and replica.kind.tables[change.table].shared):
                rows[key] = _insert(replica, transaction, change)
        for change in changes:
            row = rows[change.table, change.name]
            shared = replica.kind.tables[change.table].shared
            if change.action != "delete" or shared:
                for column, (old, new) in change.columns.items():
                    _write(replica, row, change, column, old, new, rows)
        for change in changes:
            if change.action == "delete" and not replica.kind.tables[change.table].shared:
                _delete(replica, rows[change.table, change.name])
    except BaseException:
        transaction.abort()
        raise
    return transaction


def _insert(replica: Replica, transaction: ovs.db.idl.Transaction, change: Change) -> Any:
    table: Table = replica.kind.tables[change.table]
    if change.table not in replica.idl.tables:
        raise _lacks(replica, change, change.table)
    row = transaction.insert(replica.idl.tables[change.table])
    if table.key is not None and table.key != "external_ids":
        setattr(row, table.key, change.name)
    return row


def _delete(replica: Replica, row: Any) -> None:
    """Delete a row, or let go of what it keeps alive.

    The server itself collects a row of a table that is no root once nobody refers to it. But it refuses the
    transaction where something goes that only such a row still refers to (a router's port to its gateway
    group).
    """
    table = row._table
    kept = [
        column
        for column in replica.kind.tables[table.name].columns
        if column in table.columns
        and table.columns[column].type.n_min == 0
        and table.columns[column].type.key.type == types.UuidType
        and table.columns[column].type.key.ref_type == "strong"
        and values(row, column)
    ]
    if table.is_root or not kept:
        row.delete()
        return
    for column in kept:
        _assign(row, column, table.columns[column].type, [])


def _write(
    replica: Replica,
    row: Any,
    change: Change,
    column: str,
    old: Value | None,
    new: Value | None,
    rows: Mapping[Key, Any],
) -> None:
    if column not in row._table.columns:
        raise _lacks(replica, change, f"{change.table}.{column}")
    type_ = row._table.columns[column].type
    fresh = row._data is None
    if isinstance(old, Mapping) or isinstance(new, Mapping):
        before = old if isinstance(old, Mapping) else {}
        after = new if isinstance(new, Mapping) else {}
        if fresh:
            _assign(row, column, type_, dict(after))
            return
        for key in before.keys() - after.keys():
            row.delkey(column, key)
        for key, value in after.items():
            if before.get(key) != value:
                row.setkey(column, key, value)
    elif type_.key.type == types.UuidType:
        before_refs, after_refs = _refs(old), _refs(new)
        if fresh:
            _assign(row, column, type_, [rows[ref.table, ref.name] for ref in after_refs])
            return
        for ref in before_refs - after_refs:
            row.delvalue(column, rows[ref.table, ref.name])
        for ref in after_refs - before_refs:
            row.addvalue(column, rows[ref.table, ref.name])
    elif type_.n_max > 1 and not type_.is_map() and not fresh:
        # Of a set of thousands of addresses only the one that differs is sent.
        before_members, after_members = _members(old), _members(new)
        for member in before_members - after_members:
            row.delvalue(column, member)
        for member in after_members - before_members:
            row.addvalue(column, member)
    elif new is None:
        _assign(row, column, type_, default_of(type_))
    else:
        _assign(row, column, type_, list(new) if isinstance(new, tuple) else new)


def _members(value: Value | None) -> set[Scalar]:
    if value is None:
        return set()
    members = value if isinstance(value, tuple) else (value,)
    return {member for member in members if isinstance(member, str | int | float | bool)}


def _refs(value: Value | None) -> set[Ref]:
    if value is None:
        return set()
    return {ref for ref in (value if isinstance(value, tuple) else (value,)) if isinstance(ref, Ref)}


def _assign(row: Any, column: str, type_: Any, value: Any) -> None:
    # The IDL only logs a value that does not fit, and goes on without it.
    Datum.from_python(type_, value, lambda item: item.uuid if hasattr(item, "uuid") else item)
    setattr(row, column, value)


def _lacks(replica: Replica, change: Change, what: str) -> MachineError:
    return MachineError(
        f"{change.why}: {replica.label} has no {what}: its OVN or Open vSwitch is too old",
        "`netctl engine` shows which one is used; `netctl engine install` gets the bundled one.",
    )
