"""aCLI's words on a running lab: what they change, what they leave, and that it works then."""

from __future__ import annotations

import os
import pty
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live.conftest import NETCTL, Done, Lab, Ping, netctl

INTENT = """
hosts: {hv1: {}, hv2: {}}
subnets:
  ten: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}
  twenty: {type: vlan, vlan: 20, cidr: 10.20.0.0/24}
  thirty: {type: vlan-basic, vlan: 30, cidr: 10.30.0.0/24}
vms:
  web: {host: hv1, nics: [{subnet: ten}]}
  peer: {host: hv2, nics: [{subnet: ten}, {subnet: twenty}]}
checks:
  - {from: web, to: peer, expect: delivered}
"""
SEED = "vm.nic_create fooVM vlan_mode=kTrunked trunked_networks=10,20,30 network=vlan.10"
"""As the seed writes it."""


@pytest.fixture
def ahv(lab: Lab) -> Iterator[Lab]:
    lab.up(INTENT)
    yield lab


def acli(lab: Lab, *words: str, code: int = 0, **options: Any) -> Done:
    return netctl("acli", "--lab", lab.name, *words, code=code, **options)


def nics(lab: Lab) -> dict[str, dict[str, Any]]:
    """The NICs of the lab by vm/index."""
    return {f"{n['vm']}/{n['nic']}": n for n in netctl("status", lab.name, "--json").json()["nics"]}


def exported(lab: Lab) -> Any:
    return yaml.safe_load(netctl("export", "--lab", lab.name).out)


def test_the_seeds_trunk(ahv: Lab) -> None:
    before = nics(ahv)
    assert acli(ahv, "vm.create fooVM num_vcpus=2 memory=4G host=hv1").out == "foovm: complete\n"
    assert acli(ahv, SEED).out == "NicCreate: complete\n"
    there = nics(ahv)
    assert {name: there[name] for name in before} == before, "nobody else's NIC changed"

    # It is a trunk: VLAN 10 without a tag, 20 with one, and no other.
    checks = {
        **exported(ahv),
        "checks": [
            {"from": "foovm", "to": "peer", "expect": "delivered"},
            {"from": "foovm", "to": "peer/1", "vlan": 20, "expect": "delivered"},
            {"from": "foovm", "to": "peer/1", "vlan": 40, "expect": "dropped"},
        ],
    }
    file = ahv.file.with_name("checks.yaml")
    file.write_text(yaml.safe_dump(checks))
    netctl("test", file, "--lab", ahv.name)

    listed = acli(ahv, "vm.nic_list", "fooVM").out.splitlines()
    assert listed[0].split("  ")[0] == "NIC UUID" and len(listed) == 2
    assert listed[1].split()[1:] == [
        there["foovm/0"]["mac"],
        there["foovm/0"]["ip"],
        "ten",
        "kTrunked",
        "True",
    ]
    assert 'vlan_mode: "kTrunked"' in acli(ahv, "vm.get fooVM").out


def test_what_it_did_is_the_labs_intent(ahv: Lab) -> None:
    """The file on disk stays; `export` has it all, and is what the lab is."""
    written = ahv.file.read_text()
    acli(ahv, "vm.create a,b")
    acli(ahv, "net.create prod.40 vlan=40 ip_config=10.40.0.1/24")
    acli(ahv, "vm.nic_create a network=vlan.40")
    assert ahv.file.read_text() == written
    data = exported(ahv)
    assert data["subnets"]["prod-40"] == {
        "type": "vlan-basic",
        "vlan": 40,
        "cidr": "10.40.0.0/24",
        "gateway": "10.40.0.1",
    }
    assert data["vms"]["a"]["nics"][0]["subnet"] == "prod-40" and data["checks"]
    kept = ahv.file.with_name("kept.yaml")
    kept.write_text(netctl("export", "--lab", ahv.name).out)
    assert netctl("plan", kept).code == 0
    netctl("apply", ahv.file)
    assert "a" not in exported(ahv)["vms"]


def test_a_nic_comes_and_goes_beside_another_that_works(ahv: Lab) -> None:
    beside = Ping(ahv, "web", nics(ahv)["peer/0"]["ip"])
    first = nics(ahv)["web/0"]["mac"]
    acli(ahv, "vm.nic_create web network=vlan.20")
    second = nics(ahv)["web/1"]
    assert " 0% packet loss" in ahv.run("web", "ping", "-c2", "-i0.2", nics(ahv)["peer/1"]["ip"])
    acli(ahv, f"vm.nic_update web {second['mac']} connected=false rate=10mbit")
    assert ahv.run("web", "cat", "/sys/class/net/eth1/carrier").strip() == "0"
    acli(ahv, f"vm.nic_update web {second['mac']} connected=true rate=none")
    acli(ahv, f"vm.nic_update web {second['mac']} network=vlan.30")
    assert nics(ahv)["web/1"]["mac"] == second["mac"] and nics(ahv)["web/1"]["ip"].startswith("10.30.0.")
    acli(ahv, f"vm.nic_delete web {second['mac']}")
    assert beside.lost() == 0

    # The first goes, and the one behind it keeps what it had.
    acli(ahv, "vm.nic_create web network=vlan.20")
    second = nics(ahv)["web/1"]
    told = acli(ahv, f"vm.nic_delete web {first}")
    assert told.out == "NicDelete: complete\n" and "eth1 is eth0 now" in told.err
    only = nics(ahv)["web/0"]
    assert {key: only[key] for key in ("mac", "ip", "tap")} == {
        key: second[key] for key in ("mac", "ip", "tap")
    }
    assert " 0% packet loss" in ahv.run("web", "ping", "-c2", "-i0.2", nics(ahv)["peer/1"]["ip"])
    assert netctl("plan", _kept(ahv)).code == 0


def _kept(lab: Lab) -> Path:
    file = lab.file.with_name("export.yaml")
    file.write_text(netctl("export", "--lab", lab.name).out)
    return file


def test_a_file_of_commands(ahv: Lab) -> None:
    commands = ahv.file.with_name("commands")
    commands.write_text(
        f"# the seed's\nvm.create fooVM\n{SEED}\n\nvm.nic_list fooVM\nvm.nic_delete fooVM x\nvm.list\n"
    )
    done = acli(ahv, str(commands), code=2)
    assert done.out.startswith("foovm: complete\nNicCreate: complete\nNIC UUID")
    assert f"{commands}:6: vm.nic_delete fooVM x" in done.err and "VM name" not in done.out
    told = acli(ahv, "--json", "-", input="vm.list\nhost.list\n").json()["results"]
    assert [row["vm_name"] for row in told[0]["data"]] == ["foovm", "peer", "web"]
    assert [row["node_state"] for row in told[1]["data"]] == ["AcropolisNormal"] * 2
    commands.write_text("vm.creat x\nvm.delete fooVM\nnet.create\n")
    wrong = acli(ahv, str(commands), code=2).err
    assert f"{commands}:1:1: " in wrong and f"{commands}:3:1: " in wrong
    assert "foovm" in acli(ahv, "vm.list").out, "nothing of a file with mistakes is done"


def test_mistakes_change_nothing(ahv: Lab) -> None:
    before = exported(ahv)
    for line, said in {
        "vm.nic_create wbe network=ten": "there is no VM wbe; did you mean web?",
        "vm.nic_create web network=vlan.77": "none with VLAN 77",
        "vm.nic_create web network=ten ip=10.99.0.1": "10.99.0.1 is not in 10.10.0.0/24",
        "vm.nic_create web network=ten mac=01:00:00:00:00:01": "multicast",
        "net.create x vlan=4095": "4095 is more than 4094",
        "net.delete ten": "ten is used by peer/0, web/0",
    }.items():
        done = acli(ahv, line, code=2)
        assert said in done.err and done.err.count("\n") >= 2, "what is wrong, and what to do"
        assert not done.out
    assert exported(ahv) == before


def test_hosts_are_told_as_they_are(ahv: Lab) -> None:
    netctl("fail", "host", "hv2", "--lab", ahv.name)
    states = {
        row["hypervisor_dns_name"]: row["node_state"]
        for row in acli(ahv, "--json", "host.list").json()["results"][0]["data"]
    }
    assert states == {"hv1": "AcropolisNormal", "hv2": "Disconnected"}


def test_the_prompt(ahv: Lab) -> None:
    """On a terminal: mistakes do not end it, `exit` does."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(NETCTL, [NETCTL, "acli", "--lab", ahv.name])
    said = _read(terminal, "<acropolis> ")
    os.write(terminal, b"vm.lst\n")
    said += _read(terminal, "<acropolis> ")
    os.write(terminal, b"vm.create prompted\n")
    said += _read(terminal, "<acropolis> ")
    os.write(terminal, b"vm.list\n")
    said += _read(terminal, "<acropolis> ")
    os.write(terminal, b"exit\n")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    assert "did you mean vm.list?" in said and "prompted: complete" in said and "VM UUID" in said


def _read(terminal: int, until: str) -> str:
    """What comes from a terminal up to a text."""
    said = b""
    while until.encode() not in said:
        assert select.select([terminal], [], [], 60)[0], said
        said += os.read(terminal, 4096)
    return said.decode()
