"""What this machine has and lacks for labs, each with the command that mends it.

Nothing is changed: what has to be tried is tried in a network namespace without a name, which is gone with
the process that asked for it. Pure data; the CLI prints it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dataplane import engine
from netctl.errors import MachineError

MEMORY_PER_HOST = 40 << 20
MEMORY_WANTED = 512 << 20
RUN_WANTED = 64 << 20

MODULES = ("openvswitch", "bonding", "geneve", "vxlan", "8021q", "vrf", "sch_netem", "nf_conntrack")
OPTIONAL_TOOLS = {
    "dnsmasq": ("dnsmasq-base", "answer DHCP on VLAN basic subnets"),
    "udhcpc": ("udhcpc", "ask for addresses by DHCP in VMs"),
    "tcpdump": ("tcpdump", "watch packets in a lab's namespaces"),
    "tshark": ("tshark", "read captures on the command line"),
    "dot": ("graphviz", "draw `netctl graph` as SVG"),
    "ping": ("iputils-ping", "use ping in a VM"),
    "vtysh": ("frr", "have routers that speak BGP"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool | Literal["warn"]
    """True: fine. "warn": labs run, with a limit. False: labs do not run."""
    seen: str
    mend: str | None = None
    """The command (or, where there is none, the advice) that changes it."""


def examine() -> list[Finding]:
    """Look at everything; at most a second."""
    looks: list[Callable[[], list[Finding]]] = [
        _root,
        _namespaces,
        _links,
        _packet_sockets,
        _named_namespaces,
        _engine,
        _memory,
        _disk,
        _python,
        _descriptors,
        _socket_buffers,
        _kvm,
        _modules,
        _tools,
    ]
    with ThreadPoolExecutor(max_workers=len(looks)) as pool:
        return [finding for found in pool.map(_safely, looks) for finding in found]


def ready(findings: list[Finding]) -> bool:
    """Whether labs can run here."""
    return all(finding.ok for finding in findings)


def _safely(look: Callable[[], list[Finding]]) -> list[Finding]:
    """A look that cannot be taken is a finding too."""
    try:
        return look()
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return [
            Finding(look.__name__.strip("_").replace("_", " "), "warn", f"could not be examined: {error}")
        ]


def _ask(*command: str) -> str | None:
    """None when the command succeeds, else why it does not."""
    environment = {
        **os.environ,
        "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin",
        "LC_ALL": "C",
    }
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL, env=environment
        )
    except FileNotFoundError:
        return f"{command[0]} is not installed"
    except subprocess.TimeoutExpired:
        return f"{command[0]} does not answer"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"{command[0]} ended with {done.returncode}"


# --- rights and kernel ----------------------------------------------------------------------------


def _root() -> list[Finding]:
    user = os.geteuid()
    if user == 0:
        return [Finding("root", True, "running as root")]
    return [Finding("root", False, f"running as user {user}", "run it again with sudo")]


def _namespaces() -> list[Finding]:
    findings = []
    for name, option in (("network namespaces", "--net"), ("mount namespaces", "--mount")):
        why = _ask("unshare", option, "true")
        mend = None
        if why:
            mend = (
                "run as root"
                if os.geteuid()
                else "give the container CAP_SYS_ADMIN (docker run --privileged)"
            )
        findings.append(Finding(name, why is None, why or "can be made", mend))
    return findings


def _links() -> list[Finding]:
    findings = []
    tries = {
        "veth pairs": ("link", "add", "nc0", "type", "veth", "peer", "name", "nc1"),
        "Linux bridges": ("link", "add", "nc0", "type", "bridge"),
        "tap devices": ("tuntap", "add", "nc0", "mode", "tap"),
    }
    mends = {
        "veth pairs": "modprobe veth",
        "Linux bridges": "modprobe bridge",
        "tap devices": "modprobe tun (in a container: docker run --device /dev/net/tun)",
    }
    for name, command in tries.items():
        why = _ask("unshare", "--net", "ip", *command)
        findings.append(Finding(name, why is None, why or "can be made", mends[name] if why else None))
    vxlan = ("nc0", "type", "vxlan", "id", "1", "remote", "127.0.0.1", "dstport", "4789")
    why = _ask("unshare", "--net", "ip", "link", "add", *vxlan)
    findings.append(
        Finding(
            "VXLAN devices",
            "warn" if why else True,
            f"{why}: needed for VLAN basic subnets" if why else "can be made",
            "modprobe vxlan" if why else None,
        )
    )
    return findings


def _packet_sockets() -> list[Finding]:
    name = "packet sockets"
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except OSError as error:
        mend = "run as root" if os.geteuid() else "give the container CAP_NET_RAW"
        return [Finding(name, False, f"cannot be opened: {error.strerror}", mend)]
    return [Finding(name, True, "can be opened")]


def _named_namespaces() -> list[Finding]:
    name = "named namespaces"
    directory = Path("/run/netns")
    parent = directory if directory.is_dir() else directory.parent
    if not os.access(parent, os.W_OK):
        return [Finding(name, False, f"{parent} cannot be written to", "run as root")]
    count = len(list(directory.iterdir())) if directory.is_dir() else 0
    return [Finding(name, True, f"{directory} can be used ({count} there now)")]


# --- engine ---------------------------------------------------------------------------------------


def _engine() -> list[Finding]:
    findings = []
    said: list[str] = []
    try:
        used = engine.find(warn=said.append)
    except MachineError as error:
        findings.append(Finding("engine", False, error.message, error.next_step))
    else:
        lacking = sorted(set(engine.FEATURES) - used.features)
        findings.append(
            Finding(
                "engine",
                "warn" if lacking else True,
                f"{used.name}: OVN {used.ovn_version}, OVS {used.ovs_version} in {used.prefix}"
                + (f"; lacks {', '.join(lacking)}" if lacking else ""),
                engine.INSTALL_COMMAND if lacking else None,
            )
        )
    prefix = engine.bundled_prefix()
    if engine.installed():
        wrong = engine.verify(prefix)
        findings.append(
            Finding(
                "bundled engine",
                not wrong,
                "; ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
                if wrong
                else f"every file in {prefix} is as it was installed",
                engine.INSTALL_COMMAND if wrong else None,
            )
        )
    else:
        findings.append(
            Finding("bundled engine", "warn", f"not installed in {prefix}", engine.INSTALL_COMMAND)
        )
    try:
        system = engine.system()
    except MachineError:
        findings.append(Finding("system engine", True, "none (not needed beside the bundled one)"))
    else:
        findings.append(Finding("system engine", True, f"OVN {system.ovn_version}, OVS {system.ovs_version}"))
    return findings


# --- room -----------------------------------------------------------------------------------------


def _memory() -> list[Finding]:
    text = Path("/proc/meminfo").read_text()
    match = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    if match is None:
        return [Finding("memory", "warn", "the kernel does not tell")]
    free = int(match.group(1)) << 10
    hosts = free // MEMORY_PER_HOST
    enough = free >= MEMORY_WANTED
    seen = f"{free >> 20} MB available, room for about {hosts} hosts"
    return [Finding("memory", True if enough else "warn", seen, None if enough else "end other programs")]


def _disk() -> list[Finding]:
    findings = []
    places = [("room in /run", Path("/run"), RUN_WANTED)]
    if not engine.installed():
        places.append(("room for the engine", engine.bundled_prefix(), engine.ROOM))
    for name, path, wanted in places:
        while not path.exists():
            path = path.parent
        free = shutil.disk_usage(path).free
        enough = free >= wanted
        mend = None if enough else f"make {wanted >> 20} MB free in {path}"
        findings.append(Finding(name, enough, f"{free >> 20} MB free in {path}", mend))
    return findings


# --- Python ---------------------------------------------------------------------------------------


def _python() -> list[Finding]:
    findings = [Finding("python", True, f"{platform.python_version()} ({sys.executable})")]
    try:
        wanted = importlib.metadata.requires("netctl") or []
    except importlib.metadata.PackageNotFoundError:
        return [*findings, Finding("python packages", "warn", "netctl runs from a directory", "make setup")]
    there, missing = [], []
    for requirement in wanted:
        if "extra ==" in requirement:
            continue
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        try:
            there.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        mend = f"{sys.executable} -m pip install {' '.join(missing)}"
        findings.append(Finding("python packages", False, f"missing: {', '.join(missing)}", mend))
    else:
        findings.append(Finding("python packages", True, ", ".join(there)))
    return findings


# --- what makes labs faster or richer -------------------------------------------------------------

_PIDFD_GETFD = 438


def _descriptors() -> list[Finding]:
    """Whether a socket of a daemon can be reached, to give it a larger buffer."""
    name = "sockets of daemons"
    reading, writing = os.pipe()
    child = os.posix_spawn(
        "/bin/sh", ["sh", "-c", "read line"], {}, file_actions=[(os.POSIX_SPAWN_DUP2, reading, 0)]
    )
    try:
        handle = os.pidfd_open(child)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            got = libc.syscall(_PIDFD_GETFD, handle, 0, 0)
            reason = os.strerror(ctypes.get_errno())
        finally:
            os.close(handle)
    except OSError as error:
        got, reason = -1, error.strerror or str(error)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)
    if got < 0:
        seen = f"cannot be reached ({reason}): fast flows across hosts may retransmit"
        return [Finding(name, "warn", seen, "give the container CAP_SYS_PTRACE, or use Linux 5.6 or newer")]
    os.close(got)
    return [Finding(name, True, "can be reached (pidfd_getfd): their buffers are enlarged, nothing else is")]


def _socket_buffers() -> list[Finding]:
    name = "socket buffers"
    default = Path("/proc/sys/net/core/rmem_default").read_text().strip()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE
        except OSError as error:
            seen = f"net.core.rmem_default is {default} and may not be exceeded: {error.strerror}"
            return [Finding(name, "warn", seen, "sysctl net.core.rmem_default=33554432")]
    return [Finding(name, True, f"net.core.rmem_default is {default}; OVS's own sockets get more")]


def _kvm() -> list[Finding]:
    name = "KVM"
    device = "/dev/kvm"
    if not os.path.exists(device):
        return [Finding(name, True, f"no {device}: QEMU guests are emulated (TCG), which is slower")]
    if not os.access(device, os.R_OK | os.W_OK):
        return [Finding(name, "warn", f"{device} may not be used by this user", "run as root")]
    return [Finding(name, True, f"{device} is there (tried with a time limit when a QEMU guest needs it)")]


def _modules() -> list[Finding]:
    """What the kernel could do, without loading anything. Labs need none of it."""
    tree = Path("/lib/modules") / platform.release()
    known: set[str] = set()
    for file in ("modules.builtin", "modules.dep"):
        with contextlib.suppress(OSError):
            for line in (tree / file).read_text().splitlines():
                known.add(Path(line.partition(":")[0]).name.partition(".")[0].replace("-", "_"))
    there = [name for name in MODULES if Path("/sys/module", name).exists() or name in known]
    absent = [name for name in MODULES if name not in there]
    seen = f"there: {', '.join(there) or 'none'}; not there: {', '.join(absent) or 'none'}"
    return [Finding("kernel modules", True, f"{seen} (labs need none of them)")]


def _tools() -> list[Finding]:
    findings = []
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    if not shutil.which("ip", path=path):
        findings.append(Finding("ip", False, "not installed", "apt-get install iproute2"))
    for tool, (package, use) in OPTIONAL_TOOLS.items():
        found = shutil.which(tool, path=path)
        if found:
            findings.append(Finding(tool, True, found))
        else:
            findings.append(
                Finding(tool, "warn", f"not installed: needed to {use}", f"apt-get install {package}")
            )
    return findings
