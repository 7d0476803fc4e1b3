"""A line of aCLI -> a call, or what is wrong with it and how the word is used.

vm.nic_create fooVM vlan_mode=kTrunked trunked_networks=10,20,30 network=vlan.10
WORD          NAMES KEY=VALUE ...
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from netctl.cli.acli.words import ELSEWHERE, FLAG, WORDS, Word, choices, nearest, usage
from netctl.errors import InputError, Problem

_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Call:
    """A word with what was written behind it; `idle` are the keys that mean nothing to a lab, each with why.

    `file` and `line` say where it stands in a file.
    """

    name: str
    names: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    idle: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    file: str | None = None
    line: int = 0

    @property
    def word(self) -> Word:
        """What is known of the word."""
        return WORDS[self.name]

    def list(self, key: str) -> list[str]:
        """A value with commas as a list; empty where the key is not there."""
        return [part.strip() for part in self.values.get(key, "").split(",") if part.strip()]

    def flag(self, key: str) -> bool | None:
        """A truth value; None where the key is not there."""
        return self.values[key] == "true" if key in self.values else None

    def wrong(self, what: str, step: str | None = None) -> InputError:
        """What is wrong with this call, with the usage of its word where no other step is known."""
        return InputError(f"{self.name}: {what}", step or f"Usage: {usage(self.name)}")


def parse(line: str) -> Call | None:
    """The call that a line is; None for an empty one and for a comment.

    Raises InputError: there is no such word, name or key, or one is missing.
    """
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise InputError(
            f"{line.strip()}: {str(error).lower()}", "Close the quote, or leave it out."
        ) from None
    if not words:
        return None
    name, *rest = words
    name = name.lower()
    if name not in WORDS:
        raise unknown(words[0])
    names = [part for part in rest if "=" not in part]
    pairs = [part.partition("=") for part in rest if "=" in part]
    word = WORDS[name]
    known = [*word.keys, *word.idle]
    values: dict[str, str] = {}
    idle: dict[str, str] = {}
    for key, _, value in pairs:
        if key in word.idle:
            idle[key] = word.idle[key]
        elif key not in word.keys:
            raise _mistake(name, f"there is no key {key}{nearest(key, known)}")
        elif key in values:
            raise _mistake(name, f"{key} is there twice")
        else:
            values[key] = _value(name, key, value.rstrip(","))
    _count(name, names)
    for key in word.needed:
        if key not in values:
            raise _mistake(name, f"{key}= is missing")
    return Call(name, tuple(names), values, idle, shlex.join(words))


def parse_lines(text: str, file: str) -> list[Call]:
    """The calls of a file, one a line. Raises InputError with every mistake in it."""
    calls: list[Call] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            call = parse(line)
        except InputError as error:
            column = len(line) - len(line.lstrip()) + 1
            problems.append(Problem(file, number, column, error.message, error.next_step or ""))
            continue
        if call is not None:
            calls.append(Call(**{**vars(call), "file": file, "line": number}))
    if problems:
        raise InputError.of(problems)
    return calls


def _mistake(name: str, what: str) -> InputError:
    return InputError(f"{name}: {what}", f"Usage: {usage(name)}")


def unknown(word: str) -> InputError:
    """What is wrong with a word that is none of aCLI's here."""
    for start, instead in ELSEWHERE.items():
        if word.startswith(start):
            return InputError(f"netctl has no {word}: {instead}", "`netctl acli help` shows all words.")
    space = word.partition(".")[0]
    same = [name for name in WORDS if name.startswith(f"{space}.")]
    close = nearest(word, list(WORDS))
    step = f"Of {space}. there are {', '.join(same)}." if same else "`netctl acli help` shows all words."
    return InputError(f"there is no aCLI word {word}{close}", step)


def _value(name: str, key: str, value: str) -> str:
    """The value, in the spelling of the choice that it is."""
    if not value:
        raise _mistake(name, f"{key}= has no value")
    words = choices(WORDS[name].keys[key])
    known = {word.lower(): word for word in words}
    if words == FLAG.split("|"):
        known |= {spelled: str(truth).lower() for spelled, truth in _FLAGS.items()}
    if known and value.lower() not in known:
        raise _mistake(name, f"{key}={value} is none of {', '.join(words)}")
    return known.get(value.lower(), value)


def _count(name: str, names: Sequence[str]) -> None:
    word = WORDS[name]
    needed = [each for each in word.names if not each.startswith("[")]
    if len(names) < len(needed):
        raise _mistake(name, f"{needed[len(names)].rstrip('.')} is missing")
    if len(names) > len(word.names):
        raise _mistake(name, f"{names[len(word.names)]} is one word too many")
