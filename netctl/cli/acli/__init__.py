"""AHV's aCLI words on a lab: `netctl acli`.

    words.py    the words, their names and keys, as data
    parser.py   a line -> a call of a word, or what is wrong with it
    vms.py, nics.py, networks.py, switches.py, hosts.py     what the words do: a call -> an edit, or an answer
    finding.py  what the names in a call mean; UUIDs
    answers.py  tables and blocks as aCLI prints them
    run.py      calls carried out on a lab
    prompt.py   the interactive shell

Only `run` changes a lab, and only through netctl.cli.operations.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from netctl.cli.options import INSIDE_PANEL, Json, Lab
from netctl.errors import InputError

if TYPE_CHECKING:
    from netctl.cli.acli.parser import Call

STDIN = "-"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=INSIDE_PANEL)(acli)


def complete_word(context: typer.Context, incomplete: str) -> list[str]:
    """What may come next: a word of aCLI's, or a key of the one that is there."""
    from netctl.cli.acli.words import WORDS, complete

    written = list(context.params.get("command") or ())
    return (
        complete([*written, incomplete])
        if written
        else [name for name in WORDS if name.startswith(incomplete)]
    )


def acli(
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CMD...|FILE|-]",
            autocompletion=complete_word,
            help="A command, with or without quotes around it; or a file with one a line.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("-y", help="As aCLI has it; netctl asks nothing anyway.")] = False,
    lab: Lab = None,
    json: Json = False,
) -> None:
    """Understand AHV's aCLI: `vm.nic_create fooVM network=vlan.10`, `net.list`; `help` shows all words.

    Changes the lab as an edit of its file would, but not the file (`netctl export` prints the lab's). Without
    a command it is a prompt, on a terminal; in a pipe it reads commands, one a line.
    """
    from netctl.cli import operations
    from netctl.cli.acli import prompt, run

    if not command and sys.stdin.isatty():
        prompt.converse(operations.locate(lab).name)
        return
    run.carry_out(_calls(command or [STDIN]), lab, json)


def _calls(words: Sequence[str]) -> list[Call]:
    """The calls that the command line asks for. Every mistake in a file is told at once."""
    from netctl.cli.acli import parser
    from netctl.cli.acli.words import WORDS

    if list(words) == [STDIN]:
        return parser.parse_lines(sys.stdin.read(), "<stdin>")
    if len(words) == 1 and words[0] not in WORDS and Path(words[0]).is_file():
        try:
            text = Path(words[0]).read_text()
        except UnicodeDecodeError:
            raise InputError(f"{words[0]} is no text", "Name a file with one aCLI command a line.") from None
        return parser.parse_lines(text, words[0])
    line = words[0] if len(words) == 1 else shlex.join(words)
    call = parser.parse(line)
    if call is None:
        raise InputError("netctl acli: which command?", "`netctl acli help` shows all words.")
    return [call]
