"""The commands on stubs of what they call: what they print, with and without --json, and their exit codes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn
from xml.etree import ElementTree

import pytest

import dataplane.checks
from dataplane.checks import Ping, Result
from netctl.cli import bundle, operations, output
from netctl.cli.app import run
from netctl.cli.junit import document
from netctl.cli.operations import Change, Report, Summary
from netctl.cli.outcome import Outcome, Told
from netctl.errors import ChangeError, ConflictError, InputError, Problem
from netctl.intent import load

LAB = """
name: shop
title: A shop
hosts: {hv1: {}, hv2: {}}
subnets: {web: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}}
vms:
  web1: {host: hv1, nics: [{subnet: web}]}
  web2: {host: hv2, nics: [{subnet: web}]}
checks:
  - {name: near, from: web1, to: web2, expect: delivered}
  - {name: far, from: web2, to: web1, expect: delivered}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "shop.yaml"
    found.write_text(LAB)
    return found


CHANGES = [
    Change("+ web1: VM with its namespace", {"part": "rack", "sign": "+"}),
    Change("~ hv1: address of br0", {"part": "rack", "sign": "~"}),
]


class Machine:
    """Stands for the labs of a machine: what is up, and what was done."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.up: set[str] = set()
        self.done: list[str] = []
        self.fails: dict[str, bool] = {}
        self.error: Exception | None = None
        self.runs: list[Sequence[str] | None] = []

    def bring(self, path: Path, progress: Any) -> Report:
        progress("links and guests")
        self.done.append("up")
        if self.error:
            raise self.error
        self.up.add("shop")
        return Report("shop", False, CHANGES)

    def down(self, lab: str | None, every: bool, progress: Any) -> list[str]:
        self.done.append("down")
        gone = sorted(self.up) if every or lab is None else sorted({lab} & self.up)
        self.up -= set(gone)
        return gone

    def locate(self, lab: str | None) -> Any:
        if lab is not None and lab not in self.up:
            raise InputError(f"there is no lab {lab}")
        intent = load(self.file)
        nodes = dict.fromkeys(("web1", "web2", "hv1", "hv2", "hv1.cvm", "_central"))
        rack = SimpleNamespace(inventory=SimpleNamespace(nodes=nodes))
        record = SimpleNamespace(file=str(self.file.resolve()))
        return SimpleNamespace(intent=intent, name="shop", rack=rack, record=record)

    def run_checks(self, intent: Any, lab: str, *, select: Any, **hooks: Any) -> list[Result]:
        self.runs.append(select)
        results = []
        hooks["on_start"](intent.file.checks)
        for check in intent.file.checks:
            passed = not self.fails.get(check.name, False)
            seen = "arrived, answer back after 0.30 ms" if passed else "nothing arrived"
            result = Result(
                check, check.name, passed, 0.01, "web1 -> web2 icmp delivered", seen, ("left web1",)
            )
            results.append(result)
            if not passed:
                hooks["on_failure"](result)
            hooks["on_result"](result)
        return results

    def write_bundle(self, running: Any, results: Sequence[Result]) -> Path:
        assert running.name in self.up, "a bundle is about a lab that is still there"
        self.done.append(f"bundle of {', '.join(result.name for result in results)}")
        return Path("/bundles/1")


@pytest.fixture(autouse=True)
def machine(file: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    output.stdout.cache_clear()
    output.stderr.cache_clear()
    stub = Machine(file)
    for name, function in {
        "known": lambda: sorted(stub.up),
        "up": stub.bring,
        "apply": stub.bring,
        "down": stub.down,
        "locate": stub.locate,
        "verbs": lambda _: {},
    }.items():
        monkeypatch.setattr(operations, name, function)
    monkeypatch.setattr(bundle, "write", stub.write_bundle)
    monkeypatch.setattr(dataplane.checks, "run_checks", stub.run_checks)
    return stub


# --- up, apply, plan, down, labs, validate --------------------------------------------------------


def test_up_says_that_the_lab_is_ready(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["up", str(file)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("shop is ready (")
    assert said.err == ""


@pytest.mark.parametrize(
    ("changes", "exists", "words"),
    [([], True, "nothing to change"), (CHANGES, True, "2 changes made"), (CHANGES, False, "shop is ready (")],
)
def test_apply_says_what_it_did(
    changes: list[Change],
    exists: bool,
    words: str,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(operations, "apply", lambda *_: Report("shop", exists, changes))
    assert run(["apply", str(file)]) == 0
    assert words in capsys.readouterr().out
    assert run(["apply", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["lab"] == "shop" and found["exists"] is exists and len(found["changes"]) == len(changes)


def test_warnings_go_to_stderr(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    warning = Problem("shop.yaml", 4, 2, "no VM has these categories", "look for a misspelt value")
    monkeypatch.setattr(operations, "up", lambda *_: Report("shop", False, [], [warning]))
    assert run(["up", str(file)]) == 0
    assert capsys.readouterr().err == (
        "shop.yaml:4:2: warning: no VM has these categories\n    look for a misspelt value\n"
    )


def test_plan_tells_by_its_exit_code(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(operations, "plan", lambda _: Report("shop", True, []))
    assert run(["plan", str(file)]) == 0
    assert "nothing to change" in capsys.readouterr().out
    monkeypatch.setattr(operations, "plan", lambda _: Report("shop", True, CHANGES))
    assert run(["plan", str(file)]) == 10
    said = capsys.readouterr().out
    assert "+ web1: VM with its namespace" in said and "2 things to change in shop" in said
    assert run(["plan", str(file), "--json"]) == 10
    assert [each["sign"] for each in json.loads(capsys.readouterr().out)["changes"]] == ["+", "~"]


def test_down(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.up = {"shop", "other"}
    assert run(["down", "shop"]) == 0
    assert capsys.readouterr().out.startswith("removed shop (")
    assert machine.up == {"other"}
    assert run(["down", "--all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == ["other"]
    assert run(["down"]) == 0  # what it promises holds already
    assert "there is no lab here" in capsys.readouterr().out
    assert run(["down", "shop"]) == 0
    assert "there is no lab shop" in capsys.readouterr().out


def test_labs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(operations, "labs", lambda: [])
    assert run(["labs"]) == 0
    assert "no labs" in capsys.readouterr().out
    monkeypatch.setattr(
        operations, "labs", lambda: [Summary("shop", "A shop", "ready", 2, 4, "/x/shop.yaml")]
    )
    assert run(["labs"]) == 0
    assert capsys.readouterr().out.splitlines()[2].split() == [
        "shop",
        "ready",
        "2",
        "4",
        "A",
        "shop",
        "/x/shop.yaml",
    ]
    assert run(["labs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["vms"] == 4


def test_validate(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", str(file)]) == 0
    assert "lab shop with 2 hosts, 1 subnet, 2 VMs, 2 checks" in capsys.readouterr().out
    file.write_text(LAB.replace("vlan: 10", "vlan: 5000").replace("hosts:", "hsots:"))
    assert run(["validate", str(file)]) == 2
    words = capsys.readouterr().err
    assert f"{file}:4:1: " in words and f"{file}:5:" in words
    assert run(["validate", str(file), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["valid"] is False and len(found["problems"]) >= 2


def test_export(machine: Machine, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine.up = {"shop"}
    assert run(["export"]) == 0
    copy = tmp_path / "copy.yaml"
    copy.write_text(capsys.readouterr().out)
    assert load(copy).ports == load(file).ports
    assert run(["export", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "shop"


def test_schema_is_a_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    assert "json-schema.org" in json.loads(capsys.readouterr().out)["$schema"]


# --- graph ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ending", "start"), [("svg", "<svg "), ("mmd", "---\n"), ("dot", 'graph "shop"')])
def test_graph_writes_a_picture(
    ending: str, start: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / f"shop.{ending}"
    assert run(["graph", str(file), "-o", str(picture)]) == 0
    assert picture.read_text().startswith(start)
    assert str(picture) in capsys.readouterr().out


def test_graph_in_the_terminal_and_as_data(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["graph", str(file)]) == 0
    said = capsys.readouterr().out
    assert "web1 ■ web 10.10.0" in said and "tor1 ═══ tor2" in said
    assert run(["graph", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"id": "vm:web1", "kind": "vm", "name": "web1", "guest": "namespace"} in found["nodes"]


@pytest.mark.parametrize("name", ["shop.png", "shop", "missing/shop.svg"])
def test_graph_refuses_what_it_cannot_write(
    name: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["graph", str(file), "-o", str(tmp_path / name)]) == 2
    assert name.rpartition("/")[2] in capsys.readouterr().err


# --- test -----------------------------------------------------------------------------------------


def test_checks_of_a_running_lab(machine: Machine, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine.up = {"shop"}
    assert run(["test", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [["passed", "near"], ["passed", "far"]]
    assert lines[-1].startswith("shop: 2 checks passed (")
    assert machine.done == []  # the lab was there before and stays


def test_a_lab_that_was_started_for_its_checks_is_removed(machine: Machine, file: Path) -> None:
    assert run(["test", str(file)]) == 0
    assert machine.done == ["up", "down"]
    assert machine.up == set()


def test_keep(machine: Machine, file: Path) -> None:
    assert run(["test", str(file), "--keep"]) == 0
    assert machine.done == ["up"]


def test_a_failed_check(machine: Machine, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine.fails = {"far": True}
    assert run(["test", str(file)]) == 1
    said = capsys.readouterr().out
    assert "passed  near" in said and "FAILED  far" in said
    assert "stated: web1 -> web2 icmp delivered" in said and "seen:   nothing arrived" in said
    assert "left web1" in said
    assert "bundle: /bundles/1" in said
    assert "shop: 1 of 2 checks failed" in said
    assert machine.done == ["up", "bundle of far", "down"]


def test_evidence_of_all_checks_on_request(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-v", "test", str(file)]) == 0
    said = capsys.readouterr()
    assert said.out.count("arrived, answer back") == 2
    assert "links and guests" in said.err


def test_checks_as_json(machine: Machine, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine.fails = {"far": True}
    assert run(["test", str(file), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is False
    assert [(each["name"], each["verdict"]) for each in found["checks"]] == [
        ("near", "passed"),
        ("far", "failed"),
    ]
    assert found["bundles"] == ["/bundles/1"]
    assert [each.get("bundle") for each in found["checks"]] == [None, "/bundles/1"]


def test_select_and_repeat(machine: Machine, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["test", str(file), "--select", "near", "--select", "far", "--repeat", "3"]) == 0
    assert machine.runs == [["near", "far"]] * 3
    assert "6 checks passed" in capsys.readouterr().out


def test_the_lab_is_removed_when_it_did_not_come_up_whole(
    machine: Machine, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.error = ChangeError("a port is not bound")
    report = tmp_path / "report.xml"
    assert run(["test", str(file), "--junitxml", str(report)]) == 5
    assert machine.done == ["up", "down"]
    assert "a port is not bound" in capsys.readouterr().err
    (error,) = ElementTree.parse(report).iter("error")
    assert error.get("message") == "a port is not bound"


def test_a_lab_that_is_somebody_elses_is_left_alone(machine: Machine, file: Path) -> None:
    machine.error = ConflictError("another netctl is changing the lab shop")
    assert run(["test", str(file)]) == 4
    assert machine.done == ["up"]


def test_another_lab_is_not_started(machine: Machine, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["test", str(file), "--lab", "other"]) == 2
    assert "there is no lab other" in capsys.readouterr().err
    assert machine.done == []


def test_ctrl_c_during_checks_removes_the_lab(
    machine: Machine, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(dataplane.checks, "run_checks", interrupted)
    assert run(["test", str(file)]) == 130
    assert machine.done == ["up", "down"]


def test_a_file_without_checks_starts_nothing(
    machine: Machine, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(LAB.partition("checks:")[0])
    assert run(["test", str(file)]) == 0
    assert "has no checks" in capsys.readouterr().out
    assert machine.done == []


def test_junit_report(machine: Machine, file: Path, tmp_path: Path) -> None:
    machine.fails = {"far": True}
    report = tmp_path / "new" / "report.xml"
    assert run(["test", str(file), "--junitxml", str(report)]) == 1
    root = ElementTree.parse(report).getroot()
    suite = root.find("testsuite")
    assert root.tag == "testsuites" and suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    assert [case.get("name") for case in suite.iter("testcase")] == ["near", "far"]
    (failure,) = suite.iter("failure")
    assert failure.get("message") == "nothing arrived"
    assert "bundle: /bundles/1" in (failure.text or "")
    bundles = {"name": "bundle", "value": "/bundles/1"}
    assert [each.attrib for each in suite.findall("properties/property")] == [bundles]
    assert [each.attrib for each in suite.findall("testcase/properties/property")] == [bundles]


def test_junit_report_that_cannot_be_written(machine: Machine, file: Path, tmp_path: Path) -> None:
    assert run(["test", str(file), "--junitxml", str(tmp_path)]) == 2
    assert run(["test", str(file), "--junitxml", str(file / "x.xml")]) == 2
    assert machine.done == []


def test_junit_is_well_formed_whatever_the_names(file: Path) -> None:
    check = load(file).file.checks[0]
    ugly = "<&>\"'\x00\x1b[31m\ud800\ufffe]]> Größe"
    result = Result(check, ugly, False, 0.1, ugly, ugly, (ugly,))
    told = [Told(result, [ugly], Path("/x")), Told(dataclasses.replace(result, passed=True))]
    root = ElementTree.fromstring(document(Outcome(ugly, file, told)))
    assert len(list(root.iter("testcase"))) == 2
    for case in root.iter("testcase"):
        assert "Größe" in str(case.get("name"))


# --- ping -----------------------------------------------------------------------------------------


def answers(*times: float | None) -> Any:
    def send(
        intent: Any, lab: str, source: str, target: str, count: int, *, size: Any, on_ping: Any
    ) -> list[Ping]:
        assert (lab, source, target) == ("shop", "web1", "web2")
        pings = [
            Ping(n, rtt, "answered" if rtt is not None else "nothing arrived", ("left web1",))
            for n, rtt in enumerate(times[:count], 1)
        ]
        for one in pings:
            on_ping(one)
        return pings

    return send


def test_ping(machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    machine.up = {"shop"}
    monkeypatch.setattr(dataplane.checks, "ping", answers(0.5, 0.3, 0.4))
    assert run(["ping", "web1", "shop.web2"]) == 0
    assert "3 sent, 3 answered; 0.300 / 0.400 / 0.500 ms" in capsys.readouterr().out
    monkeypatch.setattr(dataplane.checks, "ping", answers(0.5, None, 0.4))
    assert run(["ping", "web1", "web2"]) == 1
    said = capsys.readouterr().out
    assert "nothing arrived" in said and "left web1" in said and "3 sent, 2 answered" in said
    assert run(["ping", "web1", "web2", "--json", "-c", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["answered"] == 1


def test_ping_across_labs(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.up = {"shop", "other"}
    assert run(["ping", "shop.web1", "other.web2"]) == 2
    assert "two labs" in capsys.readouterr().err


# --- exec and shell: finding the node -------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["exec", "wbe1", "--", "true"], "the lab shop has no node wbe1; did you mean web1?"),
        (["exec", "shop.nothing", "true"], "the lab shop has no node nothing"),
        (["exec", "_central", "true"], "has no node _central"),
        (["exec", "web1"], "missing argument"),
        (["exec", "web1", "--"], "which command?"),
        (["exec", "web1", "--lab", "shop"], "which command?"),
        (["exec", "web1", "--help"], "--help is no command"),
        (["exec", "web1", "--lab=nolab", "--", "true"], "there is no lab nolab"),
        (["exec", "web1", "--lab", "nolab", "true"], "there is no lab nolab"),
        (["shell", "wbe1"], "did you mean web1?"),
    ],
)
def test_nodes_that_are_not_there(
    arguments: list[str], words: str, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.up = {"shop"}
    assert run(arguments) == 2
    assert words in capsys.readouterr().err


# --- completion -----------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from netctl.cli import options

    run_directory, namespaces = tmp_path / "run", tmp_path / "netns"
    for lab in ("shop", "other"):
        (run_directory / lab).mkdir(parents=True)
    namespaces.mkdir()
    for name in ("shop.web1", "shop.web2", "shop.hv1.cvm", "shop._central", "other.web1", "foreign"):
        (namespaces / name).touch()
    monkeypatch.setattr(options, "RUN", run_directory)
    monkeypatch.setattr(options, "NAMESPACES", namespaces)
    return tmp_path


def context(**params: str) -> Any:
    return SimpleNamespace(params=params)


def test_labs_and_nodes_complete(places: Path) -> None:
    from netctl.cli import options

    assert options.complete_lab("") == ["other", "shop"]
    assert options.complete_lab("s") == ["shop"]
    assert options.complete_node(context(lab="shop"), "web") == ["web1", "web2"]
    assert options.complete_node(context(), "shop.") == ["shop.hv1.cvm", "shop.web1", "shop.web2"]
    (places / "run" / "other").rmdir()
    assert options.complete_node(context(), "") == ["hv1.cvm", "web1", "web2"]


def test_completion_where_nothing_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from netctl.cli import options

    monkeypatch.setattr(options, "RUN", tmp_path / "none")
    monkeypatch.setattr(options, "NAMESPACES", tmp_path / "none")
    assert options.complete_lab("") == []
    assert options.complete_node(context(), "") == []
    assert options.complete_file(str(tmp_path / "none" / "x")) == []
    assert options.complete_check(context(file=str(tmp_path / "none")), "") == []


def test_files_and_checks_complete(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from netctl.cli import options

    (tmp_path / "labs").mkdir()
    (tmp_path / "labs" / "a.yml").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".hidden.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert options.complete_file("") == ["labs/", "shop.yaml"]
    assert options.complete_file("labs/") == ["labs/a.yml"]
    assert options.complete_file(f"{tmp_path}/sh") == [str(file)]
    assert options.complete_check(context(file=str(file)), "f") == ["far"]
