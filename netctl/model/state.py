"""State of databases as plain values: what compile wants, what drivers read, what plan compares.

A row is named by a stable key of ours (never by UUID), refers to others by `Ref`, and says in `why`
which thing of the intent it is for. Columns hold a scalar, a tuple (a set, sorted) or a mapping.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Scalar = str | int | float | bool


@dataclass(frozen=True, order=True, slots=True)
class Ref:
    """A reference to another row of the same database."""

    table: str
    name: str


Value = Scalar | Ref | tuple[Scalar | Ref, ...] | Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Row:
    """A row that we own, or the part of a shared row that we own."""

    table: str
    name: str
    columns: Mapping[str, Value]
    why: str = ""


Database = Mapping[tuple[str, str], Row]
"""Rows by (table, name)."""


@dataclass(frozen=True)
class State:
    """The northbound database and the Open_vSwitch database of each node (host or switch) of a lab."""

    northbound: Database = field(default_factory=dict)
    nodes: Mapping[str, Database] = field(default_factory=dict)


@dataclass(frozen=True)
class Endpoints:
    """Where the databases answer: OVSDB remotes such as unix:/run/.../db.sock or ssl:host:6641."""

    northbound: str
    southbound: str
    nodes: Mapping[str, str]
