"""Options and arguments that several commands share, and how shells complete them.

Completion reads directory listings only: it runs at each press of Tab, and without root.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from netctl.cli import output

RUN = Path("/run/netctl")
NAMESPACES = Path("/run/netns")


# --- completion -----------------------------------------------------------------------------------


def _entries(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def complete_lab(incomplete: str) -> list[str]:
    """Labs on this machine."""
    return [name for name in _entries(RUN) if name.startswith(incomplete) and (RUN / name).is_dir()]


def complete_node(context: typer.Context, incomplete: str) -> list[str]:
    """Nodes of the lab that --lab names, else of the only one; with several labs, LAB.NODE."""
    wanted = context.params.get("lab")
    labs = [wanted] if wanted else complete_lab("")
    found = []
    for lab in labs:
        for namespace in _entries(NAMESPACES):
            if namespace.startswith(f"{lab}.") and not namespace.startswith(f"{lab}._"):
                found.append(namespace if len(labs) > 1 else namespace.removeprefix(f"{lab}."))
    return [name for name in found if name.startswith(incomplete)]


def complete_file(incomplete: str) -> list[str]:
    """Directories and YAML files."""
    directory, _, start = incomplete.rpartition("/")
    base = f"{directory}/" if "/" in incomplete else ""
    found = []
    for name in _entries(Path(base or ".")):
        if not name.startswith(start) or (name.startswith(".") and not start):
            continue
        if Path(base + name).is_dir():
            found.append(f"{base}{name}/")
        elif name.endswith((".yaml", ".yml")):
            found.append(base + name)
    return found


FAULTS = ("link", "switch", "host", "daemon")


def complete_fault(context: typer.Context, incomplete: str) -> list[str]:
    """What can break, then the node, then what of it as far as directories tell."""
    written = list(context.params.get("what") or ())
    if not written:
        return [kind for kind in FAULTS if kind.startswith(incomplete)]
    if len(written) == 1:
        return complete_node(context, incomplete)
    return []


def complete_heal(context: typer.Context, incomplete: str) -> list[str]:
    """As `complete_fault`, and `all`."""
    every = ["all"] if not context.params.get("what") and "all".startswith(incomplete) else []
    return every + complete_fault(context, incomplete)


def complete_check(context: typer.Context, incomplete: str) -> list[str]:
    """Names of the checks in the file that was given, read line by line rather than as YAML."""
    file = context.params.get("file")
    try:
        text = Path(file).read_text() if file else ""
    except OSError:
        return []
    names = re.findall(r"name:\s*['\"]?([^,'\"\n}]+)", text.partition("checks:")[2])
    return [name.strip() for name in names if name.startswith(incomplete)]


# --- options --------------------------------------------------------------------------------------


def _set_json(wanted: bool) -> bool:
    output.Options.json = output.Options.json or wanted
    return wanted


Json = Annotated[
    bool,
    typer.Option("--json", callback=_set_json, is_eager=True, help="One JSON document on stdout."),
]
Lab = Annotated[
    str | None,
    typer.Option(
        "--lab", metavar="LAB", autocompletion=complete_lab, help="Which lab; the only one if left out."
    ),
]
LabArgument = Annotated[
    str | None,
    typer.Argument(metavar="[LAB]", autocompletion=complete_lab, help="Which lab; the only one if left out."),
]
File = Annotated[
    Path, typer.Argument(metavar="FILE", autocompletion=complete_file, help="The intent file (YAML).")
]
Node = Annotated[
    str,
    typer.Argument(
        metavar="NODE",
        autocompletion=complete_node,
        help="A VM, host, ToR or bare machine: NODE or LAB.NODE.",
    ),
]

LAB_PANEL = "Labs"
INSIDE_PANEL = "Inside a lab"
PROOF_PANEL = "Checks and pictures"
MACHINE_PANEL = "This machine"
