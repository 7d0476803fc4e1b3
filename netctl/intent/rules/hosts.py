"""Rules for hosts, clusters, virtual switches and their bonds."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from netctl.intent import defaults
from netctl.intent.findings import Findings
from netctl.intent.source import Path_
from netctl.model.host import HIGHEST_RATE, LOWEST_RATE, MAX_HOSTS, VirtualSwitch
from netctl.model.intent import LabFile, UplinkBridge


def cluster_size(lab: LabFile, findings: Findings) -> None:
    """A cluster has at most 32 hosts."""
    if lab.clusters is None:
        if len(lab.hosts) > MAX_HOSTS and findings.sound("clusters"):
            findings.error(
                ("hosts",),
                f"{len(lab.hosts)} hosts in one cluster, {MAX_HOSTS} at most",
                "split them: clusters: {pe1: {hosts: [...]}, pe2: {hosts: [...]}}",
                key=True,
            )
        return
    for name, cluster in lab.clusters.items():
        if len(set(cluster.hosts)) > MAX_HOSTS:
            findings.error(
                ("clusters", name, "hosts"),
                f"the cluster {name} has {len(set(cluster.hosts))} hosts, {MAX_HOSTS} at most",
                "move some to another cluster",
                key=True,
            )


def in_one_cluster(lab: LabFile, findings: Findings) -> None:
    """Where clusters are written, every host is in exactly one."""
    if lab.clusters is None:
        return
    of: dict[str, str] = {}
    for name, cluster in lab.clusters.items():
        for index, host in enumerate(cluster.hosts):
            if host in of:
                findings.error(
                    ("clusters", name, "hosts", index),
                    f"{host} is in the cluster {name} twice"
                    if of[host] == name
                    else f"{host} is in two clusters, {of[host]} and {name}",
                    "a host is in one cluster: keep it in one place",
                )
            of.setdefault(host, name)
    if findings.sound("clusters"):
        for host in lab.hosts:
            if host not in of:
                findings.error(
                    ("hosts", host), f"{host} is in no cluster", "add it to the hosts of a cluster", key=True
                )


def hosts_for_vms(lab: LabFile, findings: Findings) -> None:
    """VMs need a host."""
    if lab.vms and not lab.hosts and findings.sound("hosts"):
        findings.error(("vms",), "there are VMs but no host", "write hosts: {hv1: {}}", key=True)


def _setting(switch: str, definition: VirtualSwitch, host: str, *keys: str) -> Path_:
    """Where the setting of a host that matters most stands in the file."""
    path: Path_ = ("virtual_switches", switch)
    own = definition.per_host.get(host)
    for key in keys:
        if own is not None and getattr(own, key) is not None:
            return (*path, "per_host", host, key)
    for key in keys:
        if key in definition.model_fields_set:
            return (*path, key)
    return path


class _PerHost:
    """The same mistake on several hosts is told once, at the setting that makes it."""

    def __init__(self) -> None:
        self.found: dict[tuple[Path_, str, str], list[str]] = {}
        self.warned: dict[tuple[Path_, str, str], list[str]] = {}

    def add(self, path: Path_, message: str, hint: str, host: str) -> None:
        self.found.setdefault((path, message, hint), []).append(host)

    def warn(self, path: Path_, message: str, hint: str, host: str) -> None:
        self.warned.setdefault((path, message, hint), []).append(host)

    def tell(self, findings: Findings) -> None:
        for (path, message, hint), hosts in self.found.items():
            findings.error(path, message.replace("HOSTS", _some(hosts)), hint)
        for (path, message, hint), hosts in self.warned.items():
            findings.warn(path, message.replace("HOSTS", _some(hosts)), hint)


def _some(names: Iterable[str]) -> str:
    ordered = list(names)
    if len(ordered) > 3:
        return f"{', '.join(ordered[:2])} and {len(ordered) - 2} more hosts"
    return _and(ordered)


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def uplinks_exist(lab: LabFile, findings: Findings) -> None:
    """A virtual switch's uplinks are NICs that every host has, or `per_host` says which there."""
    told = _PerHost()
    for host in lab.hosts:
        if not findings.sound("hosts", host):
            continue
        known = defaults.nics(lab, host)
        for name, definition in (lab.virtual_switches or {}).items():
            path = _setting(name, definition, host, "uplinks")
            for index, nic in enumerate(defaults.settings(definition, host).uplinks or ()):
                if nic not in known:
                    told.add(
                        (*path, index),
                        f"HOSTS: there is no {nic}",
                        f"add it to the host's `nics:`, or say under per_host what {name} uses there",
                        host,
                    )
    told.tell(findings)


def uplink_in_one_switch(lab: LabFile, findings: Findings) -> None:
    """An uplink belongs to one virtual switch."""
    told = _PerHost()
    for host in lab.hosts:
        claimed: dict[str, str] = {}
        open_switch = ""
        for name, definition in (lab.virtual_switches or {}).items():
            uplinks = defaults.settings(definition, host).uplinks
            path = _setting(name, definition, host, "uplinks")
            if uplinks is None:
                if not findings.sound("virtual_switches", name, "uplinks"):
                    continue
                if open_switch:
                    told.add(
                        path,
                        f"{open_switch} and {name} both take every NIC that no other switch claims",
                        f"write which ones {name} uses, such as uplinks: [eth2, eth3]",
                        host,
                    )
                open_switch = open_switch or name
                continue
            for index, nic in enumerate(uplinks):
                if nic in claimed:
                    told.add(
                        (*path, index),
                        f"{nic} is an uplink of {claimed[nic]} already"
                        if claimed[nic] != name
                        else f"{nic} is there twice",
                        "a NIC is an uplink of one virtual switch, once: remove it from one place",
                        host,
                    )
                claimed.setdefault(nic, name)
    told.tell(findings)


def _each_bridge(lab: LabFile, findings: Findings) -> Iterable[tuple[str, VirtualSwitch, UplinkBridge]]:
    """Host, virtual switch and what it is there, of all that the grammar took whole."""
    definitions = defaults.virtual_switches(lab)
    for host in lab.hosts:
        if findings.sound("hosts", host) and findings.sound("fabric"):
            for bridge in defaults.bridges(lab, host):
                if findings.sound("virtual_switches", bridge.switch):
                    yield host, definitions[bridge.switch], bridge


def bonds(lab: LabFile, findings: Findings) -> None:
    """A bond's mode, its LACP and where its uplinks are cabled fit together."""
    told = _PerHost()
    pairs = [set(pair) for pair in lab.fabric.mlag]
    switches = defaults.switches(lab)
    looped = findings.sound("fabric") and defaults.has_loop(switches, defaults.links(lab))
    for host, definition, bridge in _each_bridge(lab, findings):
        name, mode = bridge.switch, bridge.mode
        path: Callable[..., Path_] = lambda *keys, n=name, d=definition, h=host: _setting(n, d, h, *keys)  # noqa: E731
        if mode == "none" and len(bridge.uplinks) > 1:
            told.add(
                path("bond"),
                f"{name} has {len(bridge.uplinks)} uplinks on HOSTS, and bond `none` joins none of them",
                "name one, such as uplinks: [eth0], or choose bond: active-backup",
                host,
            )
        if mode != "balance-tcp" and bridge.lacp != "off":
            told.add(
                path("lacp", "bond"),
                f"LACP does not go with bond `{mode}` (HOSTS)",
                "write bond: balance-tcp, or leave lacp out",
                host,
            )
        if mode == "balance-tcp" and bridge.lacp == "off":
            told.add(
                path("lacp", "bond"),
                "balance-tcp needs LACP on HOSTS",
                "write lacp: active, or choose bond: balance-slb",
                host,
            )
        if bridge.lacp_fallback and mode != "balance-tcp":
            told.add(
                path("lacp_fallback"),
                f"a fallback for LACP does not go with bond `{mode}` (HOSTS)",
                "leave lacp_fallback out",
                host,
            )
        if mode != "balance-tcp" or bridge.lacp == "off":
            continue
        nics = defaults.nics(lab, host)
        partners = {nics[nic].switch for nic in bridge.uplinks if nic in nics}
        if len(partners) > 1 and partners <= set(switches) and partners not in pairs:
            ordered = [switch for switch in switches if switch in partners]
            hint = (
                f"make them a pair: fabric.mlag: [[{', '.join(ordered)}]], or choose bond: balance-slb"
                if len(ordered) == 2
                else "cable all of the uplinks to one switch or to an MLAG pair"
            )
            if bridge.lacp_fallback:
                told.warn(
                    path("bond"),
                    f"{_and(ordered)} do not answer LACP as one: HOSTS will fall back to active-backup",
                    hint,
                    host,
                )
            else:
                told.add(
                    path("bond"),
                    f"balance-tcp on HOSTS needs one LACP partner, but its uplinks go to {_and(ordered)}",
                    hint,
                    host,
                )
        elif len(bridge.uplinks) > 1 and looped:
            # Open vSwitch floods to no LACP bond while it runs RSTP (rstp_forward_in_state in lib/rstp.h).
            told.add(
                path("bond"),
                "LACP on HOSTS does not go with a loop of switches: what they flood would not get there",
                "remove a link of fabric.links, or choose bond: balance-slb",
                host,
            )
    told.tell(findings)


def uplink_rates(lab: LabFile, findings: Findings) -> None:
    """A link's rate is one that can be kept to."""
    for name, host in lab.hosts.items():
        for nic, definition in (host.nics or {}).items():
            possible_rate(findings, ("hosts", name, "nics", nic, "rate"), definition.rate)


def possible_rate(findings: Findings, path: Path_, rate: int | None) -> None:
    """Adds a problem where a link cannot be limited to a rate."""
    if rate is None or LOWEST_RATE <= rate <= HIGHEST_RATE:
        return
    slow = rate < LOWEST_RATE
    findings.error(
        path,
        f"{rate} bits a second is {'less' if slow else 'more'} than a link can be limited to",
        f"write {LOWEST_RATE // 1000}kbit or more"
        if slow
        else f"write {HIGHEST_RATE // 10**9}gbit or less, or leave it out for no limit",
    )


def uplink_mtu(lab: LabFile, findings: Findings) -> None:
    """A virtual switch sends no more than the fabric carries."""
    for name, definition in (lab.virtual_switches or {}).items():
        where: list[tuple[Path_, int | None]] = [(("virtual_switches", name, "mtu"), definition.mtu)]
        where += [
            (("virtual_switches", name, "per_host", host, "mtu"), own.mtu)
            for host, own in definition.per_host.items()
        ]
        for path, mtu in where:
            if mtu is not None and mtu > lab.fabric.mtu:
                findings.error(
                    path,
                    f"an MTU of {mtu} is more than the fabric's {lab.fabric.mtu}",
                    f"write {lab.fabric.mtu} or less, or raise fabric.mtu",
                )


RULES = (
    cluster_size,
    in_one_cluster,
    hosts_for_vms,
    uplinks_exist,
    uplink_in_one_switch,
    bonds,
    uplink_rates,
    uplink_mtu,
)
