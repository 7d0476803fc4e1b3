"""Commands about this machine and this program: doctor, engine, schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netctl.cli import output
from netctl.cli.options import MACHINE_PANEL, Json
from netctl.errors import MachineError

engine_app = typer.Typer(help="Show which OVN and Open vSwitch are used, or install them.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel=MACHINE_PANEL)(doctor)
    app.add_typer(engine_app, name="engine", rich_help_panel=MACHINE_PANEL)
    app.command(rich_help_panel=MACHINE_PANEL)(schema)


def doctor(json: Json = False) -> None:
    """Show what this machine has and lacks, with the command that mends it. Exit 3 when labs cannot run."""
    from dataplane import doctor as rack_doctor

    with output.progress("looking at this machine"):
        findings = rack_doctor.examine()
    ready = rack_doctor.ready(findings)
    if json:
        found = [
            {
                "name": each.name,
                "ok": each.ok is True,
                "level": _level(each.ok),
                "seen": each.seen,
                "mend": each.mend,
            }
            for each in findings
        ]
        output.emit({"ready": ready, "findings": found})
    else:
        rows = [
            (_level(each.ok), each.name, f"{each.seen}\n→ {each.mend}" if each.mend else each.seen)
            for each in findings
        ]
        output.table(("state", "what", "seen, and → what mends it"), rows, fold="seen, and → what mends it")
        output.say()
        output.say("labs can run here" if ready else "labs cannot run here yet", style="bold")
    raise typer.Exit(0 if ready else MachineError.exit_code)


def _level(ok: bool | str) -> str:
    return {True: "ok", False: "missing"}[ok] if isinstance(ok, bool) else "limit"


@engine_app.callback(invoke_without_command=True)
def engine(context: typer.Context, json: Json = False) -> None:
    """Show which OVN and Open vSwitch are used, or install them."""
    if context.invoked_subcommand is None:
        show(json)


@engine_app.command()
def show(json: Json = False) -> None:
    """Show which OVN and Open vSwitch labs run on, and what they can do."""
    from dataplane import engine as engines

    found = engines.find(warn=output.note)
    lacking = sorted(set(engines.FEATURES) - found.features)
    if json:
        output.emit(
            {
                "name": found.name,
                "prefix": str(found.prefix),
                "ovn": found.ovn_version,
                "ovs": found.ovs_version,
                "features": sorted(found.features),
                "lacks": lacking,
            }
        )
        return
    output.table(
        ("engine", "OVN", "Open vSwitch", "where"),
        [(found.name, found.ovn_version, found.ovs_version, found.prefix)],
        fold="where",
    )
    output.say()
    rows = [(name, name in found.features) for name in sorted(engines.FEATURES)]
    output.table(("feature", "there"), rows)


@engine_app.command()
def install(
    force: Annotated[
        bool, typer.Option("--force", help="Fetch the newest packages, whatever is there.")
    ] = False,
    packages: Annotated[
        Path | None,
        typer.Option("--packages", metavar="DIR", help="Take the .deb files from here; no network."),
    ] = None,
) -> None:
    """Get the bundled OVN and Open vSwitch from Debian's signed packages into a directory of netctl's own."""
    from dataplane import engine as engines

    with output.progress("installing the engine") as progress:
        found = engines.install(force=force, progress=progress, packages=packages)
    output.say(
        f"OVN {found.ovn_version} and Open vSwitch {found.ovs_version} are in {found.prefix}"
        f" ({output.seconds(progress.seconds)})"
    )


def schema() -> None:
    """Print the JSON schema of the intent file, for editors."""
    from netctl.intent.json_schema import schema as intent_schema

    output.emit(intent_schema())
