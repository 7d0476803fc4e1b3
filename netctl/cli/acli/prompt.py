"""The interactive shell: aCLI's prompt, with history and completion."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from netctl.cli import output
from netctl.cli.acli import parser, run, words
from netctl.errors import NetctlError

PROMPT = "<acropolis> "
LEAVE = ("exit", "quit")


def converse(lab: str) -> None:
    """Read commands and carry them out on a lab until `exit` or the end of the input. No error ends it."""
    output.note(f"lab {lab}; `help` shows the words, `exit` leaves")
    with contextlib.suppress(ImportError):
        _prepare()
    while True:
        try:
            line = input(PROMPT)
        except EOFError:
            output.say()
            return
        except KeyboardInterrupt:
            output.say()
            continue
        if line.strip().lower() in LEAVE:
            return
        try:
            call = parser.parse(line)
            if call is not None:
                run.do(call, lab)
        except NetctlError as error:
            output.complain(error)


def completer() -> Callable[[str, int], str | None]:
    """What readline asks: the nth completion of the word under the cursor."""
    import readline

    def complete(_: str, state: int) -> str | None:
        line = readline.get_line_buffer()[: readline.get_endidx()]
        written = line.split()
        if not line or line[-1].isspace():
            written.append("")
        found = words.complete(written)
        if state >= len(found):
            return None
        return found[state] if found[state].endswith("=") else f"{found[state]} "

    return complete


def _prepare() -> None:
    import readline

    readline.set_completer_delims(" ")
    readline.set_completer(completer())
    readline.parse_and_bind("tab: complete")
