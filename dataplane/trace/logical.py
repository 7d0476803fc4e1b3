"""What OVN means by a flow: its logical network and stage, and the row that a person's YAML asked for.

A flow's cookie is the beginning of the UUID of its Logical_Flow, whose `stage-hint` is that of the northbound
row behind it (ovn-sb(5)); our mark there says which thing of the intent that row is for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dataplane import tools
from dataplane.daemons import NORTHBOUND, SOUTHBOUND, Runner
from dataplane.inventory import CENTRAL
from dataplane.trace.packet import Packet
from netctl.errors import ChangeError
from netctl.model.state import WHY_KEY

LIMIT = 10.0
"""Seconds that a question to the databases may take."""

_OUTPUT = re.compile(r'output(?:\("|\s+to ")([^"]+)"')
_TABLES = (
    "ACL",
    "Logical_Router_Policy",
    "Logical_Router_Static_Route",
    "Load_Balancer",
    "NAT",
    "Logical_Router_Port",
    "Logical_Switch_Port",
)


@dataclass(frozen=True, slots=True)
class Meaning:
    """A logical flow: its stage, such as ls_in_acl_eval, its match, and what of the intent it is for."""

    stage: str
    match: str
    why: str


@dataclass(frozen=True, slots=True)
class Logic:
    """OVN's databases as far as a trace needs them; all empty when they do not answer, with the reason."""

    meanings: Mapping[int, Meaning] = field(default_factory=dict)
    networks: Mapping[int, str] = field(default_factory=dict)
    trouble: str = ""


def read(runner: Runner) -> Logic:
    """Read what flows mean. Never fails: what cannot be asked is told in `trouble`."""
    try:
        names = {}
        for table in _TABLES:
            for row in _rows(runner, NORTHBOUND, "OVN_Northbound", table, "_uuid", "external_ids"):
                why = _mapping(row["external_ids"]).get(WHY_KEY, "")
                if why:
                    names[row["_uuid"][1][:8]] = why
        meanings = {}
        for row in _rows(
            runner, SOUTHBOUND, "OVN_Southbound", "Logical_Flow", "_uuid", "match", "external_ids"
        ):
            told = _mapping(row["external_ids"])
            hint = told.get("stage-hint", "")
            meanings[int(row["_uuid"][1][:8], 16)] = Meaning(
                told.get("stage-name", ""), str(row["match"]), names.get(hint[:8], "")
            )
        networks = {}
        for row in _rows(
            runner, SOUTHBOUND, "OVN_Southbound", "Datapath_Binding", "tunnel_key", "external_ids"
        ):
            networks[int(row["tunnel_key"])] = _mapping(row["external_ids"]).get("name", "")
        return Logic(meanings, networks)
    except ChangeError as error:
        return Logic(trouble=f"OVN's databases do not answer: {error.message}")


def outputs(runner: Runner, network: str, port: str, packet: Packet) -> list[str] | None:
    """The logical ports to which OVN would send the packet (ovn-trace(8)); None when it cannot be asked."""
    remote = runner.remote(CENTRAL, SOUTHBOUND)
    try:
        said = tools.run(
            runner,
            CENTRAL,
            "ovn-trace",
            f"--db={remote}",
            "--minimal",
            network,
            packet.expression(port),
            limit=LIMIT,
        )
    except ChangeError:
        return None
    return list(dict.fromkeys(_OUTPUT.findall(said)))


def _rows(runner: Runner, server: str, schema: str, table: str, *columns: str) -> Iterator[dict[str, Any]]:
    request = json.dumps([schema, {"op": "select", "table": table, "where": [], "columns": list(columns)}])
    remote = runner.remote(CENTRAL, server)
    said = tools.run(runner, CENTRAL, "ovsdb-client", "transact", remote, request, limit=LIMIT)
    yield from json.loads(said)[0].get("rows", ())


def _mapping(value: Any) -> dict[str, str]:
    return dict(value[1]) if isinstance(value, list) and value and value[0] == "map" else {}
