"""A run of pytest that uses no lab pays nothing for the plugin."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

HEAVY = (
    "dataplane",
    "netctl.cli.operations",
    "netctl.intent",
    "ovs",
    "ovsdbapp",
    "pydantic",
    "pyroute2",
    "rich",
)
HEAVY += ("scapy", "typer", "yaml")

SUITE = f"""\
import sys

def test_without_a_lab():
    assert "netctl.cli.pytest_plugin" in sys.modules
    assert [name for name in {HEAVY!r} if name in sys.modules] == []

def test_a_fixture_of_ones_own(lab):
    assert lab == "mine"
"""


def test_it_is_found_by_pytest() -> None:
    [found] = entry_points(group="pytest11", name="netctl")
    assert found.value == "netctl.cli.pytest_plugin"


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(SUITE)
    (tmp_path / "conftest.py").write_text("import pytest\n\n@pytest.fixture\ndef lab():\n    return 'mine'\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:hypothesispytest",
            str(tmp_path),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_what_it_adds_to_pytest() -> None:
    command = [sys.executable, "-m", "pytest"]
    options = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True, timeout=60)
    assert "--lab=FILE" in options.stdout
    markers = subprocess.run([*command, "--markers"], capture_output=True, text=True, check=True, timeout=60)
    assert "@pytest.mark.lab(file)" in markers.stdout
