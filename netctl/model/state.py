"""State of databases as plain values: what compile wants, what drivers read, what plan compares.

A row is named by a stable key of ours (never by UUID), refers to others by `Ref`, and says in `why`
which thing of the intent it is for. Columns hold a scalar, a tuple (a set, sorted) or a mapping; a column
that has its default value (an empty set or mapping, "", 0, False) is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from netctl.model.flow import NOBODYS, Flows

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

OWNER_KEY = "netctl"
"""The key in external_ids that says whose a row is: the lab's name."""

WHY_KEY = "netctl-for"
"""The key in external_ids that says which thing of the intent a row is for."""

NAME_KEY = "netctl-name"
"""The key in external_ids with the name of a row whose table has no column for one (NAT rows, routes)."""

NORTHBOUND = "northbound"
"""How changes and texts call the northbound database; a node's database is called after the node."""


@dataclass(frozen=True)
class State:
    """The northbound database and the Open_vSwitch database and flows of each node (host or switch) of a lab.

    `owner` is the lab: the mark that its rows and flows carry. `unread` names the databases that could not be
    asked (as nobody answers): nothing is known of them. A bridge on which nobody answers has no flows.
    """

    owner: str
    northbound: Database = field(default_factory=dict)
    nodes: Mapping[str, Database] = field(default_factory=dict)
    unread: frozenset[str] = field(default=frozenset(), compare=False)
    flows: Mapping[str, Flows] = field(default_factory=dict)

    def databases(self) -> Iterator[tuple[str, Database]]:
        """Every database with its name, the northbound one first."""
        yield NORTHBOUND, self.northbound
        yield from sorted(self.nodes.items())

    def text(self) -> str:
        """All rows and flows in a form to read and to compare; sorted, so the same state gives the same text.

        Less the flows that come with their bridge.
        """
        lines = []
        for name, database in self.databases():
            lines.append(f"== {name}")
            for _, row in sorted(database.items()):
                lines.append(f"{row.table} {row.name}  # {row.why}")
                lines += [f"    {column}: {show(value)}" for column, value in sorted(row.columns.items())]
            for _, flow in sorted(self.flows.get(name, {}).items()):
                if flow.cookie != NOBODYS:
                    lines.append(f"{flow.bridge} {flow.text}  # {flow.why}")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class OpenFlow:
    """How bridges are reached by OpenFlow.

    `program` is ovs-ofctl's path and `environment` what to add to its environment; `bridges` has for each
    node the target of its bridges, with `{bridge}` in it: unix:/run/.../{bridge}.mgmt.
    """

    program: str
    environment: Mapping[str, str]
    bridges: Mapping[str, str]


@dataclass(frozen=True)
class Endpoints:
    """Where the databases answer: OVSDB remotes such as unix:/run/.../db.sock or ssl:host:6641.

    Without `openflow` no flow is read, and writing one is an error.
    """

    northbound: str
    southbound: str
    nodes: Mapping[str, str]
    openflow: OpenFlow | None = None


def show(value: Value) -> str:
    """A value for people: a reference is its name, a mapping `key=value`."""
    if isinstance(value, Mapping):
        return " ".join(f"{key}={text}" for key, text in sorted(value.items())) or "nothing"
    if isinstance(value, tuple):
        return ", ".join(show(item) for item in value) or "nothing"
    if isinstance(value, Ref):
        return value.name
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
