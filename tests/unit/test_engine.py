"""The engine without an engine: parsing, the manifest, and which one is chosen."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dataplane import engine
from netctl.errors import MachineError

NB_2303 = {
    "tables": {"ACL": {"columns": {"action": {}, "match": {}}}, "Load_Balancer_Group": {"columns": {}}}
}
SB_2303 = {"tables": {"Port_Binding": {"columns": {"additional_chassis": {}}}}}
NB_2603 = {
    "tables": {
        "ACL": {"columns": {"action": {}, "tier": {}, "sample_new": {}, "network_function_group": {}}},
        "Load_Balancer_Group": {"columns": {}},
        "Network_Function": {"columns": {}},
        "Network_Function_Group": {"columns": {}},
        "Network_Function_Health_Check": {"columns": {}},
    }
}
SB_2603 = {
    "tables": {"Port_Binding": {"columns": {"additional_chassis": {}}}, "Advertised_Route": {"columns": {}}}
}


def write_schemas(share: Path, nb: dict = NB_2303, sb: dict = SB_2303) -> None:
    for name, schema in (("vswitch", {"tables": {}}), ("ovn-nb", nb), ("ovn-sb", sb)):
        file = share / engine.SCHEMAS[name]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(schema))


def write_tools(directory: Path, without: tuple[str, ...] = ()) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for tool in engine.TOOLS:
        if tool not in without:
            script = directory / tool
            script.write_text(f"#!/bin/sh\necho '{tool} 23.03.1'\n")
            script.chmod(0o755)


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the bundled engine would be: nothing there yet, and no system engine either."""
    prefix = tmp_path / "engine"
    monkeypatch.setenv("NETCTL_ENGINE_DIR", str(prefix))
    monkeypatch.delenv("NETCTL_ENGINE", raising=False)
    return prefix


@pytest.fixture
def no_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> engine.Engine:
        raise MachineError("none")

    monkeypatch.setattr(engine, "system", missing)


@pytest.fixture
def old_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "old"
    write_tools(root / "usr/sbin")
    write_schemas(root / "usr/share")
    search, shares = [str(root / "usr/sbin")], [root / "usr/share"]
    monkeypatch.setattr(engine, "system", lambda: engine._probe("system", root / "usr", search, shares))
    return root


def finish(prefix: Path, nb: dict = NB_2603, sb: dict = SB_2603) -> dict:
    """A small stand-in for a bundled engine, with a proper manifest."""
    write_tools(prefix / "bin")
    write_schemas(prefix / "share", nb, sb)
    package = prefix / "packages/ovn_1_all.deb"
    package.parent.mkdir()
    package.write_bytes(b"package")
    files = {}
    for file in sorted(path for path in prefix.rglob("*") if path.is_file() and path != package):
        files[str(file.relative_to(prefix))] = {"package": "ovn", "sha256": engine._sha256(file)}
    manifest = {
        "format": engine.FORMAT,
        "prefix": str(prefix),
        "origin": "here",
        "architecture": "all",
        "ovn_version": "26.03.1",
        "ovs_version": "4.0.0",
        "features": sorted(engine.features_of({"ovn-nb": json.dumps(nb), "ovn-sb": json.dumps(sb)})),
        "packages": [{"name": "ovn", "file": package.name, "sha256": engine._sha256(package)}],
        "files": files,
    }
    engine._finish(prefix, manifest)
    return manifest


# --- parsing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listing", "codename", "expected"),
    [
        ("", "bookworm", []),
        (
            "Packages\tDebian\tbookworm\thttp://mirror.example/debian/\n"
            "Translations\tDebian\tbookworm\thttp://elsewhere.example/debian/\n"
            "Packages\tDebian\tbookworm-updates\thttp://mirror.example/debian/\n"
            "Packages\tDebian\tbookworm-security\thttp://security.example/debian-security/\n",
            "bookworm",
            ["http://mirror.example/debian"],
        ),
        (
            "Packages\tDebian\tbookworm\tmirror+file:/etc/apt/mirrors/debian.list\n"
            "Packages\tnode\tnodistro\thttps://node.example/\n",
            "bookworm",
            ["mirror+file:/etc/apt/mirrors/debian.list"],
        ),
        # never fetched: no origin known, but the suite is this Debian's
        (
            "Packages\t\ttrixie\thttp://a.example/debian/\nPackages\t\tnoble\thttp://b.example/\n",
            "trixie",
            ["http://a.example/debian"],
        ),
        # an Ubuntu
        ("Packages\tUbuntu\tnoble\thttp://archive.example/ubuntu/\n", "", []),
        ("Packages\tDebian Backports\tbookworm-backports\thttp://mirror.example/debian/\n", "bookworm", []),
        ("Packages\tDebian\tbookworm-backports\thttp://mirror.example/debian/\n", "bookworm", []),
        ("garbage\nPackages\tDebian\n", "bookworm", []),
    ],
)
def test_debian_uris(listing: str, codename: str, expected: list[str]) -> None:
    assert engine.debian_uris(listing, codename) == expected


def test_the_public_mirror_is_the_last_resort() -> None:
    assert engine.mirrors()[-1] == engine.FALLBACK_MIRROR


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("ovn-nbctl 26.03.1\nOpen vSwitch Library 4.0.0\nDB Schema 7.16.0\n", "26.03.1"),
        ("ovs-vsctl (Open vSwitch) 3.1.0\nDB Schema 8.3.1\n", "3.1.0"),
        ("ovs-vsctl (Open vSwitch) 3.7.90-dev\n", "3.7.90"),
        ("", "unknown"),
        ("nonsense", "unknown"),
    ],
)
def test_parse_version(output: str, version: str) -> None:
    assert engine.parse_version(output) == version


def test_features_are_asked_of_the_schema() -> None:
    old = engine.features_of({"ovn-nb": json.dumps(NB_2303), "ovn-sb": json.dumps(SB_2303)})
    new = engine.features_of({"ovn-nb": json.dumps(NB_2603), "ovn-sb": json.dumps(SB_2603)})
    assert old == {"load-balancer-groups", "live-migration"}
    assert new == set(engine.FEATURES)


def test_a_table_without_its_column_is_not_the_feature() -> None:
    nb = json.loads(json.dumps(NB_2603))
    del nb["tables"]["ACL"]["columns"]["network_function_group"]
    assert "network-functions" not in engine.features_of({"ovn-nb": json.dumps(nb)})


def test_features_of_the_installed_schemas() -> None:
    if not engine.installed():
        pytest.skip("no bundled engine installed")
    found = engine.bundled()
    schemas = {name: found.schema(name).read_text() for name in engine.SCHEMAS}  # type: ignore[arg-type]
    assert engine.features_of(schemas) == found.features
    assert "network-functions" in found.features


# --- which engine ---------------------------------------------------------------------------------


def test_bundled_comes_first(prefix: Path, old_system: Path) -> None:
    finish(prefix)
    found = engine.find(warn=pytest.fail)
    assert (found.name, found.prefix, found.ovn_version) == ("bundled", prefix, "26.03.1")
    assert found.features == set(engine.FEATURES)
    assert found.tool("ovs-vsctl") == f"{prefix}/bin/ovs-vsctl"
    assert found.schema("ovn-nb") == prefix / "share/ovn/ovn-nb.ovsschema"
    assert found.env()["OVS_PKGDATADIR"] == f"{prefix}/share/openvswitch"
    assert hash(found) == hash(engine.find())


def test_system_on_request(prefix: Path, old_system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(prefix)
    assert engine.find("system").name == "system"
    monkeypatch.setenv("NETCTL_ENGINE", "system")
    assert engine.find().ovn_version == "23.03.1"
    assert engine.find("bundled").ovn_version == "26.03.1"


def test_a_lesser_system_engine_is_used_loudly(prefix: Path, old_system: Path) -> None:
    said: list[str] = []
    found = engine.find(warn=said.append)
    assert found.name == "system"
    assert len(said) == 1
    assert "network-functions" in said[0]
    assert "23.03.1" in said[0]
    assert engine.INSTALL_COMMAND in said[0]


def test_the_warning_goes_to_stderr(
    prefix: Path, old_system: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.find()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("warning: ")


def test_a_capable_system_engine_is_used_quietly(prefix: Path, old_system: Path) -> None:
    write_schemas(old_system / "usr/share", NB_2603, SB_2603)
    assert engine.find(warn=pytest.fail).name == "system"


def test_none_at_all(prefix: Path, no_system: None) -> None:
    with pytest.raises(MachineError) as caught:
        engine.find()
    assert caught.value.exit_code == 3
    assert str(prefix) in caught.value.message
    assert engine.INSTALL_COMMAND in (caught.value.next_step or "")


@pytest.mark.parametrize("selection", ["bundled", None])
def test_half_an_engine_is_none(
    prefix: Path, no_system: None, selection: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(prefix)
    (prefix / "manifest.json").unlink()
    with pytest.raises(MachineError, match=r"not installed|no OVN"):
        engine.find(selection)
    (prefix / "manifest.json").write_text('{"format": 1, "pre')
    with pytest.raises(MachineError, match=r"not installed|no OVN"):
        engine.find(selection)


def test_a_prefix_by_path(prefix: Path, old_system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = engine.find(str(old_system))
    assert found.name == str(old_system)
    assert found.tool("ovn-nbctl") == f"{old_system}/usr/sbin/ovn-nbctl"
    finish(prefix)
    assert engine.find(str(prefix)).ovn_version == "26.03.1"
    with pytest.raises(MachineError, match="no such directory"):
        engine.find(str(prefix / "nowhere"))


def test_an_incomplete_prefix_says_what_is_missing(tmp_path: Path) -> None:
    write_tools(tmp_path / "bin", without=("ovn-northd",))
    write_schemas(tmp_path / "share")
    with pytest.raises(MachineError, match="ovn-northd"):
        engine.find(str(tmp_path))


def test_a_program_that_does_not_run_is_said(tmp_path: Path) -> None:
    write_tools(tmp_path / "bin")
    write_schemas(tmp_path / "share")
    (tmp_path / "bin/ovs-vsctl").write_text("#!/bin/sh\necho 'libxdp.so.1: cannot open' >&2\nexit 127\n")
    with pytest.raises(MachineError, match="libxdp"):
        engine.find(str(tmp_path))


def test_require(prefix: Path, old_system: Path) -> None:
    finish(prefix)
    engine.find().require("network-functions", "service chains")
    with pytest.raises(MachineError) as caught:
        engine.find("system").require("network-functions", "the chain `inspect`")
    for word in (
        "the chain `inspect`",
        "system",
        "23.03.1",
        "Network_Function_Group",
        engine.INSTALL_COMMAND,
    ):
        assert word in str(caught.value)


def test_a_tool_that_is_not_there(prefix: Path) -> None:
    finish(prefix)
    with pytest.raises(MachineError, match="no ovs-nonsense"):
        engine.find().tool("ovs-nonsense")


# --- damage ---------------------------------------------------------------------------------------


def flip(file: Path) -> None:
    """Change one byte and keep the size and the time."""
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("how", ["missing", "shorter", "changed"])
def test_damage_is_seen_at_use(prefix: Path, old_system: Path, how: str) -> None:
    finish(prefix)
    file = prefix / "bin/ovn-northd"
    if how == "missing":
        file.unlink()
    elif how == "shorter":
        file.write_text("#!/bin/sh\n")
    else:
        file.write_bytes(file.read_bytes().replace(b"23.03", b"23.04"))
    # Also where a system engine is there: a running lab must not change its engine by accident.
    with pytest.raises(MachineError, match=r"damaged.*ovn-northd") as caught:
        engine.find()
    assert caught.value.next_step == engine.INSTALL_COMMAND


def test_another_time_alone_is_no_damage(prefix: Path) -> None:
    finish(prefix)
    os.utime(prefix / "bin/ovn-northd")
    assert engine.find().name == "bundled"
    assert engine.verify() == []


def test_verify_sees_a_flipped_byte(prefix: Path) -> None:
    finish(prefix)
    assert engine.verify() == []
    flip(prefix / "bin/ovs-vswitchd")
    engine.find()  # not seen in passing ...
    assert engine.verify() == ["bin/ovs-vswitchd was changed"]
    flip(prefix / "packages/ovn_1_all.deb")
    assert len(engine.verify()) == 2
    (prefix / "bin/ovn-nbctl").chmod(0o644)
    assert "bin/ovn-nbctl is not executable" in engine.verify()


def test_an_engine_that_was_moved_is_not_used(
    prefix: Path, no_system: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(prefix)
    moved = prefix.with_name("moved")
    prefix.rename(moved)
    monkeypatch.setenv("NETCTL_ENGINE_DIR", str(moved))
    with pytest.raises(MachineError, match="made for"):
        engine.find()
    assert engine.verify() != []


def test_a_link_to_the_prefix_is_the_prefix(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(prefix)
    prefix.with_name("link").symlink_to(prefix)
    monkeypatch.setenv("NETCTL_ENGINE_DIR", str(prefix.with_name("link")))
    assert engine.find().prefix == prefix


# --- installing, as far as it goes without packages -----------------------------------------------


def test_install_leaves_a_sound_engine_alone(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(prefix)
    monkeypatch.setattr(engine, "_install", pytest.fail)
    before = {path: path.stat().st_mtime_ns for path in prefix.rglob("*")}
    assert engine.install().ovn_version == "26.03.1"
    assert {path: path.stat().st_mtime_ns for path in prefix.rglob("*")} == before


def test_install_without_packages_keeps_what_is_there(prefix: Path, tmp_path: Path) -> None:
    finish(prefix)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(MachineError, match="no packages"):
        engine.install(packages=empty)
    (empty / "ovn_1_amd64.deb").write_bytes(b"not a package")
    with pytest.raises(MachineError, match="dpkg-deb"):
        engine.install(packages=empty)
    assert engine.verify() == []
    assert [path.name for path in prefix.parent.iterdir() if ".work-" in path.name] == []


def test_install_says_how_much_room_it_wants(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ROOM", 1 << 60)
    with pytest.raises(MachineError, match="needs"):
        engine.install()


def test_install_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETCTL_ENGINE_DIR", "/proc/engine")
    with pytest.raises(MachineError) as caught:
        engine.install()
    assert "NETCTL_ENGINE_DIR" in (caught.value.next_step or "")


def test_unreachable_mirrors_are_all_named(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(_root: Path, mirror: str, suite: str, *_rest: object) -> list[Path]:
        raise MachineError(f"no route to {mirror}")

    monkeypatch.setattr(engine, "_fetch", unreachable)
    monkeypatch.setattr(engine, "mirrors", lambda: ["http://a.example", "http://b.example"])
    if not engine.KEYRING.is_file():
        pytest.skip("no debian-archive-keyring")
    with pytest.raises(MachineError) as caught:
        engine.install()
    for word in ("sid from http://a.example", "testing from http://b.example", engine.SYSTEM_COMMAND):
        assert word in str(caught.value)
    assert not prefix.exists()


def test_apt_settings_are_apart_from_the_machines(tmp_path: Path) -> None:
    text = engine._apt_conf(tmp_path, "amd64")
    assert f'Dir "{tmp_path}";' in text
    assert 'Dir::Etc::parts "/dev/null";' in text
    # The last word on signatures is ours, whatever the machine's settings say.
    assert text.rstrip().rindex('AllowInsecureRepositories "false"') > text.rfind(
        'AllowInsecureRepositories "1"'
    )
    assert "Post-Invoke" not in text
