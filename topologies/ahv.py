r"""A plain AHV rack for Mininet's own `mn`: no netctl, no OVN, no policies; just the bridges and bonds.

    mn --custom topologies/ahv.py --topo ahv,4        four hypervisors, two VMs each
    mn --custom topologies/ahv.py --topo ahv,4,3      three VMs each

     vm1 vm2    vm3 vm4
       |  |       |  |
     [ hv1 ]    [ hv2 ]   ...     br0, with bond br0-up (active-backup) over eth0 and eth1
      |    \    /    |
    [ tor1 ]====[ tor2 ]

Needs Mininet alone (Debian's or PyPI's) and the programs of Open vSwitch. Each hypervisor and each switch
runs an Open vSwitch of its own in its own network namespace, with the userspace datapath: there need be
no openvswitch module in the kernel and no Open vSwitch service on the machine, and one that is there is
left alone. Neither is Mininet's `mnexec` needed, which PyPI's package lacks.

The programs are looked for in the PATH, then where netctl keeps its own (`netctl engine install`).
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from mininet.node import Host, Node, Switch
from mininet.topo import Topo

ENGINE = os.environ.get("NETCTL_ENGINE_DIR", "/var/lib/netctl/engine")
PROGRAMS = ("ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovs-ofctl", "ovsdb-tool")
SCHEMAS = ("/usr/share/openvswitch/vswitch.ovsschema", "/usr/local/share/openvswitch/vswitch.ovsschema")
RUN = "/mnt"
"""Where a switch keeps its database, sockets and logs: a tmpfs that only its own processes see."""

READY_LIMIT = 30
"""Seconds that an Open vSwitch may take to start."""

CHECKSUMS = """
import array, fcntl, socket, struct, sys
off = array.array("B", struct.pack("=II", 0x17, 0))  # ETHTOOL_STXCSUM (linux/ethtool.h)
request = struct.pack("16sP", sys.argv[1].encode(), off.buffer_info()[0])
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8946, request)  # SIOCETHTOOL
"""
"""`ethtool -K DEVICE tx off`, without needing ethtool."""


class Contained(Node):
    """A node whose shell `unshare` puts into a namespace where there is no `mnexec` to do it."""

    @classmethod
    def setup(cls) -> None:
        """Mininet looks for its mnexec here; `unshare` and `nsenter` will do."""

    def _popen(self, cmd: list[str], **params: Any) -> Any:
        if cmd[0] == "mnexec" and not shutil.which("mnexec"):
            cmd = self._without_mnexec(cmd)
            params.setdefault("start_new_session", True)
        return super()._popen(cmd, **params)

    def _without_mnexec(self, cmd: list[str]) -> list[str]:
        """The same with util-linux: `mnexec -cdn CMD` makes a namespace, `mnexec -da PID CMD` enters one."""
        options, rest = cmd[1], cmd[2:]
        if "a" in options:
            return ["nsenter", "--net", "--mount", "--target", rest[0], "--", *rest[1:]]
        return ["unshare", "--net", "--mount", "--", *rest] if "n" in options else rest


class Vm(Contained, Host):
    """A VM: a Mininet host."""

    def config(self, **params: Any) -> Any:
        """As any host; and its NICs compute checksums, which a userspace switch does not do for them."""
        done = super().config(**params)
        for name in self.intfNames():
            self.pexec([sys.executable, "-c", CHECKSUMS, name])
        return done


class OwnSwitch(Contained, Switch):
    """A switch with an ovsdb-server and ovs-vswitchd of its own, in its own namespace."""

    bridge = "br0"

    def __init__(self, name: str, **params: Any) -> None:
        super().__init__(name, **{**params, "inNamespace": True})

    def start(self, controllers: Any) -> None:
        """Start the daemons and make the bridge with every link of the switch."""
        _programs()
        # In the switch's own mount namespace: nothing of it is seen outside, and nothing is left behind.
        self._must(f"mount -t tmpfs ovs {RUN}")
        for variable in ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR"):
            self.cmd(f"export {variable}={RUN}")
        self.cmd(f"export OVS_SYSLOG_METHOD=null PATH={os.environ['PATH']}")
        self._must(f"ovsdb-tool create {RUN}/conf.db {_schema()}")
        for daemon in ("ovsdb-server --remote=punix:db.sock", "ovs-vswitchd"):
            # Ends with the shell, however that ends.
            self.cmd(
                f"setpriv --pdeathsig KILL {daemon} --pidfile --log-file -vconsole:off >/dev/null 2>&1 &"
            )
            self.cmd(f"timeout {READY_LIMIT} sh -c 'until [ -S {RUN}/db.sock ]; do sleep 0.05; done'")
        self._must(f"ovs-vsctl --no-wait --timeout={READY_LIMIT} init")
        words = ["add-br", self.bridge, "--", "set", "bridge", self.bridge, "datapath_type=netdev"]
        words += ["fail_mode=standalone", *self._ports()]
        self._must(f"ovs-vsctl --timeout={READY_LIMIT} {' '.join(words)}")
        for name in self._links():
            self.cmd(f"ip link set dev {name} up")

    def _ports(self) -> list[str]:
        """The rest of the ovs-vsctl command: a port for each link."""
        return [word for name in self._links() for word in ("--", "add-port", self.bridge, name)]

    def _links(self) -> list[str]:
        return [intf.name for intf in self.intfList() if intf.name != "lo"]

    def _must(self, command: str) -> None:
        said = self.cmd(f"{command} || echo FAILED").strip()
        if said.endswith("FAILED"):
            sys.exit(f"{self.name}: {command.split()[0]}: {said.removesuffix('FAILED').strip()}")

    def stop(self, deleteIntfs: bool = True) -> None:
        """End the daemons."""
        self.cmd(f"kill $(cat {RUN}/*.pid); wait")
        super().stop(deleteIntfs)

    def dpctl(self, *args: str) -> Any:
        """`ovs-ofctl` on the bridge."""
        return self.cmd("ovs-ofctl", args[0], self.bridge, *args[1:])

    def connected(self) -> bool:
        """It needs no controller."""
        return True


class Tor(OwnSwitch):
    """A top-of-rack switch."""

    bridge = "br"


class Hypervisor(OwnSwitch):
    """An AHV host: bridge br0, its uplinks in bond br0-up."""

    def _ports(self) -> list[str]:
        uplinks = [name for name in self._links() if name.startswith("eth")]
        words = ["--", "add-bond", self.bridge, "br0-up", *uplinks, "bond_mode=active-backup"]
        for name in self._links():
            if name not in uplinks:
                words += ["--", "add-port", self.bridge, name]
        return words


class AhvTopo(Topo):
    """Hypervisors with two uplinks each, to two top-of-rack switches that are linked to each other."""

    def build(self, hosts: int = 2, vms: int = 2) -> None:
        """`hosts` hypervisors with `vms` VMs each."""
        tors = [self.addSwitch(f"tor{number}", cls=Tor, dpid=f"{number:x}") for number in (1, 2)]
        self.addLink(*tors, intfName1="tor2.0", intfName2="tor1.0")
        for number in range(1, hosts + 1):
            host = self.addSwitch(f"hv{number}", cls=Hypervisor, dpid=f"{0x100 + number:x}")
            for uplink, tor in enumerate(tors):
                self.addLink(host, tor, intfName1=f"eth{uplink}", intfName2=f"{host}.eth{uplink}")
            for count in range(1, vms + 1):
                vm = self.addHost(f"vm{(number - 1) * vms + count}", cls=Vm)
                self.addLink(vm, host, intfName2=f"tap{count}")


def _programs() -> None:
    """Make sure that Open vSwitch's programs are in the PATH; netctl's own engine will do."""
    for directory in (f"{ENGINE}/bin", "/usr/sbin", "/usr/lib/openvswitch-switch"):
        if any(not shutil.which(program) for program in PROGRAMS) and os.path.isdir(directory):
            os.environ["PATH"] += f":{directory}"
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        sys.exit(
            f"{', '.join(missing)} not found: apt-get install openvswitch-switch, or netctl engine install"
        )


def _schema() -> str:
    beside = Path(shutil.which("ovsdb-server") or "").resolve().parent.parent
    for place in (f"{beside}/share/openvswitch/vswitch.ovsschema", *SCHEMAS):
        if os.path.exists(place):
            return place
    sys.exit("vswitch.ovsschema not found: apt-get install openvswitch-common")


topos = {"ahv": AhvTopo}
hosts = {"ahv": Vm}
switches = {"ahv": OwnSwitch}
