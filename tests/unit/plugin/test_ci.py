"""The CI files of docs/ci.md: GitHub and GitLab can read them, and everything that they run exists."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from netctl.errors import InputError
from tests.unit.test_docs import parse

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "ci.md").read_text()
FILES = [
    (name, yaml.load(text, Loader=yaml.BaseLoader))  # GitHub's `on` is no truth value
    for name, text in re.findall(r"^```yaml\n# (\S+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
]
GITHUB = [data for name, data in FILES if name.startswith(".github/workflows/")]
GITLAB = [data for name, data in FILES if name == ".gitlab-ci.yml"]
ESSENTIAL = {"util-linux", "dpkg"}
"""Packages that every Debian has."""


def scripts(data: dict[str, Any]) -> list[str]:
    """Every shell script of a file; of a GitLab job one, since its lines share a shell."""
    found = []
    for job in data.get("jobs", {}).values():
        found += [step["run"] for step in job["steps"] if "run" in step]
    for job in data.values():
        if isinstance(job, dict) and "script" in job:
            found.append("\n".join([*job["before_script"], *job["script"]]))
    assert found
    return found


SCRIPTS = [script for _, data in FILES for script in scripts(data)]


def words_of(script: str) -> list[list[str]]:
    """The simple commands of a script, in words, without sudo and tests."""
    lines = script.replace("\\\n", " ").splitlines()
    found = []
    for command in re.split(r"[;\n]|&&|\|\|", "\n".join(lines)):
        words = shlex.split(re.sub(r"\$\(.*?\)", "x", command))
        while words and (words[0] in ("sudo", "do", "then", "else") or words[0].startswith("--preserve-env")):
            del words[0]
        if words:
            found.append(words)
    return found


COMMANDS = [words for script in SCRIPTS for words in words_of(script)]


def test_both_are_there_twice() -> None:
    assert len(GITHUB) == 2 and len(GITLAB) == 2


@pytest.mark.parametrize("data", GITHUB)
def test_github(data: dict[str, Any]) -> None:
    assert set(data) == {"name", "on", "jobs"}
    for job in data["jobs"].values():
        assert set(job) == {"runs-on", "timeout-minutes", "env", "steps"}
        assert job["runs-on"] == "ubuntu-24.04"
        for step in job["steps"]:
            assert set(step) <= {"name", "uses", "with", "run", "if"}
            assert ("uses" in step) != ("run" in step)
            assert re.fullmatch(
                r"actions/(checkout|cache|upload-artifact)@v\d+", step.get("uses", "actions/cache@v4")
            )
        uploads = [step for step in job["steps"] if "upload-artifact" in step.get("uses", "")]
        assert [step["if"] for step in uploads] == ["failure()"]
        assert {"results", "netctl-failures"} <= set(uploads[0]["with"]["path"].split())
        [cache] = [step for step in job["steps"] if "actions/cache" in step.get("uses", "")]
        assert job["env"]["NETCTL_ENGINE_DIR"].endswith("/.netctl-engine")
        assert ".netctl-engine" in cache["with"]["path"].split()


@pytest.mark.parametrize("data", GITLAB)
def test_gitlab(data: dict[str, Any]) -> None:
    for job in data.values():
        assert set(job) == {
            "image", "timeout", "variables", "cache", "before_script", "script", "artifacts"
        }  # fmt: skip
        assert job["artifacts"]["when"] == "always"
        assert {"results", "netctl-failures"} <= set(job["artifacts"]["paths"])
        assert job["artifacts"]["reports"]["junit"] == "results/*.xml"
        assert ".netctl-engine" in job["cache"]["paths"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_parse(script: str) -> None:
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_commands_and_options_of_netctl_exist() -> None:
    seen = set()
    for words in COMMANDS:
        if Path(words[0]).name == "netctl":
            try:
                parse(words[1:])
            except InputError as error:
                pytest.fail(f"{words}: {error}")
            seen.add(words[1])
    assert seen == {"test", "doctor", "engine"}


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = [words[1] for words in COMMANDS if words[0] == "make"]
    assert set(asked) == {"setup", "test", "demo"} <= targets


def test_the_files_that_caches_depend_on_exist() -> None:
    named = re.findall(r"hashFiles\(([^)]*)\)", TEXT)
    files = [file.strip(" '") for names in named for file in names.split(",")]
    files += [file for data in GITLAB for job in data.values() if isinstance(job["cache"]["key"], dict)
              for file in job["cache"]["key"]["files"]]  # fmt: skip
    assert len(files) == 4 and all((ROOT / file).exists() for file in files)


@pytest.mark.parametrize("data", [GITHUB[0], GITLAB[0]])
def test_the_packages_are_those_of_the_set_up(data: dict[str, Any]) -> None:
    setup = (ROOT / "scripts" / "setup").read_text()
    wanted = set(re.findall(r'^    "\S+ +(\S+)"$', setup, re.MULTILINE)) - ESSENTIAL
    wanted |= {"debian-archive-keyring", "python3-venv"}
    assert len(wanted) >= 5
    [installed] = [
        words for script in scripts(data) for words in words_of(script) if words[:2] == ["apt-get", "install"]
    ]
    assert wanted <= set(installed)


def test_variables_that_netctl_knows() -> None:
    known = "".join(
        file.read_text() for file in [*(ROOT / "dataplane").rglob("*.py"), ROOT / "scripts" / "setup"]
    )
    for name in set(re.findall(r"NETCTL_\w+", TEXT)):
        assert name in known
