"""What ovs-ofctl prints is read as flows; what it is told changes exactly what the plan says."""

from __future__ import annotations

from netctl.compile.flows import UNTAGGED, FlowSet
from netctl.drivers.openflow import _message, parse
from netctl.model.change import FlowChange
from netctl.model.flow import Flow, cookie, learned_cookie, owner_cookie, switching

LAB = "lab"
OURS = f"{cookie(LAB, 'vm web1'):#x}"
LEARNED = f"{learned_cookie(LAB):#x}"
DUMP = f"""\
 cookie={OURS}, priority=100,in_port=tap1,vlan_tci=0x0000/0x1fff actions=push_vlan:0x8100,goto_table:1
 cookie={OURS}, table=1, priority=0 actions=output:"br0.local.u"
 cookie={LEARNED}, table=20, hard_timeout=300, priority=100,vlan_tci=0x000a/0x0fff actions=drop
 cookie={OURS}, table=2, in_port="br0.local.u" actions=drop
 cookie={OURS}, table=3, idle_timeout=10, send_flow_rem priority=7,arp actions=drop
"""


def test_flows_are_read_as_they_were_compiled() -> None:
    compiled = FlowSet(LAB)
    compiled.add(
        "br0.local", 0, 100, [UNTAGGED, "in_port=tap1"], ["push_vlan:0x8100", "goto_table:1"], "vm web1"
    )
    compiled.add("br0.local", 1, 0, [], ["output:br0.local.u"], "vm web1")
    read = parse("br0.local", DUMP, LAB)
    assert set(compiled.flows().values()) <= set(read)
    assert [flow.table for flow in read] == [0, 1, 2, 3]


def test_what_was_learned_is_none_of_ours() -> None:
    assert 20 not in {flow.table for flow in parse("br0.local", DUMP, LAB)}
    assert 20 in {flow.table for flow in parse("br0.local", DUMP.replace(LEARNED, OURS), LAB)}


def test_what_has_another_cookie_is_somebody_elses_but_for_the_flow_of_a_new_bridge() -> None:
    foreign = [
        "cookie=0x77, priority=5,arp actions=drop",
        "priority=60000 actions=drop",
        "table=1, priority=0 actions=NORMAL",
    ]
    assert parse("br0", "".join(f" {line}\n" for line in foreign), LAB) == []
    assert parse("br0", " priority=0 actions=NORMAL\n", LAB) == [switching("br0")]


def test_the_default_priority_is_not_printed() -> None:
    (flow,) = [flow for flow in parse("br0.local", DUMP, LAB) if flow.table == 2]
    assert (flow.priority, flow.match) == (32768, "in_port=br0.local.u")


def test_a_timeout_makes_a_flow_another_one() -> None:
    (flow,) = [flow for flow in parse("br0.local", DUMP, LAB) if flow.table == 3]
    assert flow.priority == 7 and flow.match == "arp"
    assert flow.actions == "idle_timeout=10, send_flow_rem drop"


def test_messages_add_ours_and_delete_only_ours() -> None:
    flow = Flow("br0.local", 3, 7, "in_port=tap1", "drop", 0x12, "vm web1")
    other = Flow("br0.local", 3, 7, "in_port=tap1", "goto_table:4", 0x12, "vm web1")
    add = "add cookie=0x12,table=3,priority=7,in_port=tap1 actions=drop"
    assert _message(FlowChange("hv1", None, flow)) == add
    assert _message(FlowChange("hv1", other, flow)) == add
    gone = _message(FlowChange("hv1", flow, None))
    assert gone == "delete_strict cookie=0x12/-1,table=3,priority=7,in_port=tap1"
    everything = Flow("br0.local", 3, 0, "", "drop", 0x12)
    assert _message(FlowChange("hv1", everything, None)) == "delete_strict cookie=0x12/-1,table=3,priority=0"


def test_cookies_of_owners_are_apart() -> None:
    assert cookie("a", "vm web1") >> 32 == owner_cookie("a") >> 32 == learned_cookie("a") >> 32
    assert owner_cookie("a") != owner_cookie("b")
    assert cookie("a", "vm web1") not in (learned_cookie("a"), cookie("a", "vm web2"))
