"""What the machine or somebody else refuses: exit code and words as in the contract, and nothing left."""

from __future__ import annotations

import fcntl
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.live.conftest import NETCTL, Lab, netctl


def run(*command: object) -> tuple[int, str]:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stderr


def test_not_root(lab: Lab, first_lab: dict[str, Any]) -> None:
    file = lab.write(first_lab)
    for directory in file.parents[: len(file.parents) - len(Path(tempfile.gettempdir()).parents) - 1]:
        directory.chmod(0o755)
    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    code, words = run(*user, NETCTL, "up", file)
    assert code == 3
    assert "root" in words
    assert run(*user, NETCTL, "validate", file)[0] == 0
    assert lab.remains() == []


def test_no_namespaces_allowed(lab: Lab, first_lab: dict[str, Any]) -> None:
    limits = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    # `setpriv` changes the bounding set for what is executed after it; bash executes netctl.
    code, words = run(*limits, "bash", "-c", f"{NETCTL} up {lab.write(first_lab)}")
    assert code == 3
    assert "namespace" in words
    assert lab.remains() == []


def test_no_engine(lab: Lab, first_lab: dict[str, Any], tmp_path: Path) -> None:
    code, words = run("env", f"NETCTL_ENGINE={tmp_path}/none", NETCTL, "up", lab.write(first_lab))
    assert code == 3
    assert str(tmp_path) in words
    assert lab.remains() == []


def test_a_full_disk(lab: Lab, first_lab: dict[str, Any]) -> None:
    file = lab.write(first_lab)
    # Another lab's `down` may remove the empty directory between our two steps.
    mount = "mkdir -p /run/netctl && mount -t tmpfs -o size=300k none /run/netctl"
    script = f"{mount} || {mount} || {mount} || exit 99; {NETCTL} up {file}; echo $?; ls /run/netctl | wc -l"
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.split() == ["3", "0"], done.stdout + done.stderr
    assert "full" in done.stderr
    assert lab.remains() == []


def test_the_same_name_from_another_file(lab: Lab, first_lab: dict[str, Any], tmp_path: Path) -> None:
    lab.up(first_lab)
    other = tmp_path / "other.yaml"
    other.write_text(lab.file.read_text())
    assert str(lab.file) in netctl("up", other, code=4).err
    netctl("up", lab.file)
    netctl("apply", other)


def test_a_busy_lab(lab: Lab, first_lab: dict[str, Any]) -> None:
    lab.up(first_lab)
    with Path(f"/run/netctl/{lab.name}/lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for command in (("apply", lab.file), ("up", lab.file), ("down", lab.name)):
            assert "changing" in netctl(*command, code=4).err
        netctl("status", lab.name)
    netctl("apply", lab.file)


def test_bad_input_changes_nothing(lab: Lab, first_lab: dict[str, Any]) -> None:
    lab.up(first_lab)
    first_lab["vms"]["web1"]["nics"][0]["ip"] = "10.99.0.1"
    first_lab["vms"]["app1"]["nics"][0]["subnet"] = "ap"
    done = netctl("apply", lab.write(first_lab), code=2)
    assert done.err.count(f"{lab.file}:") >= 2
    assert netctl("labs", "--json").json()
    assert lab.run("web1", "ip", "-4", "addr").count("10.10.0.11")


def test_a_lab_that_cannot_be_read_hides_no_other(lab: Lab, first_lab: dict[str, Any]) -> None:
    lab.up(first_lab)
    record = Path(f"/run/netctl/{lab.name}/lab.json")
    whole = record.read_text()
    other_version = json.dumps({**json.loads(whole), "text": "hosts: {hv1: {wings: 2}}\n"})
    for damaged in ("{", other_version):
        record.write_text(damaged)
        listed = {each["name"]: each["state"] for each in netctl("labs", "--json").json()}
        assert listed[lab.name] == "unreadable"
        assert f"netctl down {lab.name}" in netctl("status", lab.name, code=2).err
    record.write_text(whole)
    assert "ready" in netctl("status", lab.name).out
    record.write_text(damaged)
    lab.down()
    assert lab.remains() == []
