"""What a bundle makes of checks, and how it keeps its size."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataplane import dumps
from dataplane.checks import Result
from netctl.cli import bundle
from netctl.errors import ChangeError
from netctl.model.check import Check

STORY = {
    "name": "failover",
    "steps": [
        {"check": {"from": "web1", "to": "web2"}},
        {"fail": "link hv1 eth0"},
        {"check": {"from": "web1", "to": "app1", "expect": "dropped"}},
        {"heal": "all"},
        {"check": {"from": "web2", "to": "web1"}},
    ],
}


def result(check: dict[str, object], seen: str) -> Result:
    return Result(Check.model_validate(check), "name", False, 0.1, "stated", seen)


@pytest.mark.parametrize(
    ("seen", "sender", "target"),
    [
        ("step 1 (check): never arrived", "web1", "web2"),
        ("step 2 (fail): no such link", "web1", "web2"),
        ("step 3 (check): arrived", "web1", "app1"),
        ("something else", "web2", "web1"),
    ],
)
def test_of_a_story_the_last_packet_is_sent_again(seen: str, sender: str, target: str) -> None:
    [probe] = bundle._probes(result(STORY, seen))
    assert (probe.from_, probe.to) == (sender, target)


def test_of_a_check_its_own(tmp_path: Path) -> None:
    [probe] = bundle._probes(result({"from": "web1", "to": "web2", "count": 5}, "step 1 away"))
    assert probe.from_ == "web1"
    assert bundle._probes(result({"steps": [{"fail": "switch tor1"}]}, "step 1 (fail): no")) == []


def test_texts_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MOST_OCTETS", 10)
    monkeypatch.setattr(bundle, "ALL_OCTETS", 15)
    made = bundle._Bundle(tmp_path)
    made.put("a.txt", "0123456789")
    made.put("hv1/b.txt", "0123456789")
    made.put("c.txt", "0123456789")
    assert (tmp_path / "a.txt").read_text() == "0123456789"
    assert (tmp_path / "hv1" / "b.txt").read_text() == "01234\n(cut)\n"
    assert made.trouble == ["hv1/b.txt: cut after 5 of 10 octets", "c.txt: cut after 0 of 10 octets"]


def test_an_error_is_a_line(tmp_path: Path) -> None:
    made = bundle._Bundle(tmp_path)

    def fails() -> str:
        raise ChangeError("hv1 is down", "Mend it.")

    made.attempt("a.txt", fails)
    made.attempt("b.txt", lambda: str({}["nothing"]))
    (tmp_path / "file").touch()
    made.put("file/c.txt", "no directory")
    assert made.trouble == ["a.txt: hv1 is down", "b.txt: KeyError: 'nothing'", "file/c.txt: File exists"]


def test_a_place_that_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert bundle._final("shop", tmp_path / "empty") == tmp_path / "empty"
    assert bundle._final("shop", tmp_path / "new") == tmp_path / "new"
    assert bundle._final("shop", tmp_path / "full") == tmp_path / "full-2"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bundle, "FAILURES", Path("full", "file"))  # cannot become a directory
    monkeypatch.setattr(bundle.tempfile, "gettempdir", lambda: str(tmp_path / "else"))
    assert bundle._final("shop", None).parent == tmp_path / "else" / "full" / "file"


def test_of_a_log_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dumps, "LOG", 12)
    log = tmp_path / "log"
    log.write_text("first line\nlast line\n")
    assert dumps._tail(log) == "(the last of 21 octets)\nlast line\n"
    log.write_text("short\n")
    assert dumps._tail(log) == "short\n"
