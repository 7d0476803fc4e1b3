"""Policies compiled: groups and sets take the changes, flows add up, zones stay; and what the words mean."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
import yaml

from netctl.compile import compile_intent
from netctl.compile.policies_basic import FIRST_ZONE, ZONES, zones
from netctl.compile.policies_flows import masks
from netctl.compile.policies_verdict import Packet, verdict
from netctl.intent import loads
from netctl.model import Intent
from netctl.model.intent import Port
from netctl.model.policy import selector_text
from netctl.model.state import State
from netctl.plan import plan

SUBNETS = {
    "lan": {"type": "vlan", "vlan": 10, "cidr": "10.10.0.0/24"},
    "old": {"type": "vlan-basic", "vlan": 20, "cidr": "10.20.0.0/24"},
}


def loaded(policies: dict[str, Any], people: dict[str, tuple[str, str]] | None = None, **more: Any) -> Intent:
    """An intent with these policies and VMs: their subnet and tier by name."""
    data = {
        "name": "lab",
        "hosts": {"hv1": {}},
        "subnets": SUBNETS,
        "vms": {
            name: {"categories": {"Tier": tier}, "nics": [{"subnet": subnet}]}
            for name, (subnet, tier) in (people or {}).items()
        },
        "policies": policies,
        **more,
    }
    return loads(yaml.safe_dump(data), "lab.yaml")


def compiled(intent: Intent) -> State:
    return compile_intent(intent, "unix:/sb.sock")


def tables(state: State) -> set[str]:
    return {table for table, _ in state.northbound}


APP = {
    "app": {
        "type": "application",
        "secured": {"Tier": "app"},
        "inbound": [{"from": {"Tier": "web"}, "services": ["tcp/80", "tcp/443"]}],
        "outbound": [],
    }
}
VMS = {"web1": ("lan", "web"), "web2": ("lan", "none"), "app1": ("lan", "app"), "app2": ("lan", "none")}


def test_a_change_of_categories_changes_only_who_is_in_groups_and_sets() -> None:
    before = compiled(loaded(APP, VMS))
    after = compiled(loaded(APP, VMS | {"web2": ("lan", "web"), "app2": ("lan", "app")}))
    changes = plan(after, before).changes
    assert {(change.action, change.table) for change in changes} == {
        ("update", "Address_Set"),
        ("update", "Port_Group"),
    }


def test_without_policies_in_force_nothing_is_there() -> None:
    saved = {"app": APP["app"] | {"mode": "save"}}
    bare = compiled(loaded({}, VMS | {"o": ("old", "app")}))
    kept = compiled(loaded(saved, VMS | {"o": ("old", "app")}))
    assert kept.northbound == bare.northbound
    assert kept.flows == bare.flows
    assert not tables(bare) & {"ACL", "Port_Group", "Address_Set", "Meter"}


def test_policies_of_other_networks_leave_a_network_alone() -> None:
    bare = compiled(loaded({}, VMS | {"o": ("old", "app")}))
    only_basic = compiled(loaded(APP, {"web1": ("lan", "web"), "o": ("old", "app")}))
    only_ovn = compiled(loaded(APP, VMS | {"o": ("old", "none")}))
    assert not tables(only_basic) & {"ACL", "Port_Group"}
    assert only_ovn.flows["hv1"].keys() == bare.flows["hv1"].keys()


def test_n_peers_and_m_services_cost_n_and_m_flows() -> None:
    def flows(peers: int, services: int) -> int:
        vms = {"app1": ("old", "app"), **{f"web{n}": ("lan", "web") for n in range(peers)}}
        rule = {"from": {"Tier": "web"}, "services": [f"tcp/{2 * n + 1}" for n in range(services)]}
        policy = {"app": {"type": "application", "secured": {"Tier": "app"}, "inbound": [rule]}}
        return len(compiled(loaded(policy, vms)).flows["hv1"])

    base = flows(1, 1)
    assert flows(41, 1) == base + 40
    assert flows(1, 31) == base + 30
    assert flows(41, 31) == base + 70


def test_rules_share_the_flows_of_their_peers() -> None:
    def flows(rules: int) -> int:
        vms = {"app1": ("old", "app"), **{f"web{n}": ("lan", "web") for n in range(20)}}
        listed = [{"from": {"Tier": "web"}, "services": [f"tcp/{n + 1}"]} for n in range(rules)]
        policy = {"app": {"type": "application", "secured": {"Tier": "app"}, "inbound": listed}}
        return len(compiled(loaded(policy, vms)).flows["hv1"])

    assert flows(11) == flows(1) + 10 * 2, "a conjunction and its service each"


def test_no_flow_is_larger_than_a_message() -> None:
    """A NIC with thousands of rules, and a VLAN with hundreds of NICs that are secured."""
    rules = [{"from": f"10.{n >> 8}.{n & 255}.0/24", "services": [f"tcp/{n + 1}"]} for n in range(6000)]
    policies = {"app": {"type": "application", "secured": {"Tier": "app"}, "inbound": rules}}
    vms = {f"app{n}": ("old", "app") for n in range(150)}
    more = {"subnets": SUBNETS | {"old": SUBNETS["old"] | {"cidr": "10.20.0.0/16"}}}
    flows = compiled(loaded(policies, vms, **more)).flows["hv1"].values()
    assert max(flow.actions.count("conjunction(") for flow in flows) < 2000
    copies = [
        flow for flow in flows if flow.bridge == "br.microseg" and "set_field:0x1->reg1" in flow.actions
    ]
    assert max(flow.actions.count("->reg6") for flow in flows) == 64
    many = [flow for flow in flows if "dl_dst=01:00" in flow.match and flow.bridge == "br.microseg"]
    told = [action for flow in many for action in flow.actions.split(",") if action.endswith("->reg1")]
    assert copies
    assert len(told) == len(set(told)) == 150


def port(number: int) -> Port:
    return Port(
        vm=f"vm{number}",
        index=0,
        number=number,
        host="hv1",
        subnet="old",
        mac="50:6b:8d:00:00:01",
        ip=None,
        mode="access",
        trunked=(),
        mtu=1500,
        gateway=None,
        network=None,
    )


def test_zones_are_apart_and_stay() -> None:
    some = zones([port(number) for number in (1, 5, 9)])
    more = zones([port(number) for number in (1, 2, 5, 7, 9)])
    assert some.items() <= more.items()
    crowded = zones([port(number) for number in (3, ZONES + 3, 2 * ZONES + 3, 4)])
    assert len(set(crowded.values())) == 4
    assert all(FIRST_ZONE <= zone <= 65535 for zone in crowded.values())


@pytest.mark.parametrize(("first", "last"), [(1, 65535), (0, 0), (80, 80), (5000, 5010), (1023, 1025)])
def test_masks_are_the_range_and_nothing_else(first: int, last: int) -> None:
    found = [mask.split("/") for mask in masks(first, last)]
    fits = [
        number
        for number in range(65536)
        for value, *mask in found
        if number & (int(mask[0], 16) if mask else 0xFFFF) == int(value, 0)
    ]
    assert fits == list(range(first, last + 1))


def test_the_same_selector_has_the_same_name() -> None:
    assert selector_text({"a": "x", "b": "y"}) == selector_text({"b": "y", "a": "x"}) == "a=x b=y"
    assert selector_text({"a": ["x", "y"]}) == selector_text({"a": ["y", "x"]})
    assert selector_text({"a": "x b=y"}) != selector_text({"a": "x", "b": "y"})


# --- what the words mean, by example -----------------------------------------------------------------------


def said(intent: Intent, sender: str, receiver: str, protocol: str = "tcp", number: int = 80) -> str:
    """What becomes of a packet, and by which rule."""
    source, target = intent.port(sender), intent.port(receiver)
    assert source.ip is not None and target.ip is not None
    packet = Packet(source.name, target.name, source.ip, target.ip, protocol, number)
    decided = verdict(intent, packet)
    return " ".join([decided.outcome, *map(str, (decided.path or ())[1:])])


PEOPLE = {"web1": ("lan", "web"), "app1": ("lan", "app"), "app2": ("lan", "app"), "db1": ("lan", "db")}


def test_a_list_allows_what_it_lists_and_nothing_else() -> None:
    intent = loaded(APP, PEOPLE)
    assert said(intent, "web1", "app1") == "allow app inbound 0"
    assert said(intent, "web1", "app1", number=81) == "drop app inbound"
    assert said(intent, "db1", "app1") == "drop app inbound"
    assert said(intent, "app1", "web1") == "drop app outbound"
    assert said(intent, "web1", "db1") == "allow"


def test_between_secured_vms_only_intra_group_decides() -> None:
    policy = APP["app"] | {"inbound": [{"from": "any"}], "outbound": [{"to": "any"}]}
    assert said(loaded({"app": policy}, PEOPLE), "app1", "app2") == "drop app intra_group"
    open_ = policy | {"intra_group": "allow"}
    assert said(loaded({"app": open_}, PEOPLE), "app1", "app2") == "allow app intra_group"
    some = loaded({"app": policy | {"intra_group": {"services": ["tcp/80"]}}}, PEOPLE)
    assert said(some, "app1", "app2") == "allow app intra_group services"
    assert said(some, "app1", "app2", "udp") == "drop app intra_group"


def test_lists_of_several_policies_add_up() -> None:
    more = {
        "more": {"type": "application", "secured": {"Tier": "app"}, "inbound": [{"from": {"Tier": "db"}}]}
    }
    intent = loaded(APP | more, PEOPLE)
    assert said(intent, "web1", "app1") == "allow app inbound 0"
    assert said(intent, "db1", "app1") == "allow more inbound 0"
    assert said(intent, "db1", "app1", "udp") == "allow more inbound 0"
    assert said(intent, "web1", "app1", "udp").startswith("drop")


def test_reject_is_for_what_no_rule_allows() -> None:
    rules = [{"from": "any", "action": "reject"}, {"from": {"Tier": "web"}}]
    intent = loaded({"app": APP["app"] | {"inbound": rules}}, PEOPLE)
    assert said(intent, "web1", "app1") == "allow app inbound 1"
    assert said(intent, "db1", "app1") == "reject app inbound 0"


def test_quarantine_comes_first_and_reaches_the_other_end() -> None:
    sick = {"type": "quarantine", "secured": {"Tier": "app"}}
    assert said(loaded({"sick": sick}, PEOPLE), "web1", "app1") == "drop sick"
    assert said(loaded({"sick": sick}, PEOPLE), "app1", "app2") == "drop sick intra_group"
    forensic = sick | {"inbound": [{"from": {"Tier": "db"}, "services": ["tcp/22"]}]}
    closed = {"db": {"type": "application", "secured": {"Tier": "db"}, "outbound": []}}
    apart = {"apart": {"type": "isolation", "between": [{"Tier": "db"}, {"Tier": "app"}]}}
    intent = loaded({"sick": forensic} | closed | apart, PEOPLE)
    assert said(intent, "db1", "app1", number=22) == "allow sick inbound 0"
    assert said(intent, "db1", "app1", number=23).startswith("drop")
    assert said(intent, "app1", "db1", number=22) == "drop sick"


def test_isolation_comes_before_application() -> None:
    apart = {"apart": {"type": "isolation", "between": [{"Tier": "web"}, {"Tier": "app"}]}}
    intent = loaded(APP | apart, PEOPLE)
    assert said(intent, "web1", "app1") == "drop apart"
    assert said(intent, "app1", "web1") == "drop apart"
    assert said(intent, "web1", "db1") == "allow"


def test_a_shared_service_is_allowed_at_both_ends() -> None:
    dns = {
        "type": "shared-service",
        "secured": {"Tier": "db"},
        "inbound": [{"from": "any", "services": ["udp/53"]}],
    }
    intent = loaded(APP | {"dns": dns}, PEOPLE)
    assert said(intent, "app1", "db1", "udp", 53) == "allow dns inbound 0"
    assert said(intent, "app1", "db1", "tcp", 53) == "drop app outbound"
    assert said(intent, "web1", "db1", "tcp", 53) == "drop dns inbound"
    plain = loaded(APP | {"dns": dns | {"type": "application"}}, PEOPLE)
    assert said(plain, "app1", "db1", "udp", 53) == "drop app outbound"


def test_monitor_blocks_nothing_and_tells() -> None:
    intent = loaded({"app": APP["app"] | {"mode": "monitor"}}, PEOPLE)
    db, app = intent.port("db1"), intent.port("app1")
    assert db.ip is not None and app.ip is not None
    decided = verdict(intent, Packet(db.name, app.name, db.ip, app.ip, "tcp", 80))
    assert (decided.outcome, decided.watched) == ("allow", (("policies", "app", "inbound"),))


def test_the_same_address_is_somebody_else_in_another_vpc() -> None:
    """A web VM of one VPC has the address of an open VM of the other."""
    data: dict[str, Any] = {
        "vpcs": {"v1": {}, "v2": {}},
        "subnets": {
            name: {"type": "overlay", "vpc": name, "cidr": "192.168.1.0/24"} for name in ("v1", "v2")
        },
        "vms": {
            "web1": {"categories": {"Tier": "web"}, "nics": [{"subnet": "v1", "ip": "192.168.1.10"}]},
            "app1": {"categories": {"Tier": "app"}, "nics": [{"subnet": "v1"}]},
            "imp2": {"nics": [{"subnet": "v2", "ip": "192.168.1.10"}]},
            "app2": {"categories": {"Tier": "app"}, "nics": [{"subnet": "v2"}]},
        },
    }
    intent = loaded(APP, **data)
    assert said(intent, "web1", "app1") == "allow app inbound 0"
    assert said(intent, "imp2", "app2") == "drop app inbound"


def test_a_floating_ip_is_its_vm() -> None:
    data: dict[str, Any] = {
        "vpcs": {"v1": {"external": [{"subnet": "out"}], "floating_ips": {"203.0.113.60": "web1"}}},
        "subnets": {
            "out": {"type": "external", "vlan": 30, "cidr": "203.0.113.0/24", "gateway": "203.0.113.1"},
            "in": {"type": "overlay", "vpc": "v1", "cidr": "192.168.1.0/24"},
            "lan": {"type": "vlan", "vlan": 10, "cidr": "10.10.0.0/24", "gateway": "10.10.0.1"},
        },
        "vms": {
            "web1": {"categories": {"Tier": "web"}, "nics": [{"subnet": "in"}]},
            "web2": {"categories": {"Tier": "web"}, "nics": [{"subnet": "in"}]},
            "app1": {"categories": {"Tier": "app"}, "nics": [{"subnet": "lan"}]},
        },
    }
    intent = loaded(APP, **data)
    app = intent.port("app1").ip
    assert app is not None
    floating = IPv4Address("203.0.113.60")
    assert verdict(intent, Packet(None, "app1/0", floating, app, "tcp", 80)).outcome == "allow"
    router = next(way.router_ip for way in intent.gateways)
    assert verdict(intent, Packet(None, "app1/0", router, app, "tcp", 80)).outcome == "drop"
