"""The flows on bridges: read those with our cookie, write changes as one bundle for each bridge.

By ovs-ofctl, in the text that OVS itself prints: a flow that was changed by hand reads differently, whatever
its cookie says. Flows with another cookie are somebody else's, or ours learned them; those are left alone.
But for the one by which a new bridge is a learning switch: OVS made it, once, and does not make it again.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from netctl.errors import ChangeError, MachineError
from netctl.model.change import FlowChange, by_bridge
from netctl.model.flow import Flow, FlowKey, by_key, learned_cookie, match_text, owner_cookie, switching
from netctl.model.state import OpenFlow

LIMIT = 30
"""Seconds within which a switch must answer."""

WORKERS = 8
"""Switches that are talked to at once."""

_MINE = 0xFFFFFFFF00000000
_ABSENT = ("Connection refused", "No such file or directory")
_LINE = re.compile(
    r"^ *(?:cookie=(?P<cookie>0x[0-9a-f]+), *)?(?:table=(?P<table>\d+), *)?(?:(?P<extra>\S.*?) )??"
    r"(?P<match>\S*?) ?actions=(?P<actions>.*)$"
)

_COUNT = re.compile(r"cookie=(?P<cookie>0x[0-9a-f]+), .*?n_packets=(?P<packets>[0-9]+)")

T = TypeVar("T")
R = TypeVar("R")


def read(
    openflow: OpenFlow, bridges: Mapping[str, Iterable[str]], owner: str
) -> dict[str, dict[FlowKey, Flow]]:
    """Our flows by node, on these bridges of these nodes. A bridge where nobody answers has none."""
    places = [(node, bridge) for node, found in sorted(bridges.items()) for bridge in sorted(found)]
    dumps = _each(
        places, lambda place: _dump_flows(openflow, *place, ("--names", "--no-stats", "dump-flows"))
    )
    flows: dict[str, list[Flow]] = {}
    for (node, bridge), dump in zip(places, dumps, strict=True):
        flows.setdefault(node, []).extend(parse(bridge, dump, owner))
    return {node: by_key(found) for node, found in flows.items()}


def write(openflow: OpenFlow | None, changes: Sequence[FlowChange]) -> None:
    """Carry out changes of flows: one bundle for each bridge, all or nothing there.

    Returns when the switches have taken the flows in.

    Raises:
        ChangeError: a switch refused or does not answer.
    """
    parts = list(by_bridge(changes))
    if not parts:
        return
    if openflow is None:
        raise MachineError(
            f"{len(changes)} flows are to be written, but it is not known how bridges are reached",
            "Say where their OpenFlow sockets are.",
        )

    def bundle(part: tuple[tuple[str, str], tuple[FlowChange, ...]]) -> None:
        (node, bridge), changes = part
        text = "".join(f"{_message(change)}\n" for change in changes)
        done = _run(openflow, node, bridge, ("--bundle", "add-flows"), ("-",), text)
        if done.returncode != 0:
            raise ChangeError(
                f"{bridge} of {node} refused its flows: {_words(done.stderr)}",
                "The same command again takes up from here.",
            )

    _each(parts, bundle)


def parse(bridge: str, dump: str, owner: str) -> list[Flow]:
    """The flows of an owner in what `ovs-ofctl --names --no-stats dump-flows` printed, less learned ones.

    And the one that a new bridge has. What our flows never have, such as a timeout, stands in front of the
    actions.
    """
    mark, learned, first = owner_cookie(owner), learned_cookie(owner), switching(bridge)
    flows = []
    for line in dump.splitlines():
        found = _LINE.match(line.replace('"', ""))
        if found is None:
            continue
        cookie = int(found["cookie"] or "0", 16)
        if cookie == learned or cookie & _MINE not in (mark, first.cookie):
            continue
        priority, fields = 32768, []
        for part in found["match"].split(","):
            if part.startswith("priority="):
                priority = int(part.removeprefix("priority="))
            elif part:
                fields.append(part)
        actions = f"{found['extra'] or ''} {found['actions']}".lstrip()
        match = match_text(fields)
        flow = Flow(bridge, int(found["table"] or 0), priority, match, actions, cookie)
        if cookie & _MINE == mark or flow.key == first.key:
            flows.append(flow)
    return flows


def counts(
    openflow: OpenFlow, places: Iterable[tuple[str, str]], mark: int | None = None
) -> list[tuple[int, int]]:
    """Cookie and packets of each flow on these bridges (as node and bridge), of an owner's or of all."""
    only = () if mark is None else (f"cookie={mark:#x}/{_MINE:#x}",)
    dumps = _each(list(places), lambda place: _dump_flows(openflow, *place, ("dump-flows",), only))
    return [
        (int(found["cookie"], 16), int(found["packets"])) for dump in dumps for found in _COUNT.finditer(dump)
    ]


def _message(change: FlowChange) -> str:
    """A line of an ovs-ofctl flow file. Adding replaces a flow of the same key, whoever's it was."""
    if change.new is not None:
        return f"add cookie={change.new.cookie:#x},{change.new.text}"
    flow = change.flow
    match = f",{flow.match}" if flow.match else ""
    return f"delete_strict cookie={flow.cookie:#x}/-1,table={flow.table},priority={flow.priority}{match}"


def _dump_flows(
    openflow: OpenFlow, node: str, bridge: str, command: tuple[str, ...], arguments: tuple[str, ...] = ()
) -> str:
    """What ovs-ofctl prints of a bridge's flows; nothing where nobody answers."""
    done = _run(openflow, node, bridge, command, arguments)
    if done.returncode == 0:
        return done.stdout
    if any(word in done.stderr for word in _ABSENT):
        return ""
    raise ChangeError(
        f"the flows of {bridge} of {node} cannot be read: {_words(done.stderr)}",
        "See with `netctl status` whether its ovs-vswitchd runs.",
    )


def _run(
    openflow: OpenFlow,
    node: str,
    bridge: str,
    command: tuple[str, ...],
    arguments: tuple[str, ...],
    text: str = "",
) -> subprocess.CompletedProcess[str]:
    target = openflow.bridges[node].format(bridge=bridge)
    try:
        return subprocess.run(
            [openflow.program, "-O", "OpenFlow15", f"--timeout={LIMIT}", *command, target, *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **openflow.environment},
        )
    except OSError as error:
        raise MachineError(
            f"{openflow.program} cannot be run: {error.strerror}", "`netctl engine` shows which one is used."
        ) from None


def _each(places: list[T], work: Callable[[T], R]) -> list[R]:
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="openflow") as pool:
        return list(pool.map(work, places))


def _words(stderr: str) -> str:
    """The first line of what ovs-ofctl said, without its own name."""
    lines = [line for line in stderr.splitlines() if line.strip() and "|INFO|" not in line]
    return lines[0].removeprefix("ovs-ofctl: ") if lines else f"no answer within {LIMIT} s"
