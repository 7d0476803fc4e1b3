"""The state between, for a northd that cannot see switches go and come at once."""

from __future__ import annotations

from netctl.model.state import Ref, Row, State
from netctl.plan import apply, halfway, plan


def lab(switches: dict[str, list[str]], routers: tuple[str, ...] = ()) -> State:
    rows = [
        Row(
            "Logical_Switch",
            switch,
            {
                "external_ids": {"netctl": "lab"},
                "ports": tuple(Ref("Logical_Switch_Port", port) for port in ports),
            },
        )
        for switch, ports in switches.items()
    ]
    rows += [Row("Logical_Switch_Port", port, {}) for ports in switches.values() for port in ports]
    rows += [Row("Logical_Router", router, {}) for router in routers]
    return State("lab", {(row.table, row.name): row for row in rows})


def kinds(desired: State, observed: State) -> set[tuple[str, str]]:
    return {
        (change.table, change.action)
        for change in plan(desired, observed).changes
        if change.table in ("Logical_Switch", "Logical_Router") and change.action != "update"
    }


def test_nothing_between_where_only_one_kind_of_change_is() -> None:
    small, large = lab({"a": ["x"]}, ("r",)), lab({"a": ["x"], "b": []}, ("r", "s"))
    assert halfway(small, large) is None
    assert halfway(large, small) is None
    assert halfway(small, small) is None
    # A router that goes while a switch comes is no trouble.
    assert halfway(lab({"a": [], "b": []}), lab({"a": []}, ("r",))) is None


def test_old_switches_lose_all_first_and_go_then() -> None:
    old, new = lab({"a": ["x", "y"], "b": []}, ("r",)), lab({"c": ["x"], "b": []}, ("s",))
    first = halfway(new, old)
    assert first is not None
    assert kinds(first, old) == {("Logical_Switch", "create"), ("Logical_Router", "create")}
    assert kinds(new, first) == {("Logical_Switch", "delete"), ("Logical_Router", "delete")}
    reached = apply(plan(first, old), old)
    assert reached.northbound["Logical_Switch", "a"].columns == {"external_ids": {"netctl": "lab"}}
    assert ("Logical_Switch_Port", "y") not in reached.northbound
    assert reached.northbound["Logical_Switch", "c"].columns["ports"] == (Ref("Logical_Switch_Port", "x"),)
    assert len(plan(new, first)) == 2
