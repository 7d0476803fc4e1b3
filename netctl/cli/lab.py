"""Commands on whole labs: up, plan, apply, down, labs, validate, export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from netctl.cli import output
from netctl.cli.options import LAB_PANEL, File, Json, Lab, LabArgument
from netctl.errors import InputError

if TYPE_CHECKING:
    from netctl.cli.operations import Report

PENDING = 10
"""Exit code of `plan` when there is something to change."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for function in (up, plan, apply, down, labs, validate, export):
        app.command(rich_help_panel=LAB_PANEL)(function)


def up(file: File, json: Json = False) -> None:
    """Make a lab exist and be ready: every port bound, flows in, tunnels warm."""
    from netctl.cli import operations

    with output.changing(f"bringing up {file}") as progress:
        report = operations.up(file, progress)
    _show_changed(report, progress.seconds, json)


def apply(file: File, json: Json = False) -> None:
    """Move the running lab to FILE; touches only what differs."""
    from netctl.cli import operations

    with output.changing(f"applying {file}") as progress:
        report = operations.apply(file, progress)
    _show_changed(report, progress.seconds, json)


def _show_changed(report: Report, took: float, json: bool) -> None:
    output.warn(report.warnings)
    if json:
        output.emit(_report(report) | {"seconds": round(took, 3)})
        return
    count = len(report.changes)
    if not count:
        output.say(f"{report.lab} is ready; there was nothing to change ({output.seconds(took)})")
    elif not report.exists:
        output.say(f"{report.lab} is ready ({output.seconds(took)})")
    else:
        output.say(f"{report.lab} is ready; {output.plural(count, 'change')} made ({output.seconds(took)})")
    _say_faults(report)


def _say_faults(report: Report) -> None:
    if report.faults:
        output.say(f"broken on purpose, and left so: {', '.join(report.faults)} (`netctl heal all` mends it)")


def plan(file: File, json: Json = False) -> None:
    """Show what `apply` would change and why; changes nothing. Exit 0: nothing to do, 10: changes pending."""
    from netctl.cli import operations

    with output.progress(f"comparing {file} with the lab"):
        report = operations.plan(file)
    output.warn(report.warnings)
    count = len(report.changes)
    if json:
        output.emit(_report(report))
    elif not count:
        output.say(f"{report.lab} is as {file} says; there is nothing to change")
    else:
        for change in report.changes:
            output.say(change.text, style=_sign_style(change.text))
        verb = "change" if report.exists else "make"
        output.say(
            f"{output.plural(count, 'thing')} to {verb} in {report.lab}; `netctl apply {file}` does it"
        )
    if not json:
        _say_faults(report)
    raise typer.Exit(PENDING if count else 0)


def _report(report: Report) -> dict[str, object]:
    return {
        "lab": report.lab,
        "exists": report.exists,
        "changes": [change.to_json() for change in report.changes],
        "faults": list(report.faults),
        "warnings": output.problems(report.warnings),
    }


def _sign_style(text: str) -> str | None:
    return {"+": "green", "-": "red", "~": "yellow"}.get(text[:1])


def down(
    lab: LabArgument = None,
    every: Annotated[bool, typer.Option("--all", help="Remove every lab of this machine.")] = False,
    json: Json = False,
) -> None:
    """Remove a lab, completely and only it."""
    from netctl.cli import operations

    if lab is not None and every:
        raise InputError(
            "a lab and --all at once", f"`netctl down {lab}` removes one, `netctl down --all` every one."
        )
    removed: Sequence[str] = ()
    took = 0.0
    if lab is not None or operations.known():
        with output.changing("removing " + (lab or ("every lab" if every else "the lab"))) as progress:
            removed = operations.down(lab, every, progress)
        took = progress.seconds
    if json:
        output.emit({"removed": list(removed), "seconds": round(took, 3)})
    elif removed:
        output.say(f"removed {', '.join(removed)} ({output.seconds(took)})")
    else:
        output.say(
            f"there is no lab {lab}; nothing to remove" if lab else "there is no lab here; nothing to remove"
        )


def labs(json: Json = False) -> None:
    """List the labs on this machine."""
    from netctl.cli import operations

    found = operations.labs()
    if json:
        output.emit([lab.to_json() for lab in found])
    elif not found:
        output.say("no labs on this machine; `netctl up FILE` makes one")
    else:
        rows = [(lab.name, lab.state, lab.hosts, lab.vms, lab.title, lab.file) for lab in found]
        output.table(("lab", "state", "hosts", "VMs", "title", "file"), rows, fold="title")


def validate(file: File, json: Json = False) -> None:
    """Check a file without root and without a lab: every mistake at once, with its place."""
    from netctl.intent import load

    try:
        intent = load(file)
    except InputError as error:
        if not json or not error.problems:
            raise
        output.complain(error)
        output.emit({"file": str(file), "valid": False, "problems": output.problems(error.problems)})
        raise typer.Exit(error.exit_code) from None
    output.warn(intent.warnings)
    if json:
        warnings = output.problems(intent.warnings)
        output.emit(
            {"file": str(file), "lab": intent.name, "valid": True, "problems": [], "warnings": warnings}
        )
        return
    counts = (
        (len(intent.hosts), "host"),
        (len(intent.file.subnets), "subnet"),
        (len(intent.file.vpcs), "VPC"),
        (len(intent.file.vms), "VM"),
        (len(intent.file.checks), "check"),
    )
    words = ", ".join(output.plural(count, noun) for count, noun in counts if count)
    output.say(f"{file} is right: lab {intent.name}" + (f" with {words}" if words else ""))


def export(lab: Lab = None, json: Json = False) -> None:
    """Print a lab's present intent as YAML, with everything that netctl decided."""
    from netctl.cli import operations
    from netctl.intent.writing import dump

    text = dump(operations.locate(lab).intent)
    if json:
        import yaml

        output.emit(yaml.safe_load(text))
    else:
        output.write(text)
