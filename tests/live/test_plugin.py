"""The pytest plugin as its users have it: pytest in a process of its own, small test files, one lab file."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.live.conftest import NETCTL, TOPOLOGIES, Lab, netctl

pytestmark = pytest.mark.live

LAB = """\
hosts: {hv1: {}, hv2: {}}
vpcs: {shop: {}}
subnets:
  web: {type: vlan, vlan: 10, cidr: 10.10.0.0/24}
  app: {type: overlay, vpc: shop, cidr: 192.168.1.0/24}
  db: {type: overlay, vpc: shop, cidr: 192.168.2.0/24}
  lan: {type: vlan, vlan: 20, cidr: 10.20.0.0/24}
vms:
  web1: {host: hv1, nics: [{subnet: web, ip: 10.10.0.11}]}
  web2: {host: hv2, nics: [{subnet: web}]}
  web3: {host: hv1, nics: [{subnet: web}]}
  app1: {host: hv1, nics: [{subnet: app}, {subnet: db}]}
  db1: {host: hv2, nics: [{subnet: db, ip: 192.168.2.20}]}
  lan1: {host: hv2, nics: [{subnet: lan, ip: 10.20.0.11}]}
  trunk1: {host: hv1, nics: [{subnet: web, mode: trunk, trunked: [20]}]}
physical:
  client: {switch: tor1, vlan: 10, ip: 10.10.0.99/24}
"""

HEAD = """\
import os, signal, subprocess, time
from pathlib import Path
import pytest
from scapy.all import ARP, ICMP, IP, TCP, UDP, Dot1Q, Ether, Raw

pytestmark = pytest.mark.lab("lab.yaml")

def udp(to, payload=b"hello", **fields):
    return IP(dst=to.ip, **fields) / UDP(sport=4000, dport=5000) / payload

"""

LEAKS = """\
import os, threading

def open_files():
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            pass  # that of the directory itself
    return found

def pytest_sessionstart(session):
    session.config.before = open_files()

def pytest_unconfigure(config):
    if hasattr(config, "before"):
        left = [each for each in open_files() if each not in config.before and not each.startswith("/")]
        print("LEFT:", left, [thread.name for thread in threading.enumerate()][1:])
"""


@dataclass(frozen=True)
class Ran:
    """How a run of pytest ended."""

    code: int
    text: str

    def counts(self) -> dict[str, int]:
        [line] = re.findall(r"^=+ (.* in [\d.]+s.*) =+$", self.text, re.MULTILINE)
        last = re.findall(r"(\d+) (passed|failed|errors?|skipped)", line)
        return {word.removesuffix("s"): int(number) for number, word in last}


class Suite:
    """A directory with a lab file and tests, and runs of pytest in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lab = Lab(f"plg-{secrets.token_hex(4)}", directory)
        self.write("lab.yaml", f"name: {self.lab.name}\n{LAB}")
        self.write("pytest.ini", "[pytest]\naddopts = --strict-markers -p no:cacheprovider\n")

    def write(self, name: str, text: str) -> Path:
        file = self.directory / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return file

    def tests(self, text: str, name: str = "test_it.py") -> Path:
        return self.write(name, HEAD + textwrap.dedent(text))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pytest", "-rfE", "--tb=short", *arguments]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "NETCTL": NETCTL},
        )

    def run(self, *arguments: str, code: int | None = 0, limit: float = 240) -> Ran:
        with self.start(*arguments) as process:
            text, _ = process.communicate(timeout=limit)
        if code is not None:
            assert process.returncode == code, text
        return Ran(process.returncode, text)

    def labs(self) -> list[str]:
        """Labs of this suite that have anything on this machine, whatever the worker."""
        there = set(_listed("/run/netctl"))
        there |= {name.partition(".")[0] for name in _listed("/run/netns")}
        return sorted(name for name in there if name.startswith(self.lab.name))

    def wait_for(self, *labs: str) -> None:
        """Until they are ready."""
        deadline = time.monotonic() + 60
        while any(_state(lab) != "ready" for lab in labs):
            assert time.monotonic() < deadline, f"{labs} did not come up: {[_state(lab) for lab in labs]}"
            time.sleep(0.05)


def _state(lab: str) -> str:
    """What a lab's own record says; of other labs, which may be anybody's, nothing is asked."""
    try:
        return str(json.loads(Path("/run/netctl", lab, "lab.json").read_text())["state"])
    except FileNotFoundError:
        return "not there"


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


@pytest.fixture
def suite(tmp_path: Path) -> Iterator[Suite]:
    with made(tmp_path) as found:
        yield found


@contextmanager
def made(directory: Path) -> Iterator[Suite]:
    suite = Suite(directory)
    yield suite
    left = suite.labs()
    for lab in left:
        netctl("down", lab)
    assert left == []


# --- what holds -----------------------------------------------------------------------------------


def test_what_holds(suite: Suite) -> None:
    suite.write("conftest.py", LEAKS)
    suite.write("more/other.yaml", f"name: other\n{LAB}".replace("192.168.2.20", "192.168.2.77"))
    suite.tests(
        """\
        def test_same_vlan(lab):
            web1, web2 = lab.vm("web1"), lab.vm("web2")
            web1.send(udp(web2))
            got = web2.expect(udp(web2))
            assert got[IP].src == web1.ip and got[Ether].src == web1.mac
            assert abs(float(got.time) - time.time()) < 60 and got.sniffed_on == "web2/0"
            lab.verify_no_other_packets()

        def test_in_any_order(lab):
            web1, web2, web3 = map(lab.vm, ("web1", "web2", "web3"))
            for payload in (b"one", b"two", b"three"):
                web1.send(udp(web2, payload))
                web1.send(udp(web3, payload))
            for payload in (b"three", b"one", b"two"):
                web3.expect(udp(web3, payload))
                web2.expect(udp(web2, payload))
            lab.verify_no_other_packets()

        def test_through_a_router(lab):
            app1, db1 = lab.vm("app1/0"), lab.vm("db1")
            sent = app1.send(udp(db1, ttl=9))
            got = db1.expect(sent, ignore="ttl")
            assert got.ttl == 8 and got.src != app1.mac
            lab.verify_no_other_packets()

        def test_another_nic(lab):
            second, db1 = lab.vm("app1/1"), lab.vm("db1")
            second.send(udp(db1))
            assert db1.expect(udp(db1, ttl=64))[IP].src == second.ip
            lab.verify_no_other_packets()

        def test_octets(lab):
            web1, web2 = lab.vm("web1"), lab.vm("web2")
            frame = bytes(Ether(src=web1.mac, dst=web2.mac) / IP(src=web1.ip, dst=web2.ip) / UDP() / b"x")
            web1.send(frame)
            web2.expect(frame)
            lab.verify_no_other_packets()

        def test_counted(lab):
            web1, web2 = lab.vm("web1"), lab.vm("web2")
            for number in range(100):
                web1.send(udp(web2, b"%03d" % number))
            got = web2.expect(UDP(dport=5000), count=100)
            assert [bytes(each[Raw]) for each in got] == [b"%03d" % number for number in range(100)]
            web2.expect_nothing(UDP(dport=5000))

        def test_answers_of_the_guests_own_system(lab):
            web1, web2 = lab.vm("web1"), lab.vm("web2")
            web1.send(IP(dst=web2.ip) / ICMP(id=7, seq=3) / b"hello")
            web2.expect("icmp and src host web1")
            lab.verify_no_other_packets()
            web1.expect(ICMP(type="echo-reply", id=7, seq=3) / b"hello")
            web1.send(IP(dst=web2.ip) / TCP(dport=81, flags="S", seq=77))
            web2.expect(lambda packet: TCP in packet and packet[TCP].flags == "S")
            web1.expect(TCP(sport=81, flags="RA", ack=78))
            lab.verify_no_other_packets()

        def test_nothing_comes_where_nothing_may(lab):
            web1, app1 = lab.vm("web1"), lab.vm("app1")
            web1.send(Ether(dst=app1.mac) / udp(app1))
            app1.expect_nothing()
            lab.verify_no_other_packets()

        def test_nothing_was_sent(lab):
            lab.vm("web1").expect_nothing()
            lab.verify_no_other_packets()

        def test_bare_machines(lab):
            client, web2 = lab.vm("client"), lab.vm("web2")
            client.send(udp(web2))
            web2.expect(udp(web2))
            web2.send(udp(client))
            client.expect(udp(client))
            lab.verify_no_other_packets()

        def test_broadcast(lab):
            web1 = lab.vm("web1")
            web1.send(IP(dst="10.10.0.255") / UDP(dport=5000) / b"all")
            for name in ("web2", "web3", "trunk1", "client"):
                lab.vm(name).expect(Ether(dst="ff:ff:ff:ff:ff:ff") / IP() / UDP() / b"all")
            lab.verify_no_other_packets()

        def test_arp(lab):
            web1, web2 = lab.vm("web1"), lab.vm("web2")
            web1.send(ARP(hwsrc=web1.mac, psrc=web1.ip, pdst=web2.ip))
            got = web1.expect(ARP(op="is-at", psrc=web2.ip))
            assert got.hwsrc == web2.mac
            web1.expect_nothing(ARP(op="is-at", psrc=web2.ip))

        def test_a_trunk(lab):
            trunk1, web1, lan1 = lab.vm("trunk1"), lab.vm("web1"), lab.vm("lan1")
            trunk1.send(udp(web1))
            web1.expect(udp(web1))
            sent = trunk1.send(udp(lan1, src="10.20.0.7"), vlan=20)
            assert Dot1Q not in lan1.expect(sent)
            lan1.send(Ether(dst=trunk1.mac) / IP(dst="10.20.0.7") / UDP() / b"back")
            trunk1.expect(Dot1Q(vlan=20) / IP(src=lan1.ip) / UDP() / b"back")
            lab.verify_no_other_packets()

        def test_a_port_that_somebody_made_a_trunk(lab):
            port = [os.environ["NETCTL"], "exec", "--lab", lab.name, "tor1", "--", "ovs-vsctl"]
            subprocess.run([*port, "clear", "port", "client.eth0", "tag"], check=True, capture_output=True)
            client, web2 = lab.vm("client"), lab.vm("web2")
            client.send(udp(web2), vlan=10)
            assert Dot1Q not in web2.expect(udp(web2))
            client.send(Ether() / Dot1Q(vlan=10) / udp(web2, b"again"))
            web2.expect(udp(web2, b"again"))
            web2.send(Ether(dst=client.mac) / udp(client))
            client.expect(Dot1Q(vlan=10) / udp(client))
            client.send(Ether(dst=web2.mac) / udp(web2), vlan=11)
            web2.expect_nothing()
            lab.verify_no_other_packets()

        def test_and_is_mended(lab):
            client, web2 = lab.vm("client"), lab.vm("web2")
            web2.send(Ether(dst=client.mac) / udp(client))
            assert Dot1Q not in client.expect(udp(client))

        def test_a_check(lab):
            result = lab.check(from_="app1/0", to="db1", protocol="tcp", port=5432)
            assert "payload back" in result.seen
            lab.check(from_=lab.vm("web1"), to=lab.vm("app1"), expect="dropped")
            lab.check(name="a story", steps=[
                {"fail": "link hv1 eth0"}, {"check": {"from": "web1", "to": "web2"}, "within": "20s"}])
            lab.verify_no_other_packets()

        def test_a_patch(lab):
            lab.apply({"vms": {"new": {"host": "hv2", "nics": [{"subnet": "web"}]}, "web3": None}})
            web1, new = lab.vm("web1"), lab.vm("new")
            web1.send(udp(new))
            new.expect(udp(new))
            lab.verify_no_other_packets()
            with pytest.raises(Exception, match="web3"):
                lab.vm("web3")

        def test_another_file(lab):
            assert lab.vm("web3").ip and lab.vm("db1").ip == "192.168.2.20"
            lab.apply("more/other.yaml")
            assert lab.vm("db1").ip == "192.168.2.77"
            lab.vm("app1/0").send(udp(lab.vm("db1")))
            lab.vm("db1").expect(udp(lab.vm("db1")))

        def test_faults(lab):
            assert lab.vm("db1").ip == "192.168.2.20"
            web1, web2 = lab.vm("web1"), lab.vm("web2")
            packet = Ether(dst=web2.mac) / udp(web2)
            lab.fail("link hv1 eth0")
            lab.fail("link hv1 eth1")
            web1.send(packet)
            web2.expect_nothing()
            lab.heal("link hv1 eth0")
            lab.check(from_="web1", to="web2")
            web1.send(packet)
            web2.expect(packet, within=5)

        def test_a_capture(lab):
            web1, web2 = lab.vm("web1"), lab.vm("web2")
            with lab.capture("web2", "hv1:eth0") as file:
                web1.send(udp(web2))
                web2.expect(udp(web2))
            assert udp(web2)[Raw].load in file.read_bytes()
            with lab.capture(file="mine.pcapng") as file:
                pass
            assert Path("mine.pcapng").stat().st_size > 500

        def test_a_command_in_a_guest(lab):
            web1, web2 = lab.vm("web1"), lab.vm("web2")
            subprocess.run(["ip", "netns", "exec", web1.namespace, "ping", "-c", "1", web2.ip], check=True)
            web2.expect(ICMP(type=8))
            lab.verify_no_other_packets()

        def test_a_daemon_that_somebody_ended(lab):
            pid = int(Path(f"/run/netctl/{lab.name}/hv1/ovs-vswitchd.pid").read_text())
            os.kill(pid, signal.SIGKILL)

        def test_runs_again(lab):
            lab.check(from_="web1", to="web2")
        """
    )
    ran = suite.run("-s", "-v")
    assert "LEFT: [] []" in ran.text, ran.text
    assert ran.counts() == {"passed": 23}


def test_the_example_of_the_document(suite: Suite) -> None:
    document = (TOPOLOGIES.parent / "docs" / "pytest.md").read_text()
    [example] = re.findall(
        r"^```python\n(# test_first_lab\.py\n.*?)^```$", document, re.MULTILINE | re.DOTALL
    )
    text = (TOPOLOGIES / "first-lab.yaml").read_text()
    suite.write("first-lab.yaml", text.replace("name: first-lab", f"name: {suite.lab.name}"))
    suite.write("test_first_lab.py", example)
    assert suite.run().counts() == {"passed": example.count("def test_")}


def test_repeated_on_a_busy_machine(suite: Suite) -> None:
    """What is not there never comes, and what is there is never missed, whoever else wants the CPUs."""
    repeats = int(os.environ.get("NETCTL_CHECK_REPEATS", "50"))
    suite.tests(
        f"""\
        @pytest.mark.parametrize("number", range(5))
        def test_again(lab, number):
            web1, web2, web3, app1, db1 = map(lab.vm, ("web1", "web2", "web3", "app1/0", "db1"))
            for turn in range({repeats}):
                payload = f"{{number}} {{turn}}".encode()
                web1.send(udp(web2, payload))
                app1.send(udp(db1, payload))
                web1.send(Ether(dst=app1.mac) / udp(app1, payload))
                web2.expect(udp(web2, payload))
                web3.expect_nothing()
                db1.expect(udp(db1, payload))
                lab.verify_no_other_packets()
        """
    )
    busy = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in os.sched_getaffinity(0)]
    try:
        ran = suite.run(limit=240 + 2 * repeats)
    finally:
        for each in busy:
            each.kill()
            each.wait()
    assert ran.counts() == {"passed": 5}


# --- what does not hold ---------------------------------------------------------------------------


def test_failures_explain_themselves(suite: Suite) -> None:
    suite.write("conftest.py", LEAKS)
    suite.tests(
        """\
        def test_lost_on_the_way(lab):
            web1, web2 = lab.vm("web1"), lab.vm("web2")
            packet = Ether(dst=web2.mac) / udp(web2)
            lab.fail("link hv1 eth0")
            lab.fail("link hv1 eth1")
            web1.send(packet)
            web2.expect(packet)

        def test_another_came(lab):
            web1, web2 = lab.vm("web1"), lab.vm("web2")
            web1.send(udp(web2))
            web2.expect(IP(dst=web2.ip) / UDP(dport=5001))

        def test_elsewhere(lab):
            web1, web2, web3 = lab.vm("web1"), lab.vm("web2"), lab.vm("web3")
            web1.send(udp(web3))
            web2.expect(udp(web3))

        def test_twice(lab):
            web1, web2 = lab.vm("web1"), lab.vm("web2")
            web1.send(udp(web2))
            web2.expect(udp(web2), count=2)

        def test_already_taken(lab):
            web1, web2 = lab.vm("web1"), lab.vm("web2")
            web1.send(udp(web2))
            web2.expect(udp(web2))
            web2.expect(udp(web2))

        def test_something_came(lab):
            web1, web2 = lab.vm("web1"), lab.vm("web2")
            web1.send(udp(web2))
            web2.expect_nothing()

        def test_something_that_fits_came(lab):
            web1, web2 = lab.vm("web1"), lab.vm("web2")
            web1.send(udp(web2))
            web2.expect_nothing(UDP(dport=5001))
            web2.expect_nothing("udp port 5000")

        def test_one_more(lab):
            web1, web2, web3 = lab.vm("web1"), lab.vm("web2"), lab.vm("web3")
            web1.send(udp(web2))
            web1.send(udp(web3))
            web2.expect(udp(web2))
            lab.verify_no_other_packets()

        def test_a_check(lab):
            lab.check(from_="web1", to="app1")

        def test_nothing_sent(lab):
            lab.vm("web1").expect("udp", within=0)

        def test_whole_again(lab):
            lab.check(from_="web1", to="web2")
        """
    )
    ran = suite.run("--junitxml=report.xml", "-s", code=1)
    assert ran.counts() == {"failed": 10, "passed": 1}, ran.text
    assert "LEFT: [] []" in ran.text, ran.text
    lost = told(ran, "test_lost_on_the_way")
    assert "web2/0 did not get: Ether(dst=" in lost
    assert re.search(r"web1/0 sent \+0\.000 ms  10\.10\.0\.11 > [\d.]+  UDP 4000 > 5000, 5 octets", lost), (
        lost
    )
    assert re.search(r"last seen in at hv1 tap\d+, not out at hv1 eth0 or eth1", lost), lost
    other = told(ran, "test_another_came")
    assert "UDP 4000 > 5000, 5 octets: UDP.dport is 5000, not 5001" in other, other
    assert "once more" not in other
    assert "came in elsewhere: web3/0" in told(ran, "test_elsewhere")
    assert "did 1 of 2 times get" in told(ran, "test_twice")
    assert "taken before, by `expect`: 1 that fit" in told(ran, "test_already_taken")
    assert re.search(
        r"web2/0 got a packet.*\n.*web2/0  \+\d.* UDP 4000 > 5000", told(ran, "test_something_came")
    )
    assert "web2/0 got a packet" in told(ran, "test_something_that_fits_came")
    assert re.search(r"a packet came in.*\n.*web3/0  \+\d", told(ran, "test_one_more"))
    assert "network is unreachable" in told(ran, "test_a_check")
    assert "the test has sent nothing" in told(ran, "test_nothing_sent")
    # The line that failed is the test's own, and nothing of what is below it is shown.
    assert not re.search(r"pytest_plugin/\w+\.py:\d+", ran.text), ran.text
    root = ElementTree.parse(suite.directory / "report.xml").getroot()
    bundles = {
        case.attrib["name"]: Path(entry.attrib["value"])
        for case in root.iter("testcase")
        for entry in case.iter("property")
        if entry.attrib["name"] == "netctl_bundle"
    }
    assert len(bundles) == 10 and "test_whole_again" not in bundles
    assert f"bundle: {bundles['test_a_check']}" in told(ran, "test_a_check")
    for test, bundle in bundles.items():
        assert bundle.parent == suite.directory / "netctl-failures"
        assert test in (bundle / "README.md").read_text()
        assert (bundle / "nb.txt").exists()
    assert b"hello" in (bundles["test_something_came"] / "test.pcapng").read_bytes()


def test_mistakes_are_told_in_words(suite: Suite) -> None:
    suite.tests(
        """\
        def test_no_such_vm(lab):
            lab.vm("web9")

        def test_no_route(lab):
            lab.vm("web1").send(IP(dst="8.8.8.8") / UDP())

        def test_nobody_there(lab):
            lab.vm("web1").send(IP(dst="10.10.0.200") / UDP())

        def test_no_ethernet(lab):
            lab.vm("web1").send(UDP())

        def test_too_long(lab):
            lab.vm("web1").send(udp(lab.vm("web2"), b"x" * 2000))

        def test_wrong_check(lab):
            lab.check(from_="web1", to="web9", count="many")

        def test_wrong_patch(lab):
            lab.apply({"vms": {"web1": {"host": "hv9"}}})

        def test_wrong_fault(lab):
            lab.fail("link hv1 eth9")

        def test_wrong_expression(lab):
            lab.vm("web1").expect("udp prot 1")

        def test_wrong_field(lab):
            lab.vm("web1").expect(UDP(dport=1), ignore=("tttl",))
        """
    )
    ran = suite.run(code=1)
    assert ran.counts() == {"failed": 10}, ran.text
    assert "Traceback" not in ran.text and "bundle" not in ran.text
    assert not re.search(r"pytest_plugin/\w+\.py:\d+", ran.text), ran.text
    assert "web9 is no VM" in told(ran, "test_no_such_vm")
    assert "web1 has no route to 8.8.8.8 over web1/0" in told(ran, "test_no_route")
    assert "nobody told web1/0 the MAC address of 10.10.0.200" in told(ran, "test_nobody_there")
    assert "begins with UDP has no way to go" in told(ran, "test_no_ethernet")
    assert "did not take a frame of 2042 octets" in told(ran, "test_too_long")
    assert "to: there is no VM or bare machine `web9`; write one of web1" in told(ran, "test_wrong_check")
    assert "hv9" in told(ran, "test_wrong_patch")
    assert "eth9" in told(ran, "test_wrong_fault")
    assert "udp prot 1" in told(ran, "test_wrong_expression")
    assert "did you mean ttl" not in told(ran, "test_wrong_field")


def told(ran: Ran, test: str) -> str:
    """What pytest reports of a test."""
    match = re.search(
        rf"^_+ (?:ERROR at setup of )?{test} _+$(.*?)^(?:_+ |=+ )", ran.text, re.MULTILINE | re.DOTALL
    )
    assert match, ran.text
    return match[1]


# --- which lab ------------------------------------------------------------------------------------

ONE_CHECK = """\
def test_it(lab):
    print(f"<{lab.name}>", lab.vm("db1").ip)
    lab.check(from_="web1", to="web2")
"""


def test_the_file_of_the_command_line(suite: Suite) -> None:
    suite.write("tests/test_it.py", ONE_CHECK)
    text = (suite.directory / "lab.yaml").read_text()
    suite.write("tests/near.yaml", text.replace("192.168.2.20", "192.168.2.33"))
    suite.write(
        "tests/test_near.py", f"import pytest\npytestmark = pytest.mark.lab('near.yaml')\n{ONE_CHECK}"
    )
    suite.write("tests/test_root.py", f"import pytest\npytestmark = pytest.mark.lab('lab.yaml')\n{ONE_CHECK}")
    ran = suite.run("-s", "--lab", "lab.yaml", "tests/test_it.py", "tests/test_root.py")
    assert ran.text.count(f"<{suite.lab.name}> 192.168.2.20") == 2
    assert "192.168.2.33" in suite.run("-s", "--lab", "lab.yaml", "tests/test_near.py").text
    ran = suite.run("tests/test_it.py", code=1)
    assert "which lab? test_it names none" in ran.text
    assert ran.counts() == {"error": 1}
    ran = suite.run("--lab", "missing.yaml", "tests/test_it.py", code=1)
    assert "there is no lab file missing.yaml" in ran.text
    # One lab of two files: each would move it to itself.
    ran = suite.run("tests/test_near.py", "tests/test_root.py", code=1)
    assert "are two files of one lab" in ran.text and ran.counts() == {"passed": 1, "error": 1}
    suite.write("tests/wrong.yaml", "name: x\nhosts: {hv1: {}}\nvm: {}\n")
    ran = suite.run("--lab", "tests/wrong.yaml", "tests/test_it.py", code=1)
    assert re.search(r"wrong\.yaml:3:1: .*`vm`", ran.text), ran.text


def test_a_lab_that_runs_already_stays(suite: Suite) -> None:
    netctl("up", suite.directory / "lab.yaml")
    suite.tests(
        """\
        def test_breaks(lab):
            lab.fail("switch tor1")
            lab.apply({"vms": {"web3": None}})
        """
    )
    suite.run()
    assert suite.labs() == [suite.lab.name]
    shown = netctl("status", suite.lab.name, "--json").json()
    assert "web3" in str(shown)
    assert netctl("plan", suite.directory / "lab.yaml").code == 0
    other = suite.directory / "other"
    other.mkdir()
    shutil.copy(suite.directory / "lab.yaml", other)
    shutil.copy(suite.directory / "test_it.py", other)
    ran = suite.run("other/test_it.py", code=1)
    assert f"a lab {suite.lab.name} is there already, from {suite.directory}/lab.yaml" in ran.text
    assert suite.labs() == [suite.lab.name]
    netctl("down", suite.lab.name)


# --- several processes ----------------------------------------------------------------------------

HOLD = """\
def test_holds(lab):
    Path("holds").touch()
    time.sleep(600)
"""


def test_workers_side_by_side(suite: Suite) -> None:
    suite.tests(
        """\
        @pytest.mark.parametrize("number", range(8))
        def test_it(lab, number):
            Path(f"name-{number}").write_text(lab.name)
            web1, web2 = lab.vm("web1"), lab.vm("web2")
            web1.send(udp(web2, b"%d" % number))
            web2.expect(udp(web2, b"%d" % number))
            lab.verify_no_other_packets()
            assert number != 5
        """
    )
    ran = suite.run("-n", "2", "--junitxml=report.xml", code=1)
    assert ran.counts() == {"passed": 7, "failed": 1}
    names = {file.read_text() for file in suite.directory.glob("name-*")}
    assert names == {f"{suite.lab.name}-gw0", f"{suite.lab.name}-gw1"}
    report = ElementTree.parse(suite.directory / "report.xml").getroot()
    assert len(list(report.iter("testcase"))) == 8
    [bundle] = [each for each in report.iter("property") if each.attrib["name"] == "netctl_bundle"]
    assert Path(bundle.attrib["value"], "nb.txt").exists()


def test_a_worker_that_is_killed_leaves_nothing(suite: Suite) -> None:
    suite.write("other.yaml", (suite.directory / "lab.yaml").read_text().replace("web3:", "web4:"))
    suite.tests(
        "def test_dies(lab):\n    lab.apply('other.yaml')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ran = suite.run("-n", "1", code=1)
    assert "crashed" in ran.text
    assert suite.labs() == []
    assert not list(Path(tempfile.gettempdir()).glob(f"netctl-pytest-*/{suite.lab.name}-*"))


def test_what_a_run_that_was_killed_has_left_is_taken_over(suite: Suite) -> None:
    text = (suite.directory / "lab.yaml").read_text()
    left = suite.write("left.yaml", text.replace(f"name: {suite.lab.name}", f"name: {suite.lab.name}-gw0"))
    netctl("up", left)
    suite.tests("def test_it(lab):\n    lab.check(from_='web1', to='web2')\n")
    assert suite.run("-n", "1").counts() == {"passed": 1}
    assert suite.labs() == []


def test_two_runs_want_one_lab(suite: Suite) -> None:
    suite.tests(HOLD)
    suite.tests("def test_it(lab):\n    pass\n", "test_other.py")
    with suite.start("test_it.py") as first:
        suite.wait_for(suite.lab.name)
        ran = suite.run("test_other.py", code=1)
        assert f"another run of pytest uses the lab {suite.lab.name} (process {first.pid})" in ran.text
        assert suite.labs() == [suite.lab.name]
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=60)


@pytest.mark.parametrize(
    ("number", "arguments", "code"),
    [
        (signal.SIGINT, (), pytest.ExitCode.INTERRUPTED),
        (signal.SIGTERM, (), 128 + signal.SIGTERM),
        (signal.SIGINT, ("-n", "2"), pytest.ExitCode.INTERRUPTED),
        (signal.SIGTERM, ("-n", "2"), -signal.SIGTERM),
    ],
    ids=["Ctrl-C", "SIGTERM", "Ctrl-C with workers", "SIGTERM with workers"],
)
def test_a_run_that_is_ended_leaves_nothing(
    suite: Suite, number: int, arguments: tuple[str, ...], code: int
) -> None:
    suite.tests(HOLD)
    suite.tests(HOLD.replace("holds", "holds_too"), "test_other.py")
    labs = [suite.lab.name] if not arguments else [f"{suite.lab.name}-gw0", f"{suite.lab.name}-gw1"]
    with suite.start(*arguments) as process:
        suite.wait_for(*labs)
        wait_for_file(suite.directory / "holds")
        # As a terminal does it: to every process of the group.
        os.killpg(process.pid, number)
        text, _ = process.communicate(timeout=120)
    assert process.returncode == code, text
    deadline = time.monotonic() + 60
    while suite.labs() and time.monotonic() < deadline:
        time.sleep(0.1)  # workers outlive a process that was ended by SIGTERM
    assert suite.labs() == []


def wait_for_file(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline, f"no {file}"
        time.sleep(0.05)


def test_killed_while_the_lab_comes_up(suite: Suite) -> None:
    suite.tests("def test_it(lab):\n    pass\n")
    with suite.start() as process:
        deadline = time.monotonic() + 60
        while not suite.labs() and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert suite.labs() == []


# --- without root ---------------------------------------------------------------------------------


def test_without_root_it_is_an_error_and_no_skip(suite: Suite) -> None:
    suite.tests("def test_it(lab):\n    pass\n\ndef test_without_a_lab():\n    pass\n")
    # A user who may read this checkout, wherever it is, and nothing else.
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+dac_override"]
    done = subprocess.run(
        [*nobody, "--ambient-caps=+dac_override", *suite.command()],
        cwd=suite.directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    ran = Ran(done.returncode, done.stdout)
    assert ran.counts() == {"passed": 1, "error": 1}, done.stdout + done.stderr
    assert "labs need root" in told(ran, "test_it")
