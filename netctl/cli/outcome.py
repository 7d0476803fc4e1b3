"""What became of the checks of a file: the results in order, and what was found out about failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataplane.checks import Result
    from netctl.errors import NetctlError


@dataclass
class Told:
    """A result; of a failed one also the trace of its packet, and the bundle about it."""

    result: Result
    trace: Sequence[str] = ()
    bundle: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON data; trace and bundle only of what failed."""
        document = self.result.to_dict()
        if not self.result.passed:
            document["trace"] = list(self.trace)
            document["bundle"] = None if self.bundle is None else str(self.bundle)
        return document


@dataclass
class Outcome:
    """All of them, run after run. `error` is what kept the checks from being run."""

    lab: str
    file: Path
    told: list[Told] = field(default_factory=list)
    seconds: float = 0.0
    error: NetctlError | None = None

    @property
    def failures(self) -> list[Told]:
        """Those that failed."""
        return [each for each in self.told if not each.result.passed]

    @property
    def bundles(self) -> list[Path]:
        """The bundles about them."""
        return list(dict.fromkeys(each.bundle for each in self.told if each.bundle is not None))

    def to_json(self) -> dict[str, Any]:
        """The outcome as JSON data."""
        return {
            "lab": self.lab,
            "file": str(self.file),
            "passed": not self.failures and self.error is None,
            "seconds": round(self.seconds, 3),
            "bundles": [str(bundle) for bundle in self.bundles],
            "checks": [each.to_json() for each in self.told],
        }
