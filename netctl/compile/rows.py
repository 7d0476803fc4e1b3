"""The rows of one database as they come together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from operator import attrgetter

from netctl.model.state import NAME_KEY, OWNER_KEY, WHY_KEY, Database, Ref, Row, Value


class Rows:
    """Rows by table and name; adding one twice is a mistake."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._rows: dict[tuple[str, str], Row] = {}
        self._marks: dict[str, Mapping[str, str]] = {}

    def add(
        self,
        table: str,
        name: str,
        why: str,
        /,
        *,
        external_ids: Mapping[str, str] | None = None,
        **columns: Value | None,
    ) -> Ref:
        """Add a row with our mark; columns that are None or empty are at their default and left out."""
        marks = self._marks.get(why)
        if marks is None:
            marks = self._marks[why] = {OWNER_KEY: self._owner, WHY_KEY: why}
        return self._put(table, name, why, columns, {**external_ids, **marks} if external_ids else marks)

    def add_unnamed(self, table: str, name: str, why: str, /, **columns: Value | None) -> Ref:
        """Add a row with our mark to a table without names: external_ids keep it (NAT rows, routes, ...)."""
        return self.add(table, name, why, external_ids={NAME_KEY: name}, **columns)

    def add_shared(
        self,
        table: str,
        name: str,
        why: str,
        *,
        external_ids: Mapping[str, str] | None = None,
        **columns: Value | None,
    ) -> Ref:
        """Add our part of a row that is not ours alone, so without our mark.

        Of a row that is there already, it adds keys to mappings.
        """
        before = self._rows.get((table, name))
        if before is None:
            return self._put(table, name, why, columns, external_ids)
        values = dict(before.columns)
        for column, value in columns.items():
            have = values.get(column, {})
            if not isinstance(value, Mapping) or not isinstance(have, Mapping) or have.keys() & value.keys():
                raise ValueError(f"{table} {name}: {column} compiled for {before.why} and for {why}")
            values[column] = {**have, **value}
        self._rows[table, name] = Row(table, name, values, f"{before.why}, {why}")
        return Ref(table, name)

    def attach(self, row: Ref, **members: Iterable[Ref]) -> None:
        """Add members to sets of references of a row that is there."""
        key = (row.table, row.name)
        columns = dict(self._rows[key].columns)
        for column, more in members.items():
            have = columns.get(column, ())
            assert isinstance(have, tuple)
            columns[column] = refs([*have, *more])  # type: ignore[list-item]
        self._rows[key] = replace(self._rows[key], columns=columns)

    def database(self) -> Database:
        """All rows, sorted."""
        return dict(sorted(self._rows.items()))

    def _put(
        self,
        table: str,
        name: str,
        why: str,
        columns: Mapping[str, Value | None],
        external_ids: Mapping[str, str] | None,
    ) -> Ref:
        key = (table, name)
        if key in self._rows:
            raise ValueError(f"{table} {name}: compiled for {self._rows[key].why} and for {why}")
        values: dict[str, Value] = {
            column: value
            for column, value in columns.items()
            if value is not None and value != () and value != {}
        }
        if external_ids:
            values["external_ids"] = external_ids
        self._rows[key] = Row(table, name, values, why)
        return Ref(table, name)


def refs(members: Iterable[Ref]) -> tuple[Ref, ...]:
    """A set of references, in order."""
    return tuple(sorted(members, key=attrgetter("table", "name")))
