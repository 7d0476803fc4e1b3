"""Commands inside a lab: exec, shell, console."""

from __future__ import annotations

import difflib
import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from netctl.cli import output
from netctl.cli.options import INSIDE_PANEL, Lab, LabArgument, Node
from netctl.errors import InputError, MachineError

if TYPE_CHECKING:
    from netctl.cli.operations import Running

NOT_EXECUTABLE = 126
NOT_FOUND = 127
"""What shells answer for a command that cannot be run, and for one that is not there."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        "exec",
        rich_help_panel=INSIDE_PANEL,
        context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
    )(execute)
    app.command(rich_help_panel=INSIDE_PANEL)(shell)
    app.command(rich_help_panel=INSIDE_PANEL)(console)


def execute(
    node: Node,
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="The command and its arguments.")],
    lab: Lab = None,
) -> None:
    """Run a command in a VM, host, ToR or bare machine; its exit code is the command's.

    Names of the lab resolve: `netctl exec web1 -- ping web2`.
    """
    lab, words = _split(lab, command)
    if not words:
        raise InputError("netctl exec: which command?", f"netctl exec {node} -- ip address")
    running, name = find(node, lab)
    environment = _enter(running, name)
    _become(words, environment)


def _split(lab: str | None, words: Sequence[str]) -> tuple[str | None, list[str]]:
    """What stands behind NODE: perhaps `--lab LAB`, perhaps `--`, and then the command, word for word."""
    rest = list(words)
    if rest[0].startswith("--lab="):
        lab = rest.pop(0).partition("=")[2]
    elif rest[0] == "--lab" and len(rest) > 1:
        lab = rest[1]
        del rest[:2]
    if rest and rest[0] == "--":
        del rest[0]
    elif rest and rest[0].startswith("-"):
        raise InputError(
            f"netctl exec: {rest[0]} is no command",
            "Options come before the node, the command after `--`: netctl exec --lab LAB NODE -- CMD",
        )
    return lab, rest


def shell(node: Node, lab: Lab = None) -> None:
    """Open a shell in a VM, host, ToR or bare machine; a host's has ovs-vsctl, ovn-appctl and so on."""
    running, name = find(node, lab)
    environment = _enter(running, name)
    environment["PS1"] = rf"[{running.name} {name}] \W \$ "
    environment["HISTFILE"] = ""
    bash = shutil.which("bash")
    if bash is None:
        environment["PS1"] = f"[{running.name} {name}] $ "
        _become(["sh", "-i"] if sys.stdin.isatty() else ["sh"], environment)
    # The user's own start-up files would set another prompt and PATH.
    interactive = ["-i"] if sys.stdin.isatty() else []
    _become(["bash", "--norc", "--noprofile", *interactive], environment)


def console(lab: LabArgument = None) -> None:
    """Open the Mininet CLI on a running lab: `web1 ping -c1 web2`, `nodes`, `net`, `links`, `pingall`."""
    from netctl.cli import operations

    running = operations.locate(lab)
    from dataplane.mininet_lab import console as open_console

    open_console(running.intent)


def find(node: str, lab: str | None) -> tuple[Running, str]:
    """The lab and the node that `NODE` or `LAB.NODE` means."""
    running, (node,) = locate(lab, node)
    nodes = running.rack.inventory.nodes
    known = sorted(name for name in nodes if not name.startswith("_"))
    if node not in known:
        near = difflib.get_close_matches(node, known, n=1)
        raise InputError(
            f"the lab {running.name} has no node {node}" + (f"; did you mean {near[0]}?" if near else ""),
            f"It has {', '.join(known[:40])}{', ...' if len(known) > 40 else ''}.",
        )
    return running, node


def locate(lab: str | None, *words: str) -> tuple[Running, list[str]]:
    """The lab, and the words without its name in front: any of them may tell the lab as LAB.NODE."""
    from netctl.cli import operations

    there = operations.known() if any("." in word for word in words) else []
    if lab is None:
        named = {word.partition(".")[0] for word in words if "." in word} & set(there)
        if len(named) > 1:
            raise InputError(f"{' and '.join(sorted(named))} are two labs", "Name nodes of one lab.")
        lab = min(named, default=None)
    running = operations.locate(lab)
    return running, [word.removeprefix(f"{running.name}.") for word in words]


def _enter(running: Running, node: str) -> dict[str, str]:
    """Move this process into the node; returns the environment for what it will run there."""
    from dataplane import engine
    from dataplane.enter import enter, environment, names

    try:
        tools = engine.find(running.record.engine, warn=output.note).env()
    except MachineError:
        tools = {}  # a shell in a lab needs no engine
    found = os.environ | environment(running.name, node, tools, os.environ.get("PATH", os.defpath))
    enter(running.rack.inventory.namespace(node), names(running.intent, node))
    return found


def _become(words: list[str], environment: dict[str, str]) -> None:
    """Replace this process by the command, so that terminal, signals and exit code are the command's own."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(words[0], words, environment)
    except FileNotFoundError:
        output.note(f"netctl: {words[0]}: command not found")
        raise typer.Exit(NOT_FOUND) from None
    except OSError as error:
        output.note(f"netctl: {words[0]}: {error.strerror}")
        raise typer.Exit(NOT_EXECUTABLE) from None
