"""What intents compile to, as text to read. After a change on purpose: NETCTL_GOLDEN=write pytest FILE."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netctl.compile import compile_intent
from netctl.intent import load

CASES = sorted(Path(__file__).parent.glob("*.yaml"))


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_compiles_to(file: Path) -> None:
    golden = file.with_suffix(".txt")
    text = compile_intent(load(file), "unix:/run/sb.sock").text()
    if os.environ.get("NETCTL_GOLDEN") == "write":
        golden.write_text(text)
    assert text == golden.read_text()
