from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from dataplane.checks import describe, run_checks
from dataplane.checks.run import _batches, _selected
from netctl.errors import ConflictError, InputError
from netctl.model import Intent
from netctl.model.check import Check

PLAIN = Check.model_validate({"from": "w1", "to": "w2"})
STORY = Check.model_validate({"steps": [{"check": {"from": "w1", "to": "w2"}}]})


def with_checks(intent: Intent, *checks: dict[str, Any]) -> Intent:
    made = [Check.model_validate(check) for check in checks]
    return dataclasses.replace(intent, file=intent.file.model_copy(update={"checks": made}))


@pytest.mark.parametrize(
    ("check", "name"),
    [
        ({"name": "a name", "from": "w1", "to": "w2"}, "a name"),
        ({"from": "w1", "to": "w2"}, "w1 -> w2 icmp delivered"),
        ({"from": "w1", "to": "w2", "protocol": "tcp", "port": 80}, "w1 -> w2 tcp/80 delivered"),
        (
            {"from": "w1", "to": "w2", "vlan": 20, "size": 9, "count": 3, "expect": "dropped"},
            "w1 -> w2 icmp vlan 20 size 9 x 3 dropped",
        ),
        ({"steps": [{"fail": "host hv1"}, {"heal": "all"}]}, "a story of 2 steps"),
    ],
)
def test_names(check: dict[str, Any], name: str) -> None:
    assert describe(Check.model_validate(check)) == name


def test_a_story_is_a_batch_of_its_own() -> None:
    checks = [PLAIN, PLAIN, STORY, STORY, PLAIN, PLAIN, PLAIN]
    assert [len(batch) for batch in _batches(checks, 2)] == [2, 1, 1, 2, 1]
    assert [check for batch in _batches(checks, 2) for check in batch] == checks
    assert list(_batches([], 2)) == []


@pytest.mark.parametrize("select", [None, [], ["DELIVERED"], ["w1*"], ["nothing", "icmp"], ["*"]])
def test_selected(select: list[str] | None) -> None:
    assert _selected("w1 -> w2 icmp delivered", select)


@pytest.mark.parametrize("select", [["nothing"], ["w2*"], ["icm?"]])
def test_not_selected(select: list[str]) -> None:
    assert not _selected("w1 -> w2 icmp delivered", select)


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ({"from": "t1", "to": "w2", "vlan": 20, "size": 1401}, "tagged payload"),
        ({"from": "server", "to": "203.0.113.60", "on_uplink": "eth0"}, "has no uplinks"),
        ({"steps": [{"fail": "host hv1"}]}, "fail"),
    ],
)
def test_what_cannot_be_checked_is_refused_before_anything_is_sent(
    intent: Intent, check: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        run_checks(with_checks(intent, check), "nosuchlab")


def test_a_lab_that_does_not_run(intent: Intent) -> None:
    with pytest.raises(ConflictError, match="not running"):
        run_checks(with_checks(intent, {"from": "w1", "to": "w2"}), "nosuchlab")
