r"""Pages, command by command, in labs of their own: exit codes, and what the page shows.

        web1   app1             web2   db1
          \    /                  \    /
           hv1                     hv2
          /   \                   /   \
       tor1 ---+------ fabric ---+--- tor2

`...` on the page stands for any lines. What differs from run to run (times, versions, MAC addresses,
the place of a file, the width of a column) is not compared.
"""

from __future__ import annotations

import difflib
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.conftest import NETCTL, TOPOLOGIES, Lab, private_lab
from tests.unit.test_docs import ROOT, blocks, transcript

LAB = re.compile(r"\b(?:first-lab|dual-stack|bond-modes)\b(?!\.yaml)")

# On its page it is the only lab; here others may run, so it must be said which one is meant.
PRELUDE = """
netctl() {
    case "$1" in
    ping | exec | export | trace | bond | fail | heal) command netctl "$1" --lab LAB "${@:2}" ;;
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
    (re.compile(r"/\S*/(?=netctl-failures/)"), ""),
    (re.compile(r"(?<=-)\d{8}-\d{6}"), "WHEN"),
    (re.compile(r"(?<=Geneve )\d+"), "VNI"),
    (re.compile(r"─+"), "─"),
    (re.compile(r"@if\d+"), "@if"),
    (re.compile(r"(?<=time )\d+ms"), "TIME"),
    (re.compile(r"(?<=expires )\d+(?=sec)"), "TIME"),
    (re.compile(r"(?<=ttl=64 time=)[\d.]+|(?<=ttl=254 time=)[\d.]+|(?<=mdev = )\S+"), "TIME"),
)


@pytest.fixture
def docs_lab(tmp_path: Path) -> Iterator[Lab]:
    """As long a name as first-lab's, so that pictures have the same shape."""
    with private_lab("d", tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("page", "topology"), [("getting-started.md", "first-lab"), ("ipv6.md", "dual-stack")], ids=str
)
def test_page(docs_lab: Lab, tmp_path: Path, page: str, topology: str) -> None:
    (tmp_path / "topologies").mkdir()
    text = (TOPOLOGIES / f"{topology}.yaml").read_text()
    (tmp_path / "topologies" / f"{topology}.yaml").write_text(LAB.sub(docs_lab.name, text))
    follow(ROOT / "docs" / page, docs_lab.name, tmp_path)


def test_bonds(docs_lab: Lab, tmp_path: Path) -> None:
    follow(ROOT / "docs" / "bonds.md", docs_lab.name, tmp_path)


def test_the_failure_that_the_readme_shows(tmp_path: Path) -> None:
    """`netctl test` makes the lab and removes it."""
    readme = ROOT / "README.md"
    part = [block for block in blocks(readme, "yaml", "console") if "shop.yaml" in block.text]
    yaml_block, console_block = part
    name = f"r{secrets.token_hex(2)}"
    assert yaml_block.name == "shop.yaml"
    (tmp_path / "shop.yaml").write_text(yaml_block.text.replace("name: shop", f"name: {name}"))
    ((command, shown),) = transcript(console_block)
    done = run(command, tmp_path)
    assert done.returncode == 1, done.stdout
    wanted, seen = (
        text.replace(f"{lab}-", "LAB-").replace(f"\n{lab}: ", "\nLAB: ")
        for text, lab in ((shown, "shop"), (done.stdout, name))
    )
    shows(f"{console_block.place}: {command}", wanted, seen)


def test_the_tour_of_make_demo() -> None:
    (block,) = (block for block in blocks(ROOT / "README.md", "console") if "demo-" in block.text)
    done = run(str(ROOT / "scripts" / "demo"), ROOT)
    assert done.returncode == 0, done.stdout
    seen = re.sub(r"\x1b\[\d*m", "", done.stdout)
    shows(block.place, "...\n" + re.sub(r"demo-\d+", "LAB", block.text), re.sub(r"demo-\d+", "LAB", seen))


def test_vlan_basic(docs_lab: Lab, tmp_path: Path) -> None:
    follow(ROOT / "docs" / "vlan-basic.md", docs_lab.name, tmp_path, re.compile(r"\bfloor2\b(?!\.yaml)"))


def run(command: str, directory: Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """A command of a page in bash, with netctl in the PATH; its output and errors together."""
    return subprocess.run(
        ["bash", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
        cwd=directory,
        env={**os.environ, "PATH": f"{Path(NETCTL).parent}:{os.environ['PATH']}"},
    )


def follow(page: Path, name: str, directory: Path, shown_as: re.Pattern[str] = LAB) -> None:
    """Write the named files of a page and run its commands, for a lab of another name."""
    last = 0
    for block in blocks(page, "yaml", "console"):
        if block.language == "yaml":
            if block.name:
                (directory / block.name).write_text(shown_as.sub(name, block.text))
            continue
        steps = transcript(block)
        for number, (command, shown) in enumerate(steps):
            done = run(
                PRELUDE.replace("LAB", name) + f"(exit {last})\n{shown_as.sub(name, command)}", directory
            )
            said = f"{block.place}: {command}: exit {done.returncode}\n{done.stdout}"
            assert "Traceback" not in done.stdout, said
            told = number + 1 < len(steps) and steps[number + 1][0] == "echo $?"
            assert done.returncode == 0 or told, said
            shows(f"{block.place}: {command}", shown_as.sub(name, shown), done.stdout)
            last = done.returncode


def shows(place: str, page: str, terminal: str) -> None:
    """Assert that the page shows what the terminal does, but for what varies; tells what differs."""
    wanted, seen = stable(page), stable(terminal)
    if pattern(wanted).fullmatch(seen):
        return
    difference = "\n".join(
        difflib.unified_diff(wanted.splitlines(), seen.splitlines(), "page", "terminal", n=1)
    )
    pytest.fail(f"{place}\n{difference}", pytrace=False)


def stable(text: str) -> str:
    """The text without what differs from run to run."""
    for varies, word in VARIES:
        text = varies.sub(word, text)
    return "".join(" ".join(line.split()) + "\n" for line in text.strip().splitlines())


def pattern(wanted: str) -> re.Pattern[str]:
    lines = [r"(?:.*\n)*" if line == "..." else re.escape(line + "\n") for line in wanted.splitlines()]
    return re.compile("".join(lines))
