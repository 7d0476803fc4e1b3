"""A bundle: a directory with all that tells why checks failed, made while the lab is still as it was.

It is for broken labs, so nothing that is broken may keep it from being made: what cannot be had is a line in
its README. Everything is asked side by side, each question with a limit; sizes are bounded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shlex
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as OutOfTime
from pathlib import Path
from typing import TYPE_CHECKING

from netctl import __version__
from netctl.errors import MachineError, NetctlError

if TYPE_CHECKING:
    from dataplane.checks import Result
    from dataplane.dumps import Dump
    from netctl.cli.operations import Running
    from netctl.model import Intent
    from netctl.model.check import Probe

FAILURES = Path("netctl-failures")
"""Where bundles go, in the directory that netctl runs in."""

LIMIT = 15.0
"""Seconds after which what has not been answered is left out."""

PLAN_LIMIT = 3.0
"""Seconds that the comparison with the intent may take."""

MOST_OCTETS = 4 << 20
"""Octets of one file of text; the rest is cut."""

ALL_OCTETS = 64 << 20
"""Octets of all texts together."""

_ASKING = 8

_FILES = {
    "way.pcapng": "one packet of each failed check, sent once more, at every point that it passes",
    "checks.json": "the failed checks: what was stated, what was seen, packet by packet",
    "replay.md": "how to do it again",
    "intent.yaml": "the lab's intent, with all that netctl assigned",
    "plan.txt": "what differs from the intent: what `netctl apply` would change",
    "daemons.txt": "the daemons that should run, and whether they do",
    "guests.txt": "addresses, routes and neighbours of the VMs and machines of the failed checks",
    "nb.txt": "OVN's Northbound database",
    "sb.txt": "OVN's Southbound database, and its logical flows",
    "NODE/flows-BRIDGE.txt": "the OpenFlow flows of a bridge, with their counters",
    "NODE/fdb.txt": "the MAC tables of its bridges",
    "NODE/bond.txt": "its bonds: members, which is active, LACP",
    "NODE/datapath.txt": "ports and cached flows of the datapath, and what it counted (drops are among it)",
    "NODE/ovs.txt": "its Open vSwitch database",
    "NODE/controller.txt": "whether ovn-controller reaches the Southbound database",
    "NODE/network.txt": "its devices, addresses, routes and neighbours",
    "NODE/*.log": "the end of each daemon's log",
}


def write(running: Running, results: Sequence[Result], directory: Path | None = None) -> Path:
    """Write a bundle about failed checks; returns its directory.

    Args:
        running: the lab, as broken as it is.
        results: the checks that failed.
        directory: where to; by default `netctl-failures/LAB-TIME` in the working directory, or where that
            cannot be written in the machine's directory for temporary files.

    Raises:
        MachineError: there is no place to write it to. Nothing else is an error.
    """
    final = _final(running.name, directory)
    draft = final.with_name(f".{final.name}.part")
    try:
        draft.mkdir(parents=True)
        made = _Bundle(draft)
        _fill(made, _as_it_is(running), results)
        if final.exists():
            final.rmdir()  # it was given to us, and empty
        draft.rename(final)
    except OSError as error:
        raise MachineError(
            f"cannot write the bundle {final}: {error.strerror}", "Make room, or run it in another directory."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if directory is None:
            with contextlib.suppress(OSError):
                final.parent.rmdir()  # only when nothing came into being
    return final


def _final(lab: str, directory: Path | None) -> Path:
    """A directory that is not there yet, in a place that can be written to."""
    if directory is not None:
        if directory.is_dir() and not any(directory.iterdir()):
            return directory.absolute()
        return _free(directory.absolute())
    stamp = time.strftime("%Y%m%d-%H%M%S")
    place = FAILURES.absolute()
    try:
        place.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
    except OSError:
        place = Path(tempfile.gettempdir(), FAILURES)
    return _free(place / f"{lab}-{stamp}")


def _free(wanted: Path) -> Path:
    number = 1
    found = wanted
    while found.exists() or found.with_name(f".{found.name}.part").exists():
        number += 1
        found = wanted.with_name(f"{wanted.name}-{number}")
    return found


def _as_it_is(running: Running) -> Running:
    """The lab with the intent that it has now: a story may have changed it."""
    from netctl.cli import operations

    try:
        return operations.locate(running.name)
    except NetctlError:
        return running


class _Bundle:
    """A directory with texts, and what could not be had for it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.trouble: list[str] = []
        self._left = ALL_OCTETS

    def put(self, name: str, text: str) -> None:
        """Write a text, or as much of it as there is room for."""
        octets = text.encode(errors="replace")
        room = min(MOST_OCTETS, self._left)
        if len(octets) > room:
            self.trouble.append(f"{name}: cut after {room} of {len(octets)} octets")
            octets = octets[:room] + b"\n(cut)\n"
        self._left -= min(len(octets), room)
        file = self.directory / name
        try:
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(octets)
        except OSError as error:
            self.trouble.append(f"{name}: {_words(error)}")

    def attempt(self, name: str, make: Callable[[], str]) -> None:
        """Write what a function makes; its error is a line of trouble."""
        try:
            self.put(name, make())
        except Exception as error:
            self.trouble.append(f"{name}: {_words(error)}")


def _fill(made: _Bundle, running: Running, results: Sequence[Result]) -> None:
    deadline = time.monotonic() + LIMIT
    plan = _Aside(lambda: _databases(running))
    probes = [probe for result in results for probe in _probes(result)]
    with ThreadPoolExecutor(_ASKING, "bundle") as pool:
        try:
            asked = [(dump, pool.submit(dump.read)) for dump in _dumps(running, probes)]
            made.attempt("checks.json", lambda: _checks(running, results))
            made.attempt("intent.yaml", lambda: _intent(running.intent, results))
            made.attempt("replay.md", lambda: _replay(running, results))
            made.attempt("daemons.txt", lambda: _daemons(running))
            _send_again(made, running, probes)
            _gather(made, asked, deadline)
        finally:
            pool.shutdown(cancel_futures=True)
    made.put("plan.txt", _plan(made, running, plan))
    made.put("README.md", _readme(made, running, results))


# --- questions to the lab -------------------------------------------------------------------------


def _dumps(running: Running, probes: Sequence[Probe]) -> Iterator[Dump]:
    """All that is asked, the hosts of the failed checks first."""
    from dataplane import dumps

    runner, nodes = running.rack.runner, running.rack.inventory.nodes
    ends = _ends(running.intent, probes)
    concerned = {port.host for port in running.intent.ports if port.vm in ends}
    yield from dumps.of_central(runner)
    for node in sorted(nodes.values(), key=lambda node: (node.name not in concerned, node.name)):
        if node.kind in ("host", "switch"):
            yield from dumps.of_switching(runner, node)
            yield from dumps.of_network(runner, node.name, f"{node.name}/network.txt")
        yield from dumps.of_logs(runner, node)
    for name in sorted(ends):
        yield from dumps.of_network(runner, name, "guests.txt")


def _gather(made: _Bundle, asked: Sequence[tuple[Dump, Future[str]]], deadline: float) -> None:
    """Write the answers, one file after the other, in the order in which they were asked for."""
    files: dict[str, list[str]] = {}
    for dump, future in asked:
        heading = f"$ {dump.title}\n" if dump.title else ""
        try:
            text = future.result(max(0.0, deadline - time.monotonic()))
        except OutOfTime:
            text = _missed(made, dump, f"no answer within {LIMIT:g} s")
        except Exception as error:
            text = _missed(made, dump, _words(error))
        files.setdefault(dump.file, []).append(f"{heading}{text}\n" if heading else text)
    for name, texts in files.items():
        made.put(name, "".join(texts))


def _missed(made: _Bundle, dump: Dump, words: str) -> str:
    what = f"{dump.file} ({dump.title})" if dump.title else dump.file
    made.trouble.append(f"{what}: {words}")
    return f"not to be had: {words}\n"


class _Aside:
    """Something that has no limit of its own, on a thread that is left behind when it takes too long."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make
        self._text = ""
        self._error: Exception | None = None
        self._end = time.monotonic() + PLAN_LIMIT
        self._thread = threading.Thread(target=self._run, name="bundle-aside", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._text = self._make()
        except Exception as error:
            self._error = error

    def result(self) -> str:
        """What was made; raises the error that came instead, or that it took too long."""
        self._thread.join(max(0.0, self._end - time.monotonic()))
        if self._thread.is_alive():
            raise MachineError(f"no answer within {PLAN_LIMIT:g} s")
        if self._error:
            raise self._error
        return self._text


def _send_again(made: _Bundle, running: Running, probes: Sequence[Probe]) -> None:
    try:
        from dataplane.capture.again import send_again

        sent = send_again(running.intent, running.name, probes, made.directory / "way.pcapng")
    except Exception as error:
        made.trouble.append(f"way.pcapng: {_words(error)}")
    else:
        made.trouble += [f"way.pcapng: {words}" for words in sent.trouble]


def _plan(made: _Bundle, running: Running, databases: _Aside) -> str:
    """What differs from the intent: in the rack, and in the databases."""
    texts = []
    parts: Mapping[str, Callable[[], str]] = {"rack": lambda: _rack(running), "databases": databases.result}
    for what, read in parts.items():
        try:
            texts.append(read())
        except Exception as error:
            made.trouble.append(f"plan.txt ({what}): {_words(error)}")
            texts.append(f"not to be had: {_words(error)}\n")
    return "".join(texts) or "nothing differs from the intent\n"


def _rack(running: Running) -> str:
    rack = running.rack
    return "".join(f"{change}\n" for change in rack.difference(rack.observe()))


def _databases(running: Running) -> str:
    from netctl import reconcile
    from netctl.compile import compile_intent

    rack = running.rack
    desired = compile_intent(running.intent, southbound=rack.endpoints().southbound)
    return "".join(f"{change.text}\n" for change in reconcile.preview(desired, rack.reachable()).changes)


def _daemons(running: Running) -> str:
    from dataplane import dumps

    nodes = running.rack.inventory.nodes.values()
    return "".join(dumps.daemons(running.rack.runner, node) for node in nodes)


# --- what is known already ------------------------------------------------------------------------


def _probes(result: Result) -> list[Probe]:
    """The probe of a check; of a story the last one up to the step that did not hold."""
    if result.check.steps is None:
        return [result.check]
    fell = re.match(r"step (\d+) ", result.seen)
    steps = result.check.steps[: int(fell[1]) if fell else None]
    return [probe for step in steps if (probe := step.check or step.traffic)][-1:]


def _ends(intent: Intent, probes: Sequence[Probe]) -> set[str]:
    """The nodes at the ends of these probes: VMs and bare machines."""
    known = {*intent.file.vms, *intent.machines}
    words = {word.partition("/")[0] for probe in probes for word in (probe.from_, probe.to) if word}
    return words & known


def _checks(running: Running, results: Sequence[Result]) -> str:
    engine = running.rack.runner.engine
    document = {
        "lab": running.name,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "netctl": __version__,
        "engine": {"name": engine.name, "ovn": engine.ovn_version, "ovs": engine.ovs_version},
        "checks": [
            result.to_dict()
            | {"check": result.check.model_dump(mode="json", by_alias=True, exclude_unset=True)}
            for result in results
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n"


def _intent(intent: Intent, results: Sequence[Result]) -> str:
    """The intent with its checks, and those that failed if they came from elsewhere."""
    from netctl.intent.writing import dump

    checks = list(intent.file.checks)
    checks += [result.check for result in results if result.check not in checks]
    return dump(dataclasses.replace(intent, file=intent.file.model_copy(update={"checks": checks})))


def _replay(running: Running, results: Sequence[Result]) -> str:
    select = " ".join(f"--select {shlex.quote(result.name)}" for result in results)
    return f"""\
# Do it again

In this directory, as root. The lab {running.name} as it was to be, on a machine where it is not up:

    netctl up intent.yaml

Its failed checks; on the lab as it is now, if it still runs:

    netctl test intent.yaml --lab {running.name} {select}

What was broken by hand or had broken by itself is not in intent.yaml: plan.txt tells what differed.

# The packets

    tshark -r way.pcapng -T fields -e frame.time_relative -e frame.interface_name -e _ws.col.Info
    wireshark way.pcapng

Each interface is a point of the lab: a NIC, tap, uplink or switch port. Watch it live:

    netctl capture --lab {running.name} --filter icmp
"""


def _readme(made: _Bundle, running: Running, results: Sequence[Result]) -> str:
    lines = [
        f"# {running.name}: {len(results)} failed",
        "",
        f"{time.strftime('%Y-%m-%d %H:%M:%S %Z')}, netctl {__version__}, "
        f"OVN {running.rack.runner.engine.ovn_version}, OVS {running.rack.runner.engine.ovs_version}",
        "",
    ]
    for result in results:
        lines += [f"- {result.name}", f"  - stated: {result.expected}", f"  - seen: {result.seen}"]
    if running.record.faults:
        lines += ["", f"Broken with `netctl fail`: {', '.join(running.record.faults)}"]
    lines += ["", "| file | what it is |", "| --- | --- |"]
    lines += [f"| {name} | {about} |" for name, about in _FILES.items()]
    if made.trouble:
        lines += ["", "## What could not be had", ""]
        lines += [f"- {words}" for words in made.trouble]
    return "\n".join(lines) + "\n"


def _words(error: Exception) -> str:
    if isinstance(error, NetctlError):
        return error.message
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}".splitlines()[0]
