"""The documents stay true: their commands exist, their labs load, their links lead somewhere."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from netctl.cli import output
from netctl.cli.app import app
from netctl.errors import InputError
from netctl.intent import load, loads

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

SHELL = ("console", "sh")
"""Languages of blocks with commands: what a terminal shows, and commands to copy."""


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is where its text begins."""

    file: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}"

    @property
    def name(self) -> str | None:
        """The file that the block shows: its first line says `# NAME.yaml`."""
        match = re.match(r"# (\S+\.yaml)\n", self.text)
        return match[1] if match else None


def blocks(file: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a document, of these languages or all."""
    found = []
    for match in re.finditer(r"^```(\S*)\n(.*?)^```$", file.read_text(), re.MULTILINE | re.DOTALL):
        line = match.string.count("\n", 0, match.start()) + 2
        found.append(Block(file, line, match[1], match[2]))
    return [block for block in found if not languages or block.language in languages]


def transcript(block: Block) -> list[tuple[str, str]]:
    """The commands of a `console` block, each with the output below it."""
    found: list[tuple[str, str]] = []
    for line in block.text.splitlines(keepends=True):
        if line.startswith(("# ", "$ ")):
            found.append((line[2:].strip(), ""))
        elif found:
            found[-1] = (found[-1][0], found[-1][1] + line)
    return found


def commands(block: Block) -> list[str]:
    if block.language == "console":
        return [command for command, _ in transcript(block)]
    text = block.text.replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def simple_commands(line: str) -> Iterator[list[str]]:
    """The words of each simple command of a shell line, without redirections, sudo and variables."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    redirected = False
    for token in [*lexer, ";"]:
        if set(token) <= set("<>"):
            redirected = True
        elif redirected:
            redirected = False
        elif set(token) <= set("|&;()"):
            while words and (words[0] == "sudo" or re.match(r"\w+=", words[0])):
                del words[0]
            if words:
                yield words
            words = []
        else:
            words.append(token)


def parse(arguments: list[str]) -> None:
    """Parse a command line of netctl, as netctl would, up to running it."""
    if set(arguments) & {"--install-completion", "--show-completion"}:
        return  # these act while they are parsed
    command: Any = typer.main.get_command(app)
    context: Any = None
    name = "netctl"
    while True:
        context = command.make_context(name, list(arguments), parent=context)
        if not hasattr(command, "commands"):
            return
        arguments = [*context._protected_args, *context.args]
        if not arguments:
            return
        name, command, arguments = command.resolve_command(context, arguments)


SHELL_BLOCKS = [block for file in DOCUMENTS for block in blocks(file, *SHELL)]


@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=lambda block: block.place)
def test_commands_exist(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output.Options, "json", False)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in commands(block):
        for words in simple_commands(line):
            program = Path(words[0]).name
            if program == "netctl":
                try:
                    parse(words[1:])
                except Exception as error:
                    if type(error).__name__ != "Exit":  # --help and --version end so
                        pytest.fail(f"{block.place}: {line}\n{getattr(error, 'message', error)}")
            elif program == "make":
                asked = [word for word in words[1:] if "=" not in word]
                assert set(asked) <= set(targets), f"{block.place}: {line}"


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_commands_in_the_text_exist(file: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`([^`\n]+)`", text):
        words = code.split()
        if words[0] != "netctl":
            continue
        command: Any = typer.main.get_command(app)
        options = {name for parameter in command.params for name in parameter.opts}
        for word in words[1:]:
            if word in ("--", "|"):
                break
            if word.startswith("-"):
                assert word.partition("=")[0] in options | {"--help", "-h"}, f"{code}: no {word}"
            elif hasattr(command, "commands"):
                assert word in command.commands, f"{code}: no command {word}"
                command = command.commands[word]
                options |= {name for parameter in command.params for name in parameter.opts}


YAML_BLOCKS = [block for file in DOCUMENTS for block in blocks(file, "yaml")]


@pytest.mark.parametrize("block", YAML_BLOCKS, ids=lambda block: block.place)
def test_labs_load(block: Block) -> None:
    data = yaml.safe_load(block.text)
    if not {"name", "hosts"} <= data.keys():
        return  # a piece of a lab, or something else
    if block.name and block.name.startswith("wrong"):
        with pytest.raises(InputError):
            loads(block.text, block.place)
        return
    loads(block.text, block.place)
    if block.name and (ROOT / block.name).exists():
        assert data == yaml.safe_load((ROOT / block.name).read_text()), f"{block.name} is another"


def anchors(file: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    text = re.sub(r"^```.*?^```$", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(file: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        assert target.exists(), f"{file}: {link}"
        assert target.is_relative_to(ROOT), f"{file}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{file}: {link}; {target.name} has {sorted(anchors(target))}"


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    for file in (ROOT / "docs").glob("*.md"):
        assert file.name == "README.md" or f"({file.name})" in index, f"docs/README.md: no {file.name}"


def test_the_picture_is_what_graph_draws() -> None:
    from netctl.cli.picture.svg import svg

    drawn = svg(load(ROOT / "topologies" / "first-lab.yaml"))
    kept = (ROOT / "docs" / "first-lab.svg").read_text()
    assert kept == drawn, "make it anew: netctl graph topologies/first-lab.yaml -o docs/first-lab.svg"


def test_every_exit_code_is_explained() -> None:
    from netctl import errors
    from netctl.cli.app import INTERRUPTED
    from netctl.cli.lab import PENDING

    codes = {error.exit_code for error in vars(errors).values() if hasattr(error, "exit_code")}
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    explained = {int(code) for code in re.findall(r"^## (\d+)", text, re.MULTILINE)}
    assert codes | {PENDING, INTERRUPTED} <= explained


def pattern(node: ast.expr) -> str:
    """A regular expression for the texts that a string in the source can become."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(pattern, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return pattern(node.left) + pattern(node.right)
    return ".*"


def said() -> re.Pattern[str]:
    """All texts of the source with at least two words of their own."""
    patterns = {re.escape("not supported yet: "): None}
    for package in ("netctl", "dataplane"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp):
                    text = pattern(node)
                    if len(re.findall(r"[a-z]{2,}", text.replace("\\", " "))) >= 2:
                        patterns[text] = None
    return re.compile("|".join(f"(?:{text})" for text in patterns), re.DOTALL)


def test_messages_are_as_netctl_says_them() -> None:
    """The blocks of troubleshooting.md that begin with `netctl: `, line by line."""
    known = said()
    for block in blocks(ROOT / "docs" / "troubleshooting.md", "text"):
        if not block.text.startswith("netctl: "):
            continue
        for line in map(str.strip, block.text.splitlines()):
            whole = known.fullmatch(line) or known.fullmatch(line.removeprefix("netctl: "))
            assert whole, f"{block.place}: netctl does not say: {line}"
