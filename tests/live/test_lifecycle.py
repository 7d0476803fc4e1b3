r"""up, plan, apply and down as users run them: ready means ready, and only what differs is touched.

        web1   app1             web2   db1
          \    /                  \    /
           hv1                     hv2
          /   \                   /   \
       tor1 ---+------ fabric ---+--- tor2
"""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest

from tests.live.conftest import Lab, Ping, netctl


def address(lab: Lab, vm: str, device: str = "eth0") -> str:
    """The IPv4 address of a VM's device, as the VM's own kernel tells it."""
    return lab.run(vm, "ip", "-4", "-o", "addr", "show", "dev", device).split("inet ")[1].split("/")[0]


def test_the_first_packet_arrives(lab: Lab, first_lab: dict[str, Any]) -> None:
    lab.up(first_lab)
    for source, target in (("web1", "web2"), ("app1", "db1"), ("db1", "app1"), ("web2", "web1")):
        # One packet, 1 s: whatever would still have to be learned or resolved on the way would lose it.
        lab.run(source, "ping", "-c1", "-W1", "-n", address(lab, target))


def test_a_vpc_is_closed_to_a_vlan(lab: Lab, first_lab: dict[str, Any]) -> None:
    lab.up(first_lab)
    lab.run("web1", "ip", "route", "add", "default", "dev", "eth0")
    lab.run("web1", "ping", "-c2", "-i0.2", "-W1", "-n", address(lab, "app1"), code=1)


def test_apply_of_the_same_file_changes_nothing_and_loses_nothing(
    lab: Lab, first_lab: dict[str, Any]
) -> None:
    lab.up(first_lab)
    assert netctl("plan", lab.file, "--json").json()["changes"] == []
    ping = Ping(lab, "web1", address(lab, "web2"))
    routed = Ping(lab, "app1", address(lab, "db1"))
    for _ in range(3):
        netctl("apply", lab.file)
    assert ping.lost() == 0
    assert routed.lost() == 0


def test_an_addition_touches_nothing_else(lab: Lab, first_lab: dict[str, Any]) -> None:
    lab.up(first_lab)
    bigger = copy.deepcopy(first_lab)
    bigger["subnets"]["more"] = {"type": "vlan", "vlan": 40, "cidr": "10.40.0.0/24"}
    bigger["subnets"]["deep"] = {"type": "overlay", "vpc": "shop", "cidr": "192.168.3.0/24"}
    bigger["vms"]["app2"] = {"host": "hv2", "nics": [{"subnet": "app"}]}
    bigger["vms"]["more1"] = {"nics": [{"subnet": "more"}]}
    bigger["vms"]["deep1"] = {"host": "hv1", "nics": [{"subnet": "deep"}]}
    before = address(lab, "web2")
    pings = [Ping(lab, "web1", before), Ping(lab, "app1", address(lab, "db1"))]
    lab.apply(bigger)
    assert address(lab, "web2") == before
    lab.run("app2", "ping", "-c1", "-W1", "-n", address(lab, "deep1"))
    lab.apply(first_lab)
    assert [ping.lost() for ping in pings] == [0, 0]


def dump(lab: Lab) -> dict[str, str]:
    """Everything that a lab consists of, without what is new each time (UUIDs, PIDs, counters, times)."""
    state = {"namespaces": lab.run("web1", "true") or str(sorted(_namespaces(lab)))}
    tables = (
        "Logical_Switch",
        "Logical_Switch_Port",
        "Logical_Router",
        "Logical_Router_Port",
        "Port_Group",
        "ACL",
    )
    for table in tables:
        columns = "name,external_ids,options" if table not in ("ACL", "Port_Group") else "external_ids"
        if table == "Logical_Switch" or table == "Logical_Router":
            columns = (
                "name,external_ids,other_config" if table == "Logical_Switch" else "name,external_ids,options"
            )
        text = lab.tool(
            "_central", "ovn-nbctl", "--format=csv", "--no-heading", f"--columns={columns}", "list", table
        )
        state[table] = "\n".join(sorted(text.splitlines()))
    for node in ("hv1", "hv2", "tor1", "tor2"):
        text = lab.tool(
            node, "ovs-vsctl", "--format=csv", "--no-heading", "--columns=name,tag,bond_mode", "list", "Port"
        )
        state[f"{node} ports"] = "\n".join(sorted(text.splitlines()))
        # Indexes are the kernel's, and a link that was made again has a new one.
        links = [line.split()[1].split("@")[0] for line in lab.run(node, "ip", "-o", "link").splitlines()]
        state[f"{node} links"] = str(sorted(links))
    for node in ("hv1", "hv2"):
        text = lab.tool(node, "ovs-ofctl", "--no-stats", "--no-names", "dump-flows", "br0")
        state[f"{node} br0 flows"] = "\n".join(sorted(line.strip() for line in text.splitlines()[1:]))
    return state


def _namespaces(lab: Lab) -> list[str]:
    import os

    return [name for name in os.listdir("/run/netns") if name.startswith(f"{lab.name}.")]


def test_there_and_back_leaves_exactly_the_start(lab: Lab, first_lab: dict[str, Any]) -> None:
    lab.up(first_lab)
    start = dump(lab)
    other = copy.deepcopy(first_lab)
    other["hosts"]["hv3"] = {}
    other["vpcs"]["blue"] = {}
    other["subnets"]["blue1"] = {"type": "overlay", "vpc": "blue", "cidr": "192.168.1.0/24"}
    other["subnets"]["web"]["vlan"] = 12
    other["vms"]["b1"] = {"host": "hv3", "nics": [{"subnet": "blue1"}, {"subnet": "web"}]}
    del other["vms"]["app1"]
    other["vms"]["web2"]["host"] = "hv3"
    other["checks"] = []
    lab.apply(other)
    assert dump_differs(lab, start)
    lab.run("b1", "ping", "-c1", "-W1", "-n", address(lab, "web2"))
    lab.apply(first_lab)
    assert dump(lab) == start
    lab.run("app1", "ping", "-c1", "-W1", "-n", address(lab, "db1"))


def dump_differs(lab: Lab, start: dict[str, str]) -> bool:
    return dump(lab) != start


@pytest.mark.parametrize(
    "node,role", [("hv1", "ovn-controller"), ("hv2", "ovs-vswitchd"), ("tor1", "ovs-vswitchd")]
)
def test_a_killed_daemon_is_shown_and_brought_back(
    lab: Lab, first_lab: dict[str, Any], node: str, role: str
) -> None:
    lab.up(first_lab)
    kill(lab, node, role)
    status = netctl("status", lab.name)
    assert role in status.out
    assert netctl("plan", lab.file, code=10).out.count(role)
    netctl("apply", lab.file)
    lab.run("web1", "ping", "-c1", "-W1", "-n", address(lab, "web2"))
    lab.run("app1", "ping", "-c1", "-W1", "-n", address(lab, "db1"))
    assert netctl("plan", lab.file, "--json").json()["changes"] == []


@pytest.mark.parametrize("role", ["ovnnb_db", "ovnsb_db", "ovn-northd"])
def test_a_killed_central_daemon_is_brought_back(lab: Lab, first_lab: dict[str, Any], role: str) -> None:
    lab.up(first_lab)
    kill(lab, "_central", role)
    netctl("apply", lab.file)
    first_lab["vms"]["late"] = {"host": "hv2", "nics": [{"subnet": "app"}]}
    lab.apply(first_lab)
    lab.run("app1", "ping", "-c1", "-W1", "-n", address(lab, "late"))


def kill(lab: Lab, node: str, role: str) -> None:
    import os
    import signal
    from pathlib import Path

    pid = int(Path(f"/run/netctl/{lab.name}/{node}/{role}.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_port_security(lab: Lab, first_lab: dict[str, Any]) -> None:
    lab.up(first_lab)
    target = address(lab, "web2")
    lab.run("web1", "ping", "-c1", "-W1", "-n", target)
    lab.run("web1", "ip", "addr", "add", "10.10.0.99/24", "dev", "eth0")
    lab.run("web1", "ping", "-c2", "-i0.2", "-W1", "-n", "-I", "10.10.0.99", target, code=1)
    lab.run("web1", "ip", "link", "set", "eth0", "address", "50:6b:8d:ff:ff:01")
    lab.run("web1", "ping", "-c2", "-i0.2", "-W1", "-n", target, code=1)
    # What the guest did to itself, apply puts right.
    netctl("apply", lab.file)
    lab.run("web1", "ping", "-c1", "-W1", "-n", target)
