"""The bundled engine for real: built from its packages, killed half-way, damaged, and run.

All from the packages that the installed engine keeps, so that no network is needed.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane import doctor, engine
from netctl.errors import MachineError

pytestmark = [pytest.mark.live, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

INSTALL = (
    "import sys, pathlib; from dataplane import engine; engine.install(packages=pathlib.Path(sys.argv[1]))"
)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the installed engine's packages."""
    here = engine.bundled_prefix() / "packages"
    if not engine.installed():
        pytest.skip("no bundled engine installed: netctl engine install")
    return Path(shutil.copytree(here, tmp_path_factory.mktemp("engine") / "packages"))


@pytest.fixture(scope="module")
def built(packages: Path) -> Path:
    """An engine, built once; tests that damage one take a fresh one."""
    prefix = packages.parent / "built"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NETCTL_ENGINE_DIR", str(prefix))
        engine.install(packages=packages)
    return prefix


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    prefix = tmp_path / "engine"
    monkeypatch.setenv("NETCTL_ENGINE_DIR", str(prefix))
    monkeypatch.delenv("NETCTL_ENGINE", raising=False)
    return prefix


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_arguments: object) -> list[Path]:
        raise MachineError("no network")

    monkeypatch.setattr(engine, "_fetch", fetch)


def leftovers(prefix: Path) -> list[str]:
    return sorted(path.name for path in prefix.parent.glob(".*") if path.name != f".{prefix.name}.lock")


def test_every_program_runs_on_its_own_libraries(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETCTL_ENGINE_DIR", str(built))
    found = engine.find()
    assert found.prefix == built
    assert "network-functions" in found.features
    assert engine.verify() == []
    for tool in engine.TOOLS:
        command = [found.tool(tool), "--version"]
        said = subprocess.run(command, capture_output=True, text=True, check=True, env={}).stdout
        assert found.ovn_version in said or found.ovs_version in said
        trace = subprocess.run(
            command, capture_output=True, text=True, check=True, env={"LD_TRACE_LOADED_OBJECTS": "1"}
        )
        paths = [line.split()[-2] for line in trace.stdout.splitlines() if "/" in line]
        assert paths
        # "$ORIGIN/../lib" is printed as it is written
        assert all(Path(os.path.normpath(path)).is_relative_to(built) for path in paths), paths


def test_looking_for_it_takes_no_time(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETCTL_ENGINE_DIR", str(built))
    engine.find()
    times = []
    for _ in range(20):
        start = time.perf_counter()
        engine.find()
        times.append(time.perf_counter() - start)
    assert min(times) < 0.005


def test_damage_is_mended_offline_from_the_kept_packages(prefix: Path, packages: Path, offline: None) -> None:
    engine.install(packages=packages)
    victim = prefix / "bin/ovs-vswitchd"
    with victim.open("r+b") as file:
        file.seek(100_000)
        byte = file.read(1)
        file.seek(100_000)
        file.write(bytes([byte[0] ^ 1]))
    assert engine.verify() == ["bin/ovs-vswitchd was changed"]
    with pytest.raises(MachineError, match="damaged"):
        engine.find()
    inode = (prefix / "bin").stat().st_ino
    engine.install()
    assert engine.verify() == []
    assert engine.find().name == "bundled"
    assert (prefix / "bin").stat().st_ino != inode
    assert leftovers(prefix) == []

    # Nothing to do now, and nothing done.
    inode = (prefix / "bin").stat().st_ino
    engine.install()
    assert (prefix / "bin").stat().st_ino == inode


def test_a_broken_package_changes_nothing(
    prefix: Path, packages: Path, tmp_path: Path, offline: None
) -> None:
    engine.install(packages=packages)
    copies = Path(shutil.copytree(packages, tmp_path / "copies"))
    victim = next(copies.glob("libc6_*.deb"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    with pytest.raises(MachineError, match="libc6"):
        engine.install(packages=copies)
    victim.unlink()
    with pytest.raises(MachineError, match=r"libc\.so\.6"):
        engine.install(packages=copies)
    assert engine.verify() == []
    assert leftovers(prefix) == []


@pytest.mark.slow
def test_killed_at_any_moment_the_next_install_makes_it_whole(
    prefix: Path, packages: Path, offline: None
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    start = time.monotonic()
    engine.install(packages=packages)
    full = time.monotonic() - start
    for round_ in range(10):
        if round_ % 2 == 0:
            shutil.rmtree(prefix, ignore_errors=True)
        process = subprocess.Popen([sys.executable, "-c", INSTALL, str(packages)])
        time.sleep(chance.uniform(0.05, full * 1.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        # Whole or not there at all, never half.
        if engine.installed():
            assert engine.verify() == []
            engine.find()
        else:
            assert not prefix.exists()
    engine.install(packages=packages)
    assert engine.verify() == []
    assert leftovers(prefix) == []


def _install(prefix: Path, packages: Path) -> None:
    os.environ["NETCTL_ENGINE_DIR"] = str(prefix)
    engine.install(packages=packages)
    assert engine.verify() == []


def test_several_at_once(prefix: Path, packages: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_install, args=(prefix, packages)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert engine.verify() == []
    assert leftovers(prefix) == []


# --- the daemons ----------------------------------------------------------------------------------


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"netctl-engine-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


def system_state() -> dict[str, object]:
    """What an installation on the system would change."""

    def listing(*places: str) -> list[str]:
        return sorted(str(path) for place in places for path in Path(place).glob("*") if Path(place).is_dir())

    return {
        "packages": [
            line
            for line in Path("/var/lib/dpkg/status").read_text().splitlines()
            if line.startswith(("Package: ovn", "Package: openvswitch", "Package: mininet"))
        ],
        "services": listing(
            "/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system", "/etc/init.d"
        ),
        "run": [path for path in listing("/run", "/var/run") if "openvswitch" in path or "/ovn" in path],
        "logs": [path for path in listing("/var/log") if "openvswitch" in path or "/ovn" in path],
        "state": listing("/etc/openvswitch", "/etc/ovn", "/var/lib/openvswitch", "/var/lib/ovn"),
        "programs": [path for path in listing("/usr/bin", "/usr/sbin") if "/ovs" in path or "/ovn" in path],
        "lists": [path for path in listing("/var/lib/apt/lists", "/etc/apt/sources.list.d") if "sid" in path],
    }


@pytest.fixture
def undisturbed() -> Iterator[None]:
    before = system_state()
    yield
    assert system_state() == before


def test_the_daemons_work_together_and_the_system_sees_nothing(
    undisturbed: None, namespace: str, packages: Path, prefix: Path, tmp_path: Path
) -> None:
    found = engine.install(packages=packages)
    run = tmp_path / "run"
    run.mkdir()
    directories = ("OVS_RUNDIR", "OVN_RUNDIR", "OVS_LOGDIR", "OVN_LOGDIR", "OVS_DBDIR", "OVN_DBDIR")
    environment = {**found.env(), **{name: str(run) for name in directories}}

    def tool(name: str, *arguments: str) -> str:
        command = ["ip", "netns", "exec", namespace, found.tool(name), *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, env={**os.environ, **environment}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def daemon(name: str, role: str, *arguments: str) -> None:
        files = [f"--pidfile={run}/{role}.pid", f"--unixctl={run}/{role}.ctl", f"--log-file={run}/{role}.log"]
        tool(name, *arguments, *files, "--detach", "--no-chdir")

    try:
        for schema in engine.SCHEMAS:
            tool("ovsdb-tool", "create", f"{run}/{schema}.db", str(found.schema(schema)))  # type: ignore[arg-type]
            daemon("ovsdb-server", schema, f"{run}/{schema}.db", f"--remote=punix:{run}/{schema}.sock")
        vsctl = ("ovs-vsctl", f"--db=unix:{run}/vswitch.sock")
        ids = {
            "system-id": "hv1",
            "ovn-remote": f"unix:{run}/ovn-sb.sock",
            "ovn-encap-type": "geneve",
            "ovn-encap-ip": "127.0.0.1",
            "ovn-bridge": "brAtlas",
            "ovn-bridge-datapath-type": "netdev",
        }
        tool(
            *vsctl,
            "--no-wait",
            "set",
            "open",
            ".",
            *(f"external_ids:{key}={value}" for key, value in ids.items()),
        )
        daemon("ovs-vswitchd", "vswitchd", f"unix:{run}/vswitch.sock")
        tool(
            *vsctl,
            "add-br",
            "brAtlas",
            "--",
            "set",
            "bridge",
            "brAtlas",
            "datapath_type=netdev",
            "fail_mode=secure",
        )
        daemon(
            "ovn-northd", "northd", f"--ovnnb-db=unix:{run}/ovn-nb.sock", f"--ovnsb-db=unix:{run}/ovn-sb.sock"
        )
        daemon("ovn-controller", "controller", f"unix:{run}/vswitch.sock")

        nbctl = ("ovn-nbctl", f"--db=unix:{run}/ovn-nb.sock", "--timeout=20")
        tool(*nbctl, "ls-add", "web", "--", "lsp-add", "web", "web1", "--", "lsp-add", "web", "web2")
        tool(*nbctl, "lsp-set-addresses", "web1", "02:00:00:00:00:01 10.0.0.1")
        tool(*nbctl, "lsp-set-addresses", "web2", "02:00:00:00:00:02 10.0.0.2")
        tool(
            *vsctl,
            "add-port",
            "brAtlas",
            "t1",
            "--",
            "set",
            "interface",
            "t1",
            "type=internal",
            "external_ids:iface-id=web1",
        )
        tool(*nbctl, "--wait=hv", "sync")
        chassis = tool(
            "ovn-sbctl",
            f"--db=unix:{run}/ovn-sb.sock",
            "--columns=up",
            "--bare",
            "list",
            "port_binding",
            "web1",
        )
        assert chassis.split() == ["true"]
        packet = 'inport=="web1" && eth.src==02:00:00:00:00:01 && eth.dst==02:00:00:00:00:02'
        assert 'output("web2")' in tool(
            "ovn-trace", f"--db=unix:{run}/ovn-sb.sock", "--minimal", "web", packet
        )
        assert len(tool("ovs-ofctl", "dump-flows", f"unix:{run}/brAtlas.mgmt").splitlines()) > 50
        assert "netdev@" in tool("ovs-appctl", "-t", f"{run}/vswitchd.ctl", "dpif/show")
        assert tool("ovn-appctl", "-t", f"{run}/controller.ctl", "connection-status").strip() == "connected"

        pids = {file.stem: int(file.read_text()) for file in run.glob("*.pid")}
        assert len(pids) == 6
        for role, pid in pids.items():
            maps = Path(f"/proc/{pid}/maps").read_text()
            mapped = {line.split()[5] for line in maps.splitlines() if ".so" in line}
            assert mapped, role
            assert all(path.startswith(str(prefix)) for path in mapped), (role, mapped)
            opened = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
            files = {
                path for path in opened if path.startswith("/") and not path.startswith(("/dev/", "/proc/"))
            }
            files = {path for path in files if not path.endswith(" (deleted)")}  # tmpfile(3)
            assert all(path.startswith(str(tmp_path)) for path in files), (role, files)

        # A new engine in the place of the old one does not disturb what runs.
        engine.install(packages=packages)
        tool(*nbctl, "--wait=hv", "sync")
    finally:
        for file in run.glob("*.pid"):
            os.kill(int(file.read_text()), signal.SIGTERM)
        deadline = time.monotonic() + 10
        while list(run.glob("*.pid")) and time.monotonic() < deadline:
            time.sleep(0.02)
    assert list(run.glob("*.pid")) == []


# --- doctor ---------------------------------------------------------------------------------------


def test_doctor_finds_this_machine_ready_and_changes_nothing(undisturbed: None) -> None:
    before = sorted(os.listdir("/sys/class/net"))
    findings = doctor.examine()
    assert doctor.ready(findings), [finding for finding in findings if not finding.ok]
    assert sorted(os.listdir("/sys/class/net")) == before
    names = [finding.name for finding in findings]
    assert len(set(names)) == len(names)
    for finding in findings:
        assert finding.seen
        if finding.ok is True:
            assert finding.mend is None
        else:
            assert finding.mend


def test_doctor_without_rights_says_what_to_do() -> None:
    # The first look is root's: it loads all modules, which the other user may not be able to read.
    code = (
        "import os; from dataplane import doctor; doctor.examine()\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "for f in doctor.examine(): print(f.name, f.ok, f.mend, sep='|')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    found = {line.split("|")[0]: line.split("|")[1:] for line in done.stdout.splitlines()}
    for name in ("root", "network namespaces", "veth pairs", "packet sockets", "named namespaces"):
        assert found[name][0] == "False", name
        assert found[name][1] != "None", name


def test_doctor_sees_a_damaged_engine(prefix: Path, packages: Path) -> None:
    engine.install(packages=packages)
    with (prefix / "lib/libc.so.6").open("ab") as file:
        file.write(b"!")
    findings = {finding.name: finding for finding in doctor.examine()}
    assert findings["engine"].ok is False
    assert findings["bundled engine"].ok is False
    assert "libc.so.6" in findings["bundled engine"].seen
    assert findings["bundled engine"].mend == engine.INSTALL_COMMAND
