"""The rows of one database as they come together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from netctl.model.state import Database, Ref, Row, Value

OWNER_KEY = "netctl"
"""The key in external_ids that says whose a row is: the lab's name."""

WHY_KEY = "netctl-for"
"""The key in external_ids that says which thing of the intent a row is for."""


class Rows:
    """Rows by table and name; adding one twice is a mistake."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._rows: dict[tuple[str, str], Row] = {}

    def add(
        self,
        table: str,
        name: str,
        why: str,
        *,
        external_ids: Mapping[str, str] | None = None,
        **columns: Value | None,
    ) -> Ref:
        """Add a row with our mark; columns that are None, "", False, 0 or empty are left out as defaults."""
        marks = {**(external_ids or {}), OWNER_KEY: self._owner, WHY_KEY: why}
        return self._put(Row(table, name, {"external_ids": marks, **_set(columns)}, why))

    def add_shared(self, table: str, name: str, why: str, **columns: Value | None) -> Ref:
        """Add our part of a row that is not ours alone, so without our mark."""
        return self._put(Row(table, name, _set(columns), why))

    def database(self) -> Database:
        """All rows, sorted."""
        return dict(sorted(self._rows.items()))

    def _put(self, row: Row) -> Ref:
        key = (row.table, row.name)
        if key in self._rows:
            raise ValueError(f"{row.table} {row.name}: compiled for {self._rows[key].why} and for {row.why}")
        self._rows[key] = row
        return Ref(row.table, row.name)


def refs(members: Iterable[Ref]) -> tuple[Ref, ...]:
    """A set of references, in order."""
    return tuple(sorted(members))


def _set(columns: Mapping[str, Value | None]) -> dict[str, Value]:
    return {
        column: value
        for column, value in columns.items()
        if value is not None and value != () and value != {}
    }
