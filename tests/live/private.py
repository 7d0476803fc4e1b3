"""Databases and daemons for one test alone: a run directory, and namespaces for those that open devices."""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import subprocess
from pathlib import Path
from typing import Any

from dataplane import engine
from netctl.model.state import Endpoints

NORTHBOUND, SOUTHBOUND = "nb", "sb"

COUNTERS = {"nb_cfg", "sb_cfg", "hv_cfg", "next_cfg", "cur_cfg"}
COUNTERS |= {"nb_cfg_timestamp", "sb_cfg_timestamp", "hv_cfg_timestamp"}


class Private:
    """Real servers in a directory of their own. `close` ends them all and removes the namespaces."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.engine = engine.find()
        self._token = secrets.token_hex(3)
        self._namespaces: list[str] = []

    def close(self) -> None:
        """End what was started, by its own pid file."""
        for file in self.directory.glob("*.pid"):
            self._signal(file.stem, signal.SIGKILL)
        for name in self._namespaces:
            subprocess.run(["ip", "netns", "delete", name], check=True)

    # --- daemons ---------------------------------------------------------------------------------------

    def remote(self, name: str) -> str:
        return f"unix:{self.directory / name}.sock"

    def endpoints(self, *nodes: str) -> Endpoints:
        return Endpoints(
            self.remote(NORTHBOUND), self.remote(SOUTHBOUND), {node: self.remote(node) for node in nodes}
        )

    def database(self, name: str, schema: engine.Schema = "vswitch") -> None:
        """An ovsdb-server with an empty database."""
        file = self.directory / f"{name}.db"
        if not file.exists():
            self.tool("ovsdb-tool", "create", str(file), str(self.engine.schema(schema)))
        self._start(name, "ovsdb-server", str(file), f"--remote=p{self.remote(name)}")

    def central(self) -> None:
        """OVN's two databases with northd between them."""
        self.database(NORTHBOUND, "ovn-nb")
        self.database(SOUTHBOUND, "ovn-sb")
        databases = f"--ovnnb-db={self.remote(NORTHBOUND)}", f"--ovnsb-db={self.remote(SOUTHBOUND)}"
        self._start("northd", "ovn-northd", *databases)

    def namespace(self, node: str) -> str:
        return f"ctl-{self._token}-{node}"

    def node(self, name: str, *devices: str) -> None:
        """A namespace with devices, an ovsdb-server and an ovs-vswitchd."""
        namespace = self.namespace(name)
        subprocess.run(["ip", "netns", "add", namespace], check=True)
        self._namespaces.append(namespace)
        for device in devices:
            self.device(name, device)
        self.database(name)
        self._start(f"{name}-vswitchd", "ovs-vswitchd", self.remote(name), node=name)

    def device(self, node: str, name: str) -> None:
        """A veth pair in the namespace of a node, both ends up."""
        command = ["ip", "-n", self.namespace(node), "link"]
        subprocess.run([*command, "add", name, "type", "veth", "peer", "name", f"p-{name}"[:15]], check=True)
        for end in (name, f"p-{name}"[:15]):
            subprocess.run([*command, "set", end, "up"], check=True)

    def controller(self, node: str) -> None:
        """The ovn-controller of a node."""
        self._start(f"{node}-controller", "ovn-controller", self.remote(node), node=node)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        self._signal(name, number)

    def _signal(self, name: str, number: int) -> None:
        file = self.directory / f"{name}.pid"
        if file.exists():
            pid = int(file.read_text())
            descriptor = None
            try:
                descriptor = os.pidfd_open(pid)
                signal.pidfd_send_signal(descriptor, number)
                if number == signal.SIGKILL:
                    select.select([descriptor], [], [], 10)
            except ProcessLookupError:
                pass
            finally:
                if descriptor is not None:
                    os.close(descriptor)
            if number == signal.SIGKILL:
                file.unlink()

    def _start(self, name: str, program: str, *arguments: str, node: str | None = None) -> None:
        inside = ["ip", "netns", "exec", self.namespace(node)] if node else []
        subprocess.run(
            [
                *inside,
                self.engine.tool(program),
                *arguments,
                "--detach",
                "--no-chdir",
                f"--pidfile={self.directory / name}.pid",
                f"--log-file={self.directory / name}.log",
                f"--unixctl={self.directory / name}.ctl",
                "-vconsole:off",
                "-vsyslog:off",
            ],
            check=True,
            timeout=30,
            env=self._environment(),
        )

    # --- tools -----------------------------------------------------------------------------------------

    def tool(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [self.engine.tool(program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env=self._environment(),
        )
        assert done.returncode == 0, f"{program} {arguments}: {done.stderr}"
        return done.stdout

    def nbctl(self, *arguments: str) -> str:
        return self.tool("ovn-nbctl", f"--db={self.remote(NORTHBOUND)}", *arguments)

    def sbctl(self, *arguments: str) -> str:
        return self.tool("ovn-sbctl", f"--db={self.remote(SOUTHBOUND)}", *arguments)

    def vsctl(self, node: str, *arguments: str) -> str:
        return self.tool("ovs-vsctl", "--no-wait", f"--db={self.remote(node)}", *arguments)

    def dump(self, name: str, database: str) -> dict[str, list[dict[str, Any]]]:
        """Everything in a database, but for counters; rows are told by their names instead of UUIDs."""
        text = self.tool("ovsdb-client", "--format=json", "dump", self.remote(name), database)
        tables = [json.loads(line) for line in text.splitlines() if line.strip()]
        names = {}
        for table in tables:
            at = {heading: index for index, heading in enumerate(table["headings"])}
            for row in table["data"]:
                label = row[at["name"]] if "name" in at else "."
                names[row[at["_uuid"]][1]] = f"{table['caption'].split()[0]} {label}"
        return {
            table["caption"].split()[0]: sorted(
                (
                    {
                        heading: _named(value, names)
                        for heading, value in zip(table["headings"], row, strict=True)
                        if heading not in COUNTERS
                    }
                    for row in table["data"]
                ),
                key=str,
            )
            for table in tables
        }

    def _environment(self) -> dict[str, str]:
        own = dict.fromkeys(("OVS_RUNDIR", "OVN_RUNDIR", "OVS_LOGDIR", "OVN_LOGDIR"), str(self.directory))
        return {**os.environ, **self.engine.env(), **own}


def _named(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, list):
        if len(value) == 2 and value[0] == "uuid":
            return names.get(value[1], value[1])
        members = [_named(member, names) for member in value]
        return (
            [members[0], sorted(members[1], key=str)] if members and members[0] in ("set", "map") else members
        )
    return value
