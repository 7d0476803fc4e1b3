"""Faults: broken on purpose, left so by apply, mended by heal; and stories that use them."""

from __future__ import annotations

from typing import Any

import yaml

from tests.live.conftest import Lab, Ping, netctl

LAB: dict[str, Any] = yaml.safe_load("""
hosts: {hv1: {}, hv2: {}}
vpcs: {shop: {}}
subnets:
  lan: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}
  app: {type: overlay, vpc: shop, cidr: 192.168.1.0/24}
vms:
  a: {host: hv1, nics: [{subnet: lan}, {subnet: app}]}
  b: {host: hv2, nics: [{subnet: lan}, {subnet: app}]}
""")

STORIES: list[dict[str, Any]] = yaml.safe_load("""
- name: an uplink
  steps:
    - {traffic: {from: a, to: b}}
    - {fail: link hv1 eth0, max_outage: 1s}
    - {check: {from: a, to: b}, within: 2s}
    - {check: {from: a/1, to: b/1}, within: 2s}
    - {heal: link hv1 eth0}
    - {fail: link hv1 eth1, max_outage: 1s}
    - {check: {from: b, to: a}, within: 2s}
- name: a whole switch
  steps:
    - {fail: switch tor1}
    - {check: {from: a, to: b}, within: 3s}
    - {heal: all}
    - {fail: switch tor2}
    - {check: {from: a, to: b}, within: 3s}
- name: both ways out of a host
  steps:
    - {fail: link hv2 eth0}
    - {fail: link hv2 eth1}
    - {check: {from: a, to: b, expect: dropped}}
    - {heal: link hv2 eth1}
    - {check: {from: a, to: b}, within: 2s}
- name: a host without power
  steps:
    - {fail: host hv2}
    - {check: {from: a, to: b, expect: dropped}}
    - {check: {from: a/1, to: b/1, expect: dropped}}
    - {heal: host hv2}
    - {check: {from: a, to: b}}
    - {check: {from: a/1, to: b/1}}
- name: a dead controller learns nothing new
  steps:
    - {fail: daemon hv2 ovn-controller}
    - {check: {from: a, to: b}}
    - {apply: {vms: {c: {host: hv1, nics: [{subnet: app}]}}}}
    - {check: {from: a/1, to: c}}
    - {check: {from: b/1, to: c, expect: dropped}}
    - {heal: all}
    - {check: {from: c, to: b/1}}
- name: the patch is gone with its story
  steps:
    - {check: {from: a, to: 192.168.1.4, expect: dropped}}
""")


def test_stories_hold_and_leave_the_lab_as_it_was(lab: Lab) -> None:
    intent = LAB | {"checks": STORIES}
    lab.up(intent)
    report = netctl("test", lab.file, "--json").json()
    assert [check["verdict"] for check in report["checks"]] == ["passed"] * len(STORIES), report
    netctl("plan", lab.file)
    status = netctl("status", lab.name, "--json").json()
    assert (status["state"], status["faults"]) == ("ready", [])


def test_a_story_that_falls_is_told_with_its_step_and_heals(lab: Lab) -> None:
    steps = [{"fail": "host hv2"}, {"check": {"from": "a", "to": "b"}, "within": "300ms"}]
    lab.up(LAB | {"checks": [{"name": "hopeless", "steps": steps}]})
    report = netctl("test", lab.file, "--json", code=1).json()
    [check] = report["checks"]
    assert check["seen"].startswith("step 2 (check a -> b delivered): never arrived at b/0"), check
    assert netctl("status", lab.name, "--json").json()["state"] == "ready"
    netctl("ping", "--lab", lab.name, "a", "b")


def test_what_is_broken_stays_broken_until_it_is_healed(lab: Lab) -> None:
    lab.up(LAB)
    netctl("fail", "--lab", lab.name, "link", "hv1", "eth0")
    netctl("fail", "--lab", lab.name, "daemon", "hv2", "ovn-controller")
    broken = ["link hv1 eth0", "daemon hv2 ovn-controller"]
    assert netctl("plan", lab.file, "--json").json()["changes"] == []
    assert netctl("apply", lab.file, "--json").json()["faults"] == broken
    status = netctl("status", lab.name, "--json").json()
    assert (status["state"], status["faults"], status["trouble"]) == ("degraded", broken, [])
    [hv1, hv2] = status["hosts"]
    assert hv1["bonds"][0]["active"] == "eth1"
    assert hv2["daemons"]["ovn-controller"] is False
    assert "NO-CARRIER" in lab.run("hv1", "ip", "-br", "link", "show", "eth0")
    assert netctl("heal", "--lab", lab.name, "link", "hv1", "eth0", "--json").json()["faults"] == broken[1:]
    assert netctl("heal", "--lab", lab.name, "all", "--json").json()["faults"] == []
    assert netctl("status", lab.name, "--json").json()["state"] == "ready"


def test_an_uplink_fails_and_returns_under_traffic(lab: Lab) -> None:
    lab.up(LAB)
    address = lab.run("b", "ip", "-4", "-br", "addr", "show", "eth0").split()[2].partition("/")[0]
    ping = Ping(lab, "a", address)
    netctl("fail", "--lab", lab.name, "link", "hv1", "eth0")
    netctl("heal", "--lab", lab.name, "all")
    assert ping.lost() <= 50, "more than 0.5 s of a 10 ms ping"


def test_what_cannot_fail_is_refused_and_nothing_changes(lab: Lab) -> None:
    lab.up(LAB)
    for words, said in (
        (["link", "hv1", "eth9"], "Its NICs are eth0, eth1"),
        (["switch", "tor3"], "The switches are tor1, tor2"),
        (["host", "hv7"], "there is no host `hv7`"),
        (["daemon", "hv1", "ovn-control"], "Did you mean `ovn-controller`?"),
        (["cable", "hv1"], "nothing that can fail"),
        (["link", "hv1"], "does not say enough"),
    ):
        done = netctl("fail", "--lab", lab.name, *words, code=2)
        assert said in done.err, (words, done.err)
    assert netctl("status", lab.name, "--json").json()["state"] == "ready"
    assert netctl("heal", "--lab", lab.name, "all").out.strip() == "nothing is broken on purpose"


def test_down_removes_a_broken_lab(lab: Lab) -> None:
    lab.up(LAB)
    netctl("fail", "--lab", lab.name, "host", "hv1")
    netctl("fail", "--lab", lab.name, "switch", "tor2")
    netctl("down", lab.name)
    assert lab.remains() == []


RING: dict[str, Any] = yaml.safe_load("""
fabric: {switches: {tor1: {}, tor2: {}, tor3: {}}, links: [[tor1, tor2], [tor2, tor3], [tor3, tor1]]}
hosts:
  hv1: {nics: {eth0: {switch: tor1}, eth1: {switch: tor2}}}
  hv2: {nics: {eth0: {switch: tor2}, eth1: {switch: tor3}}}
subnets: {lan: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}}
vms:
  a: {host: hv1, nics: [{subnet: lan}]}
  b: {host: hv2, nics: [{subnet: lan}]}
physical: {printer: {switch: tor3, vlan: 10, ip: 10.10.0.200/24}}
checks:
  - {from: a, to: b}
  - {from: printer, to: a}
  - name: a link of the ring
    steps:
      - {fail: link tor1 tor3}
      - {check: {from: a, to: printer}, within: 10s}
      - {heal: all}
      - {check: {from: a, to: printer}}
  - name: a switch of the ring
    steps:
      - {fail: switch tor2}
      - {check: {from: a, to: b}, within: 10s}
      - {heal: all}
      - {check: {from: a, to: b}}
""")


def test_a_ring_is_ready_when_it_says_so_and_survives_a_cut(lab: Lab) -> None:
    lab.up(RING)
    report = netctl("test", lab.file, "--json").json()
    assert [check["verdict"] for check in report["checks"]] == ["passed"] * 4, report
