"""Mininet's Node for what a lab consists of: hypervisors, ToRs, VMs, bare machines, CVMs.

A node here *attaches* to a namespace that the rack made; it makes and removes nothing. Its shell starts
with the first command that needs one and ends with the node (or with this process, however that
ends: the terminal hangs up). Mininet's `mnexec` is not needed, nor are `ifconfig` and `route`.

    Node (Mininet)
      Attached            enters a namespace, shell on demand
        Vm, Machine, Cvm, Function
        Hypervisor, Tor   have an Open vSwitch: `ovs-vsctl` and so on talk to it
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import termios
import warnings
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from dataplane import enter
from netctl.errors import InputError
from netctl.model import devices

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Mininet imports distutils
    from mininet.link import Intf, Link
    from mininet.node import Node

SENTINEL = chr(127)
"""What Mininet takes as the prompt: the end of a command's output."""


class Attached(Node):
    """A node in a namespace that is there already.

    `names` gives what the node's commands find in /etc/hosts (name to address), `environment` is what they
    get on top of this process's environment.
    """

    shell: subprocess.Popen[bytes] | None
    pid: int | None

    def __init__(
        self,
        name: str,
        namespace: str,
        names: Callable[[], Mapping[str, str]],
        environment: Mapping[str, str],
    ) -> None:
        self.namespace = namespace
        self._names = names
        self._environment = dict(environment)
        self._wanted = False
        super().__init__(name, inNamespace=True)

    @cached_property
    def names(self) -> Mapping[str, str]:
        """The lab's names and their addresses as this node reaches them."""
        return self._names()

    @classmethod
    def setup(cls) -> None:
        """Nothing to look for: Mininet's own class wants mnexec and ifconfig here."""

    # --- the shell, on demand

    def startShell(self, mnopts: str | None = None) -> None:
        """Start the shell if a command wants one; the constructor calls this too, and starts none."""
        if not self._wanted or self.shell is not None:
            return
        self.master, self.slave = pty.openpty()
        environment = {**os.environ, **self._environment, "PS1": SENTINEL, "PS2": "", "PROMPT_COMMAND": ""}
        self.shell = self._popen(
            # As Mininet starts it, so that `ps` shows the node's name.
            ["bash", "--norc", "--noediting", "-is", f"mininet:{self.name}"],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env=environment,
            preexec_fn=self._entering(terminal=True),
        )
        self.stdin = self.stdout = os.fdopen(self.master, "r")
        self.pid = self.shell.pid
        self.pollOut = select.poll()
        self.pollOut.register(self.stdout)
        self.outToNode[self.stdout.fileno()] = self
        self.inToNode[self.stdin.fileno()] = self
        self.execed = False
        self.lastCmd = self.lastPid = None
        self.readbuf = ""
        while not self.read(1024).endswith(SENTINEL):
            self.pollOut.poll()
        self.waiting = False
        self.cmd("unset HISTFILE; stty -echo; set +m")

    def _shell_wanted(self) -> None:
        if self.shell is None:
            self._wanted = True
            self.startShell()

    def sendCmd(self, *args: Any, **kwargs: Any) -> None:
        """Send a command to the shell and do not wait for it; see Mininet."""
        self._shell_wanted()
        # `mnexec -p` would tell the PID; bash can do that itself.
        if kwargs.pop("printPid", False):
            words = args[0] if len(args) == 1 and isinstance(args[0], list) else args
            line = " ".join(map(str, words))
            args = (f"( printf '\\001%d\\012' $BASHPID; exec {line} )",)
        super().sendCmd(*args, **kwargs)

    def cmd(self, *args: Any, **kwargs: Any) -> str:
        """Run a command in the shell; returns what it wrote."""
        self._shell_wanted()
        return str(super().cmd(*args, **kwargs))

    def popen(self, *args: Any, **kwargs: Any) -> subprocess.Popen[Any]:
        """A command in the node, beside the shell; arguments as in Mininet."""
        kwargs.pop("mncmd", None)
        shell = bool(kwargs.pop("shell", False))
        first = args[0] if len(args) == 1 else list(args)
        if isinstance(first, str):
            words = [first] if shell else first.split()
        else:
            words = [str(word) for word in first]
        if shell:
            words = ["bash", "-c", " ".join(words)]
        given = kwargs.pop("env", os.environ)
        settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        settings |= {"env": {**given, **self._environment}, "preexec_fn": self._entering()}
        process: subprocess.Popen[Any] = self._popen(words, **(settings | kwargs))
        return process

    def _entering(self, terminal: bool = False) -> Callable[[], None]:
        """What the child does between fork and exec."""
        if not (enter.NAMESPACES / self.namespace).exists():
            raise InputError(
                f"{self.name} is gone: there is no namespace {self.namespace}",
                "`netctl labs` shows which labs are running.",
            )

        names = self.names

        def child() -> None:
            os.setsid()
            if terminal:  # Ctrl-C for the shell's commands, and a hang-up when this process ends
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            enter.enter(self.namespace, names)

        return child

    def terminate(self) -> None:
        """End the shell and what runs in it; the node itself stays."""
        if self.shell is not None and self.shell.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.shell.pid, signal.SIGHUP)
        self.cleanup()

    def cleanup(self) -> None:
        """Close the terminal and wait for the shell."""
        if self.shell is None:
            return
        for known in (self.outToNode, self.inToNode):
            known.pop(self.stdout.fileno(), None)
        self.stdin.close()
        os.close(self.slave)
        try:
            self.shell.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.shell.kill()
            self.shell.wait()
        self.shell = self.pid = None
        self._wanted = False

    def stop(self, deleteIntfs: bool = False) -> None:
        """As `terminate`: interfaces belong to the lab and stay, whatever `deleteIntfs` says."""
        self.terminate()

    def __repr__(self) -> str:
        addresses = ",".join(f"{intf}:{intf.IP()}" for intf in self.intfList())
        return f"<{type(self).__name__} {self.name}: {addresses} namespace={self.namespace}> "


class Vm(Attached):
    """A VM that is a namespace."""


class Machine(Attached):
    """A bare machine on the fabric."""


class Cvm(Attached):
    """A controller VM."""


class Function(Attached):
    """A network function on a host."""


class Switching(Attached):
    """A node with an Open vSwitch of its own."""

    bridge = ""

    def dpctl(self, *args: str) -> str:
        """`ovs-ofctl` on the node's first bridge, such as `dpctl dump-flows`."""
        command, *rest = args
        return self.cmd("ovs-ofctl", command, self.bridge, *rest)

    def start(self, controllers: object = None) -> None:
        """Nothing: the lab starts its daemons (`netctl apply`)."""

    def connected(self) -> bool:
        """Whether its vswitchd answers."""
        return int(self.pexec("ovs-appctl", "-T", "5", "version")[2]) == 0


class Hypervisor(Switching):
    """A host: its bridges, uplinks and taps."""

    bridge = "br0"


class Tor(Switching):
    """A top-of-rack switch."""

    bridge = devices.SWITCH_BRIDGE


class Port(Intf):
    """An interface that is there already; reads with `ip`, as nothing says that `ifconfig` is installed."""

    def __init__(
        self, name: str, node: Attached, ip: str | None, prefix: int | None, mac: str | None
    ) -> None:
        super().__init__(name, node=node, moveIntfFn=_stay)
        self.ip, self.prefixLen, self.mac = ip, None if prefix is None else str(prefix), mac

    def config(self, *_: object, **__: object) -> dict[str, object]:
        """Nothing: the lab configures its interfaces."""
        return {}

    def ifconfig(self, *args: str) -> str:
        """`up`, `down`, `hw ether MAC`, an address, or (without arguments) what `ip` shows."""
        if not args:
            return self.cmd("ip", "address", "show", "dev", self.name)
        if args[0] in ("up", "down"):
            return self.cmd("ip", "link", "set", "dev", self.name, args[0])
        if args[:2] == ("hw", "ether"):
            return self.cmd("ip", "link", "set", "dev", self.name, "address", *args[2:])
        return self.cmd("ip", "address", "replace", args[0], "dev", self.name)

    def cmd(self, *args: str, **kwargs: object) -> str:
        """Run a command in the node."""
        return str(super().cmd(*args, **kwargs))

    def updateAddr(self) -> tuple[str | None, str | None]:
        """Address and MAC as they are now."""
        shown, _, code = self.node.pexec("ip", "-json", "address", "show", "dev", self.name)
        if code == 0:
            (link,) = json.loads(shown)
            inet = [each for each in link["addr_info"] if each["family"] == "inet"]
            self.ip = inet[0]["local"] if inet else None
            self.prefixLen = str(inet[0]["prefixlen"]) if inet else None
            self.mac = link.get("address")
        return self.ip, self.mac

    def updateIP(self) -> str | None:
        """The address as it is now."""
        return self.updateAddr()[0]

    def updateMAC(self) -> str | None:
        """The MAC as it is now."""
        return self.updateAddr()[1]

    def isUp(self, setUp: bool = False) -> bool:
        """Whether it is up; with `setUp`, set it up."""
        if setUp:
            return not self.ifconfig("up")
        return "UP" in self.ifconfig().partition("<")[2].partition(">")[0].split(",")

    def delete(self) -> None:
        """Nothing: interfaces belong to the lab."""


class Cable(Link):
    """A link that is there already."""

    def __init__(self, a: Port, b: Port) -> None:
        self.intf1, self.intf2 = a, b
        a.link = b.link = self

    def delete(self) -> None:
        """Nothing: links belong to the lab."""

    def stop(self) -> None:
        """Nothing: links belong to the lab."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def __str__(self) -> str:
        return "<->".join(f"{end.node.name}-{end.name}" for end in (self.intf1, self.intf2))


def _stay(*_: object) -> None:
    """In place of Mininet's move of an interface into a namespace: it is there already."""
