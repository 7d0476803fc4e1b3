"""Every file here is wrong; the .txt beside it is what netctl says of it, to the letter.

NETCTL_UPDATE_GOLDEN=1 writes the .txt files anew: read the difference before you commit it.
"""

import os
from pathlib import Path

import pytest

from netctl.errors import InputError
from netctl.intent import stages
from netctl.intent.source import decode

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_said(file: Path) -> None:
    with pytest.raises(InputError) as raised:
        stages.loads(decode(file.read_bytes(), file.name), file.name)
    assert raised.value.exit_code == 2
    said = f"{raised.value}\n"
    golden = file.with_suffix(".txt")
    if os.environ.get("NETCTL_UPDATE_GOLDEN"):
        golden.write_text(said)
    assert said == golden.read_text()
    assert all(problem.hint for problem in raised.value.problems), "every problem has a next step"


def test_no_orphans() -> None:
    assert {file.stem for file in FILES} == {file.stem for file in HERE.glob("*.txt")}
    assert len(FILES) >= 40
