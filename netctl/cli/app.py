"""The commands together, and errors turned into words and exit codes (contract: cli.md).

Nothing heavy is imported here: `netctl --help` and shell completion must not wait for OVSDB or pydantic.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from netctl import __version__
from netctl.cli import (
    acli,
    bond,
    capture,
    checks,
    faults,
    graph,
    hits,
    inside,
    lab,
    machine,
    matrix,
    output,
    policy,
    status,
    trace,
)
from netctl.errors import Bug, InputError, MachineError, NetctlError

INTERRUPTED = 130
"""What shells say of a command that SIGINT ended."""

PIPE_CLOSED = 141
"""What shells say of a command that SIGPIPE ended."""

app = typer.Typer(
    name="netctl",
    help="Virtual networks on OVN and Open vSwitch, and an emulated rack to run them on.",
    epilog="Start with `netctl doctor`, then `netctl up topologies/first-lab.yaml`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"netctl {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show each step of a change on stderr.")
    ] = False,
) -> None:
    output.Options.verbose = verbose


for module in (
    lab,
    status,
    bond,
    faults,
    acli,
    inside,
    checks,
    trace,
    matrix,
    capture,
    hits,
    policy,
    graph,
    machine,
):
    module.register(app)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. No exception gets out."""
    _prepare_streams()
    output.Options.json = False
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except NetctlError as error:
        return _ended(error)
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        return _pipe_closed()
    except OSError as error:
        return _ended(_machine_error(error) or _bug(error, arguments))
    except Exception as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            return _interrupted()  # while a class was being made: Python 3.11 wraps it (object.__set_name__)
        return _ended(_bug(error, arguments))


def _run(arguments: Sequence[str]) -> int:
    command = typer.main.get_command(app)
    try:
        result: Any = command.main(list(arguments), prog_name="netctl", standalone_mode=False)
    except SystemExit as error:  # shell completion, and typer's own way with a pipe that closed
        if isinstance(error.__context__, BrokenPipeError):
            return _pipe_closed()
        return error.code if isinstance(error.code, int) else 1
    except typer.Abort:
        return _interrupted()
    except Exception as error:
        # Click's errors come from `click` or from typer's own copy of it, depending on typer's version.
        if type(error).__name__ == "NoArgsIsHelpError":
            output.note(str(error))
            return InputError.exit_code
        if hasattr(error, "format_message") and not isinstance(error, NetctlError):
            raise _usage(error, arguments) from None
        raise
    if result == INTERRUPTED:
        return _interrupted()
    return result if isinstance(result, int) else 0


def _usage(error: Any, arguments: Sequence[str]) -> InputError:
    """A mistake in the command line, with the nearest thing that exists."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "netctl"
    step = f"`{path} --help` shows how it is used."
    option = getattr(error, "option_name", None)
    if context is None:
        return InputError(_sentence(error.format_message()), step)
    if type(error).__name__ == "NoSuchOption":
        known = [name for parameter in context.command.params for name in parameter.opts]
        return InputError(f"{path} has no option {option}{_nearest(str(option), known)}", step)
    commands = getattr(context.command, "commands", None)
    words = [word for word in arguments if not word.startswith("-")]
    if commands and words and error.format_message().startswith("No such command"):
        depth = len(path.split()) - 1
        word = words[min(depth, len(words) - 1)]
        known = [name for name, each in commands.items() if not each.hidden]
        return InputError(f"{path} has no command {word}{_nearest(word, known)}", step)
    return InputError(f"{path}: {_sentence(error.format_message())}", step)


def _sentence(text: str) -> str:
    text = " ".join(text.split()).rstrip(".").replace("argument(s)", "arguments")
    return text[:1].lower() + text[1:]


def _nearest(word: str, known: Sequence[str]) -> str:
    # Dashes say nothing: every option begins with them.
    by_letters = {name.lstrip("-"): name for name in known}
    near = difflib.get_close_matches(word.lstrip("-"), by_letters, n=1, cutoff=0.5)
    return f"; did you mean {by_letters[near[0]]}?" if near else ""


def _machine_error(error: OSError) -> MachineError | None:
    """What the machine refused, in words; None when the cause is not the machine."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MachineError(
            f"no space left on the disk{where}", "Make room (`df -h` shows where), then run it again."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        step = "Run it as root (sudo)." if os.geteuid() else "`netctl doctor` shows what this machine allows."
        return MachineError(f"permission denied{where}", step)
    if error.errno == errno.EROFS:
        return MachineError(f"the file system is read-only{where}", "Mount it read-write, then run it again.")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return MachineError("too many open files", "Raise the limit (`ulimit -n 65536`), then run it again.")
    if error.errno == errno.ENOMEM:
        return MachineError("out of memory", "Free memory or make the lab smaller.")
    return None


def _bug(error: BaseException, arguments: Sequence[str]) -> Bug:
    from netctl.cli import bugs

    return bugs.record(error, arguments)


def _ended(error: NetctlError) -> int:
    output.report(error)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    return error.exit_code


def _interrupted() -> int:
    output.note("netctl: interrupted")
    return INTERRUPTED


def _pipe_closed() -> int:
    # What is still in the buffer would raise once more when Python ends.
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return PIPE_CLOSED


def _prepare_streams() -> None:
    """No stream of ours is missing, and none fails for a character that it cannot show."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            # Open the descriptor itself too, or the next file that is opened would take its place.
            with contextlib.suppress(OSError):
                descriptor = os.open(os.devnull, os.O_RDWR)
                if descriptor != number:
                    os.dup2(descriptor, number)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
        elif number and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
