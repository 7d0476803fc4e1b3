"""What the stages find: problems and warnings, each with its place in the file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from netctl.errors import Problem
from netctl.intent.source import Document, Path_

SECTIONS = {
    "host": "hosts",
    "VM": "vms",
    "bare machine": "physical",
    "network function": "network_functions",
    "subnet": "subnets",
    "VPC": "vpcs",
    "service chain": "service_chains",
    "policy": "policies",
    "address group": "address_groups",
    "service group": "service_groups",
}
"""Kinds of named things, and the section of the file that names them."""


class Findings:
    """Collects problems and warnings, and knows what earlier stages cut out.

    `broken` are the paths of what the grammar refused and cut out of the model.
    """

    def __init__(
        self, document: Document, problems: Iterable[Problem] = (), broken: Iterable[Path_] = ()
    ) -> None:
        self.document = document
        self._problems = dict.fromkeys(problems)
        self._warnings: dict[Problem, None] = {}
        self.broken = set(broken)
        self._around = {path[:length] for path in self.broken for length in range(len(path))}

    def error(self, path: Path_, message: str, hint: str, key: bool = False) -> None:
        """A mistake in the value at `path` (or its key), and what to write instead."""
        self._problems[self.document.problem(path, message, hint, key)] = None

    def warn(self, path: Path_, message: str, hint: str, key: bool = False) -> None:
        """Something allowed that looks wrong."""
        self._warnings[self.document.problem(path, message, hint, key)] = None

    @property
    def problems(self) -> list[Problem]:
        """The mistakes, in the order of the file."""
        return sorted(self._problems)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The warnings, in the order of the file."""
        return tuple(sorted(self._warnings))

    def sound(self, *path: str | int) -> bool:
        """Whether nothing was cut out of the value at `path`, and it was not cut out itself."""
        return path not in self._around and not any(
            path[:length] in self.broken for length in range(len(path) + 1)
        )

    def written(self, *path: str | int) -> Any:
        """The value at `path` as the file has it, wrong or not; None where there is none."""
        value = self.document.data
        for step in path:
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return None
        return value

    def names(self, *path: str) -> list[str]:
        """The keys of the mapping at `path` as the file has them, wrong or not."""
        value = self.written(*path)
        return list(value) if isinstance(value, dict) else []

    def line(self, *path: str | int) -> int:
        """The line of the key at `path`."""
        return self.document.place(*path, key=True)[0]
