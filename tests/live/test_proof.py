"""`netctl test` as users see it: on a terminal, at a failure, against another lab."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from .conftest import NETCTL, Lab, netctl

pytestmark = pytest.mark.live

STORY = {
    "name": "web survives an uplink",
    "steps": [
        {"fail": "link hv1 eth0"},
        {"fail": "link hv1 eth1"},
        {"check": {"from": "web1", "to": "web2"}},
    ],
}


class Terminal:
    """A netctl on a terminal of its own."""

    def __init__(self, *arguments: str | Path, cwd: Path) -> None:
        self.text = ""
        self._pid, self._end = pty.fork()
        if not self._pid:
            os.chdir(cwd)
            os.environ["TERM"] = "xterm"
            os.execv(NETCTL, [NETCTL, *map(str, arguments)])

    def until(self, words: str) -> None:
        """Read until it has said this."""
        end = time.monotonic() + 60
        while words not in self.text:
            assert time.monotonic() < end, self.text
            assert self._read(), self.text

    def press(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def code(self) -> int:
        """Its exit code, and all that it said."""
        while self._read():
            pass
        os.close(self._end)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def rows(self, verdict: str) -> list[str]:
        """Names of the checks in the rows with this verdict, whatever was drawn and wiped between them."""
        return re.findall(rf"{verdict}\x1b\[0m  (.+?) *\x1b", self.text)

    def _read(self) -> bool:
        if not select.select([self._end], [], [], 60)[0]:
            return False
        try:
            found = os.read(self._end, 1 << 16)
        except OSError:  # EIO: it has ended
            return False
        self.text += found.decode()
        return bool(found)


@pytest.fixture
def up(lab: Lab, first_lab: dict[str, Any]) -> tuple[Lab, dict[str, Any]]:
    lab.up(first_lab)
    return lab, first_lab


def test_a_table_grows_on_a_terminal(up: tuple[Lab, dict[str, Any]], tmp_path: Path) -> None:
    lab, _ = up
    terminal = Terminal("test", lab.file, cwd=tmp_path)
    assert terminal.code() == 0
    assert terminal.rows("passed") == [check["name"] for check in up[1]["checks"]]


def test_times_are_each_checks_own(up: tuple[Lab, dict[str, Any]], tmp_path: Path) -> None:
    lab, intent = up
    intent["checks"].append({"name": "in vain", "from": "app1", "to": "192.168.2.99"})
    lab.write(intent)
    report = netctl("test", lab.file, "--json", code=1, cwd=tmp_path).json()
    seconds = {check["name"]: check["seconds"] for check in report["checks"]}
    assert seconds.pop("in vain") > 0.9
    # Whatever the machine does besides, none of them has waited for the one in vain.
    assert max(seconds.values()) < 0.9, seconds


def test_a_failure_pauses_with_the_lab_as_it_is(up: tuple[Lab, dict[str, Any]], tmp_path: Path) -> None:
    lab, intent = up
    intent["checks"].insert(0, STORY)
    lab.write(intent)
    terminal = Terminal("test", lab.file, "--pause-on-failure", cwd=tmp_path)
    terminal.until("Enter goes on")
    assert f"netctl shell --lab {lab.name} web1" in terminal.text
    assert "NO-CARRIER" in lab.run("hv1", "ip", "-br", "link", "show", "eth0")
    assert "passed" not in terminal.text, "no other check runs meanwhile"
    terminal.press("\n")
    assert terminal.code() == 1
    assert "NO-CARRIER" not in lab.run("hv1", "ip", "-br", "link", "show", "eth0")
    assert terminal.rows("FAILED") == [STORY["name"]]
    assert terminal.rows("passed") == [check["name"] for check in intent["checks"][1:]]


def test_ctrl_c_at_a_pause_ends_the_test_and_heals(up: tuple[Lab, dict[str, Any]], tmp_path: Path) -> None:
    lab, intent = up
    lab.write(intent | {"checks": [STORY]})
    terminal = Terminal("test", lab.file, "--pause-on-failure", cwd=tmp_path)
    terminal.until("Enter goes on")
    os.kill(terminal._pid, signal.SIGINT)
    assert terminal.code() == 130
    assert "NO-CARRIER" not in lab.run("hv1", "ip", "-br", "link", "show", "eth0")


def test_failures_leave_bundles(up: tuple[Lab, dict[str, Any]], tmp_path: Path) -> None:
    """One about the story, made before it heals, one about the rest; both are in all reports."""
    lab, intent = up
    wrong = {"name": "wrong", "from": "app1", "to": "db1", "expect": "dropped"}
    lab.write(intent | {"checks": [STORY, wrong, *intent["checks"]]})
    report = netctl("test", lab.file, "--json", "--junitxml", "r.xml", code=1, cwd=tmp_path).json()
    by_name = {check["name"]: check.get("bundle") for check in report["checks"]}
    assert report["bundles"] == [by_name[STORY["name"]], by_name["wrong"]]
    assert len(set(report["bundles"])) == 2 and all(
        Path(each, "README.md").is_file() for each in report["bundles"]
    )
    assert all(bundle is None for name, bundle in by_name.items() if name not in (STORY["name"], "wrong"))
    root = ElementTree.parse(tmp_path / "r.xml").getroot()
    for failure, bundle in zip(root.iter("failure"), report["bundles"], strict=True):
        assert f"bundle: {bundle}" in (failure.text or "")
    values = [each.get("value") for each in root.findall("testsuite/properties/property")]
    assert values == report["bundles"]


def test_a_lab_of_another_file(up: tuple[Lab, dict[str, Any]], other_lab: Lab, tmp_path: Path) -> None:
    lab, intent = up
    copy = tmp_path / "copy.yaml"
    copy.write_text(lab.file.read_text().replace(lab.name, "copy"))
    assert netctl("test", copy, "--lab", lab.name).err == ""
    del intent["vms"]["web2"]
    intent["checks"] = []
    other_lab.up(intent)
    refused = netctl("test", lab.file, "--lab", other_lab.name, code=2).err
    assert f"the lab {other_lab.name} is of {other_lab.file}, not of {lab.file}" in refused
    assert f"the lab {other_lab.name} has no VM, NIC or bare machine web2" in refused
