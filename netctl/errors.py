"""One tree of errors, sorted by who must act, with one exit code each (contract: cli.md).

Whatever reaches a user is one of these. Anything else is a bug of ours and becomes `Bug` at the top
of the CLI, with the traceback in a log file instead of on the terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class NetctlError(Exception):
    """Base of all errors that a user can see.

    `message` says what is wrong, `next_step` what to do about it.
    """

    exit_code = 70

    def __init__(self, message: str, next_step: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}\n  {self.next_step}" if self.next_step else self.message


class CheckFailed(NetctlError):
    """A check or test of the user's did not hold: the lab is fine, what it does is not what was stated."""

    exit_code = 1


@dataclass(frozen=True, order=True, slots=True)
class Problem:
    """One mistake in a file. `line` and `column` count from 1."""

    file: str
    line: int
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.file}:{self.line}:{self.column}: {self.message}"
        return f"{text}\n    {self.hint}" if self.hint else text


class InputError(NetctlError):
    """The user's file or arguments are wrong. Nothing was changed."""

    exit_code = 2

    def __init__(self, message: str, next_step: str | None = None, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message, next_step)
        self.problems = tuple(sorted(problems))

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> InputError:
        """Every problem of a file at once, in the order of the file."""
        count = len(problems)
        return cls(f"{count} problem{'s' if count != 1 else ''} found", None, problems)

    def __str__(self) -> str:
        if self.problems:
            return "\n".join(str(problem) for problem in self.problems)
        return super().__str__()


class MachineError(NetctlError):
    """The machine lacks something: rights, a package, a kernel feature, space."""

    exit_code = 3


class ConflictError(NetctlError):
    """Somebody else has what we need: the lab is busy, a name is taken."""

    exit_code = 4


class ChangeError(NetctlError):
    """A change failed or its result could not be verified; the message says how the lab is left."""

    exit_code = 5


class Bug(NetctlError):
    """A mistake of netctl's own. `message` says where the log is."""

    exit_code = 70
