"""The lab that checks run against: whether it is the file's, and whether the checks can be asked of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from netctl.cli import output
from netctl.errors import InputError, Problem

if TYPE_CHECKING:
    from netctl.cli.operations import Running
    from netctl.model import Intent
    from netctl.model.check import Check, Probe

Place = tuple[str | int, ...]


def with_checks(running: Running, intent: Intent, file: Path) -> Intent:
    """The running lab's intent with the checks of the file.

    Says so on stderr when the lab is not what the file asks for. Raises InputError, with the places in the
    file, when a check names what the lab does not have.
    """
    there = running.intent
    if _network(there) != _network(intent):
        if running.record.file == str(file.resolve()):
            why = f"is not as {file} says now: netctl apply {file} moves it"
        else:
            why = f"is of {running.record.file}, not of {file}"
        output.note(f"the lab {running.name} {why}. The checks run against it as it is", "yellow")
        problems = list(_strangers(there, intent, file, running.name))
        if problems:
            raise InputError.of(problems)
    return dataclasses.replace(there, file=there.file.model_copy(update={"checks": intent.file.checks}))


def _network(intent: Intent) -> object:
    """All that the lab is made of."""
    return intent.file.model_copy(update={"name": "", "title": "", "checks": []})


def _strangers(there: Intent, intent: Intent, file: Path, lab: str) -> Iterator[Problem]:
    """Names in checks that mean nothing in that lab."""
    nodes = {*there.file.vms, *(port.name for port in there.ports), *there.machines}
    known: dict[str, tuple[str, set[str]]] = {
        "from": ("VM, NIC or bare machine", nodes),
        "to": ("VM, NIC or bare machine", nodes),
        "via": ("switch or host", {*there.switches, *there.hosts}),
        "through": ("network function", {*there.file.network_functions}),
    }
    for place, probe in _probes(intent.file.checks):
        for key, (kind, names) in known.items():
            for where, word in _words(probe, key):
                if word in names or (key == "to" and _is_address(word)):
                    continue
                line, column = intent.locate(*place, *where) if intent.locate else (1, 1)
                message = f"the lab {lab} has no {kind} {word}"
                yield Problem(str(file), line, column, message, _some(names))


def _some(names: set[str]) -> str:
    whole = sorted(name for name in names if "/" not in name)
    return f"it has {', '.join(whole[:8])}{', ...' if len(whole) > 8 else ''}" if whole else "it has none"


def _probes(checks: list[Check]) -> Iterator[tuple[Place, Probe]]:
    for number, check in enumerate(checks):
        if check.steps is None:
            yield ("checks", number), check
        for at, step in enumerate(check.steps or ()):
            for key, probe in (("check", step.check), ("traffic", step.traffic)):
                if probe is not None:
                    yield ("checks", number, "steps", at, key), probe


def _words(probe: Probe, key: str) -> list[tuple[Place, str]]:
    value = getattr(probe, "from_" if key == "from" else key)
    if isinstance(value, list):
        return [((key, number), word) for number, word in enumerate(value)]
    return [((key,), value)] if value else []


def _is_address(word: str) -> bool:
    try:
        ip_address(word)
    except ValueError:
        return False
    return True
