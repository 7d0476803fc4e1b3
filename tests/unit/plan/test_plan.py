"""Plans: carried out they give what was desired, and they tell people what they do."""

from __future__ import annotations

import json
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from netctl.model.change import Change, Plan
from netctl.model.flow import Flow, by_key
from netctl.model.state import Ref, Row, State, Value
from netctl.plan import apply, plan

NAMES = st.sampled_from(["web", "app", "shop", "web1/0", "."])
TABLES = st.sampled_from(["Logical_Switch", "Logical_Switch_Port", "Bridge"])
WORDS = st.text("abc=, ", min_size=1, max_size=4)
SETS = st.frozensets(WORDS, min_size=1, max_size=3).map(lambda words: tuple(sorted(words)))
REFS = st.frozensets(st.builds(Ref, TABLES, NAMES), min_size=1, max_size=3).map(
    lambda refs: tuple(sorted(refs))
)
VALUES: st.SearchStrategy[Value] = st.one_of(
    WORDS,
    st.integers(1, 4094),
    st.booleans(),
    SETS,
    REFS,
    st.dictionaries(st.sampled_from(["x", "y", "z"]), WORDS, min_size=1),
)
COLUMNS = st.dictionaries(st.sampled_from(["ports", "options", "tag", "addresses"]), VALUES)


def _database(rows: list[tuple[str, str, Mapping[str, Value]]]) -> dict[tuple[str, str], Row]:
    return {(table, name): Row(table, name, columns, f"thing {name}") for table, name, columns in rows}


DATABASES = st.lists(st.tuples(TABLES, NAMES, COLUMNS), max_size=6).map(_database)
STATES = st.builds(
    State, st.just("lab"), DATABASES, st.dictionaries(st.sampled_from(["hv1", "hv2", "tor1"]), DATABASES)
)


def _without_empty(state: State) -> dict[str, object]:
    return {name: dict(database) for name, database in state.databases() if database}


@given(STATES, STATES)
def test_carried_out_it_gives_what_was_desired(desired: State, observed: State) -> None:
    assert _without_empty(apply(plan(desired, observed), observed)) == _without_empty(desired)


@given(STATES)
def test_there_is_nothing_to_do_where_all_is_as_desired(state: State) -> None:
    nothing = plan(state, state)
    assert not nothing
    assert len(nothing) == 0
    assert str(nothing) == ""


@given(STATES, STATES)
def test_it_changes_only_what_differs(desired: State, observed: State) -> None:
    for change in plan(desired, observed).changes:
        assert change.action != "update" or change.columns
        for old, new in change.columns.values():
            assert old != new
            assert (old is None) or change.action != "create"
            assert (new is None) or change.action != "delete"


@given(STATES, STATES)
def test_every_change_is_a_line_and_json(desired: State, observed: State) -> None:
    found = plan(desired, observed)
    for change in found.changes:
        assert change.text[0] == {"create": "+", "update": "~", "delete": "-"}[change.action]
        assert "\n" not in change.text
    assert len(json.loads(json.dumps(found.to_json()))) == len(found)


@given(STATES, STATES)
def test_the_changes_of_a_database_are_together(desired: State, observed: State) -> None:
    found = plan(desired, observed)
    names = [name for name, _ in found.by_database()]
    assert len(names) == len(set(names))
    assert sum(len(changes) for _, changes in found.by_database()) == len(found)


def test_a_database_that_was_not_read_is_left_alone() -> None:
    desired = State("lab", {}, {"hv1": _database([("Bridge", "br0", {})]), "hv2": {}})
    observed = State("lab", {}, {}, unread=frozenset({"hv1"}))
    assert not plan(desired, observed)


def test_words() -> None:
    def text(change: Change) -> str:
        return change.text

    switch = Change("northbound", "create", "Logical_Switch", "web", {"ports": (None, ())}, "subnet web")
    assert text(switch) == "+ subnet web: Logical_Switch web"
    port = Change("hv1", "delete", "Port", "tap1", {}, "vm web1")
    assert text(port) == "- vm web1: Port tap1 of hv1"
    members = Change(
        "hv1",
        "update",
        "Bridge",
        "brAtlas",
        {"ports": ((Ref("Port", "tap1"), Ref("Port", "tap2")), (Ref("Port", "tap2"), Ref("Port", "tap3")))},
        "host hv1",
    )
    assert text(members) == "~ host hv1: Bridge brAtlas of hv1: ports -tap1, +tap3"
    settings = Change(
        "hv1",
        "update",
        "Open_vSwitch",
        ".",
        {"external_ids": ({"system-id": "hv1", "gone": "x"}, {"system-id": "hv2"})},
        "host hv1",
    )
    assert (
        text(settings)
        == "~ host hv1: Open_vSwitch of hv1: external_ids gone x -> unset, system-id hv1 -> hv2"
    )
    enabled = Change(
        "northbound", "update", "Logical_Switch_Port", "web1/0", {"enabled": (None, False)}, "vm web1"
    )
    assert text(enabled) == "~ vm web1: Logical_Switch_Port web1/0: enabled unset -> false"
    assert str(Plan("lab", (switch, port))) == f"{switch.text}\n{port.text}"


def _flow(actions: str, *, table: int = 0, cookie: int = 7, why: str = "vm web1") -> Flow:
    return Flow("br0.local", table, 100, "in_port=tap1", actions, cookie, why)


def _with_flows(*flows: Flow, unread: frozenset[str] = frozenset()) -> State:
    return State("lab", {}, {"hv1": {}}, unread, {"hv1": by_key(flows)})


def test_flows_come_change_and_go() -> None:
    desired = _with_flows(_flow("drop"), _flow("output:tap2", table=1))
    observed = _with_flows(_flow("NORMAL", why=""), _flow("drop", table=2, why=""))
    changes = plan(desired, observed)
    assert [change.text for change in changes] == [
        "~ vm web1: flow of br0.local of hv1: table=0,priority=100,in_port=tap1 actions=drop (was NORMAL)",
        "+ vm web1: flow of br0.local of hv1: table=1,priority=100,in_port=tap1 actions=output:tap2",
        "- hv1: flow of br0.local of hv1: table=2,priority=100,in_port=tap1 actions=drop",
    ]
    assert len(changes) == 3
    json.dumps(changes.to_json())
    assert apply(changes, observed) == desired


def test_a_flow_of_another_purpose_is_another_flow() -> None:
    (change,) = plan(_with_flows(_flow("drop", cookie=8)), _with_flows(_flow("drop"))).flows
    assert change.action == "update"


def test_flows_of_a_node_that_cannot_be_read_are_left_alone() -> None:
    assert not plan(_with_flows(_flow("drop")), State("lab", {}, {}, unread=frozenset({"hv1"})))
