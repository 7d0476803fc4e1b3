"""What the stages find: problems and warnings, each with its place in the file."""

from __future__ import annotations

from typing import Any

from netctl.errors import Problem
from netctl.intent.grammar import Cuts
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
    """Collects problems and warnings, and knows what the grammar cut out (`broken`: paths in the file)."""

    def __init__(self, document: Document, cuts: Cuts | None = None) -> None:
        self.document = document
        self.cuts = cuts or Cuts()
        self._problems = dict.fromkeys([*document.problems, *self.cuts.problems])
        self._warnings: dict[Problem, None] = {}
        self.broken = self.cuts.broken
        self._around = {path[:length] for path in self.broken for length in range(len(path))}

    def error(self, path: Path_, message: str, hint: str, key: bool = False) -> None:
        """A mistake in the model's value at `path` (or its key), and what to write instead."""
        self.error_in_file(self.cuts.in_file(path), message, hint, key)

    def error_in_file(self, path: Path_, message: str, hint: str, key: bool = False) -> None:
        """The same of the file's value at `path`, which differs where items were cut out of lists."""
        self._problems[self.document.problem(path, message, hint, key)] = None

    def warn(self, path: Path_, message: str, hint: str, key: bool = False) -> None:
        """Something allowed that looks wrong."""
        there = self.cuts.in_file(path)
        self._warnings[self.document.problem(there, message, hint, key)] = None

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
        path = self.cuts.in_file(path)
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
        """The names that the section at `path` gives, wrong or not, and be it a list by mistake."""
        value = self.written(*path)
        if isinstance(value, list):
            return [name for name in value if isinstance(name, str)]
        return list(value) if isinstance(value, dict) else []

    def line(self, *path: str | int) -> int:
        """The line of the model's key at `path`."""
        return self.document.place(*self.cuts.in_file(path), key=True)[0]
