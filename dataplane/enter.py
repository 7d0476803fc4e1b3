"""Step into a node: its network namespace, with the lab's names in /etc/hosts.

The process that enters gets a mount namespace of its own, so nothing is written to the machine and
nothing is left to clean up: /sys shows the node's devices (as with ip-netns(8)), and /etc/hosts has the
lab's nodes, with the addresses by which *this* node reaches them.

In: entering, and what a node's tools need in their environment. Out: making namespaces (netns.py).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from netctl.errors import InputError, MachineError

if TYPE_CHECKING:
    from netctl.model import Intent, Port

NAMESPACES = Path("/run/netns")
LABS = Path("/run/netctl")
HOSTS = Path("/etc/hosts")
RESOLVER = Path("/etc/resolv.conf")
FRR = Path("/run/frr")

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
_MS_RDONLY, _MS_BIND, _MS_REC, _MS_SLAVE = 0x1, 0x1000, 0x4000, 0x80000
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def enter(namespace: str, names: Mapping[str, str] | None = None) -> None:
    """Move the calling process into the namespace; it (and what it starts) stays there.

    For a process that is about to exec, or a child between fork and exec. `names` maps names to
    addresses and goes in front of what the machine's own /etc/hosts says.

    Raises:
        InputError: there is no such namespace.
        MachineError: the kernel refuses.
    """
    try:
        descriptor = os.open(NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InputError(
            f"there is no network namespace {namespace}", "`netctl labs` shows which labs are running."
        ) from None
    try:
        _call("enter " + namespace, _libc.setns(descriptor, _CLONE_NEWNET))
    finally:
        os.close(descriptor)
    _call("make a mount namespace", _libc.unshare(_CLONE_NEWNS))
    # Slave, not private: a namespace that is unmounted outside must go from here too.
    _mount("set mounts apart", "none", "/", "none", _MS_SLAVE | _MS_REC)
    _mount_sys(namespace)
    if names:
        _mount_hosts(names)
    _mount_resolver(namespace)
    _mount_frr(namespace)


def _mount_sys(namespace: str) -> None:
    """/sys/class/net of the namespace; left as it is where /sys is not a mount of its own."""
    read_only = os.statvfs("/sys").f_flag & os.ST_RDONLY
    if _libc.umount2(b"/sys", _MNT_DETACH) == 0:
        _mount("mount /sys", namespace, "/sys", "sysfs", _MS_RDONLY if read_only else 0)


def _mount_hosts(names: Mapping[str, str]) -> None:
    """Our /etc/hosts over the machine's, from a tmpfs that only this mount namespace ever sees."""
    try:
        machine = HOSTS.read_text()
    except OSError:
        return  # nothing to mount over: a machine without /etc/hosts
    aside = "/tmp"  # there on every machine, and covered for a moment only
    _mount("mount a tmpfs", "netctl", aside, "tmpfs", 0)
    try:
        ours = Path(aside, "hosts")
        lines = [f"{address}\t{name}\n" for name, address in names.items()]
        ours.write_text("".join(lines) + "\n" + machine)
        ours.chmod(0o644)
        _mount("mount /etc/hosts", str(ours), str(HOSTS), "none", _MS_BIND)
    finally:
        _libc.umount2(aside.encode(), _MNT_DETACH)


def _mount_resolver(namespace: str) -> None:
    """The guest's own resolv.conf over the machine's, where it has one (dataplane.leases)."""
    lab, _, node = namespace.partition(".")
    ours = LABS / lab / node / "resolv.conf"
    target = os.path.realpath(RESOLVER)
    if ours.exists() and os.path.exists(target):
        _mount("mount /etc/resolv.conf", str(ours), target, "none", _MS_BIND)


def _mount_frr(namespace: str) -> None:
    """The sockets of the node's own FRR daemons, where it has any, where vtysh looks (dataplane.bgp)."""
    lab, _, node = namespace.partition(".")
    ours = LABS / lab / node
    if (ours / "bgpd.conf").exists() and FRR.is_dir():
        _mount("mount /run/frr", str(ours), str(FRR), "none", _MS_BIND)


def _mount(what: str, source: str, target: str, kind: str, flags: int) -> None:
    _call(what, _libc.mount(source.encode(), target.encode(), kind.encode(), flags, None))


def _call(what: str, result: int) -> None:
    if result != 0:
        reason = os.strerror(ctypes.get_errno())
        raise MachineError(
            f"cannot {what}: {reason}",
            "Run as root, on a machine or in a container that allows namespaces; `netctl doctor` says more.",
        )


# --- names ----------------------------------------------------------------------------------------


def names(intent: Intent, node: str) -> dict[str, str]:
    """Name to address of the lab's nodes as `node` reaches them; loopback for its own name.

    A VM with several NICs goes by the address that shares a subnet with `node`, else a VPC, else by
    its first; `vm.N` is always the address of NIC N, IPv4's if it has one. Hosts go by the address of
    their br0.
    """
    by_vm: dict[str, list[Port]] = {vm: [] for vm in intent.file.vms}
    for port in intent.ports:
        by_vm[port.vm].append(port)
    subnets = {port.subnet for port in by_vm.get(node, ())}
    vpcs = {intent.file.subnets[subnet].vpc for subnet in subnets} - {None}

    def distance(port: Port) -> int:
        if port.subnet in subnets:
            return 0
        return 1 if intent.file.subnets[port.subnet].vpc in vpcs else 2

    found: dict[str, str] = {}
    for vm, all_ports in by_vm.items():
        ports = [port for port in all_ports if port.addresses]
        if vm != node and ports:
            found[vm] = str(min(ports, key=distance).addresses[0])
        for port in ports:
            found[f"{vm}.{port.index}"] = str(port.addresses[0])
    for name, machine in intent.machines.items():
        if name != node and machine.definition.ip is not None:
            found[name] = str(machine.definition.ip.ip)
    for name, host in intent.hosts.items():
        if name != node:
            found[name] = str(host.address.ip)
    return {node: "127.0.1.1"} | found


# --- environment ----------------------------------------------------------------------------------


def environment(lab: str, node: str, tools: Mapping[str, str], path: str) -> dict[str, str]:
    """What a shell in a node needs on top of its environment.

    In a host or switch, `ovs-vsctl`, `ovs-appctl` and `ovn-appctl` talk to that node's daemons; anywhere
    `ovn-nbctl` and `ovn-sbctl` talk to the lab's databases.

    Args:
        lab: the lab's name.
        node: the node's name.
        tools: the engine's environment (dataplane.engine), OVS_BINDIR among it.
        path: the PATH to put the engine's tools in front of.
    """
    from dataplane import store
    from dataplane.daemons import NORTHBOUND, SOUTHBOUND
    from dataplane.inventory import CENTRAL

    central = store.directory(lab) / CENTRAL
    found = {
        **tools,
        "PATH": f"{tools['OVS_BINDIR']}:{path}" if "OVS_BINDIR" in tools else path,
        "OVN_NB_DB": f"unix:{central / NORTHBOUND}.sock",
        "OVN_SB_DB": f"unix:{central / SOUTHBOUND}.sock",
        "NETCTL_LAB": lab,
        "NETCTL_NODE": node,
    }
    directory = store.directory(lab) / node
    if directory.is_dir():
        found |= {name: str(directory) for name in ("OVS_RUNDIR", "OVN_RUNDIR", "OVS_LOGDIR", "OVN_LOGDIR")}
    return found
