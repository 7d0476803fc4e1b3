"""Network functions in `netctl status`: on which hosts, in which chains, whether they live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from netctl.cli import output

if TYPE_CHECKING:
    from netctl.cli.operations import Running


def gather(running: Running, faults: Sequence[str]) -> list[dict[str, Any]]:
    """The network functions on each host. `alive` is None where nobody knows, as of taps."""
    from dataplane import functions
    from netctl.model.functions import instances

    intent = running.intent
    known = {host: functions.health(running.rack.runner, host) for host in intent.hosts}
    found = []
    for one in instances(intent):
        health = known[one.host].get(one.function)
        broken = {f"function {one.function}", f"function {one.function} {one.host}"} & {*faults}
        came, went = functions.counters(running.rack.inventory.namespace(one.name))
        found.append(
            {
                "name": one.function,
                "host": one.host,
                "mode": one.definition.mode,
                "program": one.definition.program,
                "chains": [
                    name
                    for name, chain in sorted(intent.file.service_chains.items())
                    if one.function in chain.functions
                ],
                "alive": False if broken else health.alive if health else None,
                "packets_in": came,
                "packets_out": went,
            }
        )
    return found


def show(found: Sequence[dict[str, Any]]) -> None:
    """The network functions as a table."""
    if not found:
        return
    output.heading("network functions")
    output.table(
        ("function", "host", "mode", "program", "chains", "state", "packets in", "out"),
        [
            (
                one["name"],
                one["host"],
                one["mode"],
                one["program"],
                ", ".join(one["chains"]) or None,
                {True: "alive", False: "dead", None: None}[one["alive"]],
                one["packets_in"],
                one["packets_out"],
            )
            for one in found
        ],
    )
