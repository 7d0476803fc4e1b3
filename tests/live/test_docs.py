r"""docs/getting-started.md, command by command, in a lab of its own: exit codes, and what the page shows.

        web1   app1             web2   db1
          \    /                  \    /
           hv1                     hv2
          /   \                   /   \
       tor1 ---+------ fabric ---+--- tor2

`...` on the page stands for any lines. What differs from run to run (times, versions, MAC addresses,
the place of a file, the width of a column) is not compared.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.conftest import NETCTL, TOPOLOGIES, Lab, private_lab
from tests.unit.test_docs import ROOT, blocks, transcript

PAGE = ROOT / "docs" / "getting-started.md"
LAB = re.compile(r"\bfirst-lab\b(?!\.yaml)")

# On the page first-lab is the only lab; here others may run, so it must be said which one is meant.
PRELUDE = """
netctl() {
    case "$1" in
    ping | exec | export) command netctl "$1" --lab LAB "${@:2}" ;;
    *) command netctl "$@" ;;
    esac
}
"""

VARIES = (
    (re.compile(r"(?<![\w.])\d+(\.\d+)? m?s\b"), "TIME"),
    (re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}"), "MAC"),
    (re.compile(r"(?<![\w.])\d+\.\d+\.\d+(?![\d.])"), "VERSION"),
    (re.compile(r"(?<![\w.])\d+\.\d+(?![\d.])"), "NUMBER"),
    (re.compile(r"/\S*/(?=[\w-]+\.yaml)"), ""),
    (re.compile(r"─+"), "─"),
    (re.compile(r"@if\d+"), "@if"),
    (re.compile(r"(?<=time )\d+ms"), "TIME"),
    (re.compile(r"(?<=icmp_seq=1 ttl=64 time=)[\d.]+|(?<=mdev = )\S+"), "TIME"),
)


@pytest.fixture
def docs_lab(tmp_path: Path) -> Iterator[Lab]:
    """As long a name as first-lab's, so that pictures have the same shape."""
    with private_lab("d", tmp_path) as made:
        yield made


def test_getting_started(docs_lab: Lab, tmp_path: Path) -> None:
    name = docs_lab.name
    (tmp_path / "topologies").mkdir()
    first = (TOPOLOGIES / "first-lab.yaml").read_text()
    (tmp_path / "topologies" / "first-lab.yaml").write_text(LAB.sub(name, first))
    environment = {**os.environ, "PATH": f"{Path(NETCTL).parent}:{os.environ['PATH']}"}
    last = 0
    for block in blocks(PAGE, "yaml", "console"):
        if block.language == "yaml":
            if block.name:
                (tmp_path / block.name).write_text(LAB.sub(name, block.text))
            continue
        steps = transcript(block)
        for number, (command, shown) in enumerate(steps):
            done = subprocess.run(
                ["bash", "-c", PRELUDE.replace("LAB", name) + f"(exit {last})\n{LAB.sub(name, command)}"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=60,
                check=False,
                cwd=tmp_path,
                env=environment,
            )
            said = f"{block.place}: {command}: exit {done.returncode}\n{done.stdout}"
            assert "Traceback" not in done.stdout, said
            told = number + 1 < len(steps) and steps[number + 1][0] == "echo $?"
            assert done.returncode == 0 or told, said
            wanted, seen = stable(LAB.sub(name, shown)), stable(done.stdout)
            assert pattern(wanted).fullmatch(seen), f"{said}\nthe page shows:\n{shown}"
            last = done.returncode


def stable(text: str) -> str:
    """The text without what differs from run to run."""
    for varies, word in VARIES:
        text = varies.sub(word, text)
    return "".join(" ".join(line.split()) + "\n" for line in text.strip().splitlines())


def pattern(wanted: str) -> re.Pattern[str]:
    lines = [r"(?:.*\n)*" if line == "..." else re.escape(line + "\n") for line in wanted.splitlines()]
    return re.compile("".join(lines))
