"""Network namespaces: make them, mark them as ours, run something inside, take them away.

A namespace is a bind mount of its nsfs file at /run/netns/NAME, as `ip netns` makes it (ip-netns(8)),
so that `ip netns exec`, tcpdump and Wireshark work with it. Ours carry the owner in the alias of `lo`
(RTM_SETLINK, IFLA_IFALIAS): the mark lives and dies with the namespace itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from netctl.errors import ChangeError, ConflictError, MachineError

DIRECTORY = Path("/run/netns")

_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 0x100000
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


def path(name: str) -> Path:
    """The file that `ip netns` would use for this name."""
    return DIRECTORY / name


def inode(name: str) -> int | None:
    """The inode of the namespace, which /proc/PID/ns/net of its processes shows too; None without one."""
    try:
        file = path(name).stat()
    except OSError:
        return None
    # A plain file is what a killed `create` leaves: the name is there, the namespace is not.
    return file.st_ino if file.st_dev == Path("/proc/self/ns/net").stat().st_dev else None


def is_remnant(name: str) -> bool:
    """Whether the name is a bare file, as a killed `create` leaves it, with no namespace behind."""
    return path(name).is_file() and inode(name) is None


def names(prefix: str) -> list[str]:
    """Names in /run/netns that start with `prefix`, whoever made them."""
    try:
        return sorted(name for name in os.listdir(DIRECTORY) if name.startswith(prefix))
    except FileNotFoundError:
        return []


@contextlib.contextmanager
def entered(name: str) -> Iterator[None]:
    """Within, the calling *thread* is in the namespace; sockets and children made there stay there.

    Raises ChangeError when there is no such namespace.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            target = os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ChangeError(f"the namespace {name} is gone ({error.strerror})") from error
        try:
            _setns(target, name)
        finally:
            os.close(target)
        try:
            yield
        finally:
            _setns(home, "the caller's namespace")
    finally:
        os.close(home)


def inside(name: str, function: Callable[[], T]) -> T:
    """Call `function` in the namespace, on a thread of its own, and return its result or raise its error."""

    def run() -> T:
        with entered(name):
            return function()

    return _on_own_thread(run, f"in {name}")


def create(name: str, owner: str) -> None:
    """Make the namespace, marked as `owner`'s, loopback up and IPv6 off until somebody asks for it.

    Nothing happens when it is there and ours. The name appears only once the mark is set. Raises
    ConflictError when the name belongs to somebody else, MachineError when the kernel refuses.
    """
    if inode(name) is not None:
        if owner_of(name) != owner:
            raise ConflictError(
                f"the network namespace {name} is there already and is not ours",
                f"Remove it (ip netns delete {name}) or give the lab another name.",
            )
        return

    def run() -> None:
        # It ends in the new namespace; the process as a whole never was there.
        if _libc.unshare(_CLONE_NEWNET):
            raise _refused("make a network namespace")
        _prepare(owner)
        path(name).touch()
        source = f"/proc/self/task/{threading.get_native_id()}/ns/net".encode()
        if _libc.mount(source, os.fsencode(path(name)), b"none", _MS_BIND, None):
            raise _refused(f"mount the network namespace {name}")

    _on_own_thread(run, f"create {name}")


def share_directory() -> None:
    """Make /run/netns a shared mount, as `ip netns add` does: an unmount must reach every mount namespace.

    Without it, a process that `ip netns exec` started keeps all namespaces of that moment alive.
    """
    DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
    target = os.fsencode(DIRECTORY)
    if _libc.mount(b"none", target, b"none", _MS_SHARED | _MS_REC, None) == 0:
        return
    if ctypes.get_errno() != errno.EINVAL:
        raise _refused(f"share {DIRECTORY}")
    if _libc.mount(target, target, b"none", _MS_BIND | _MS_REC, None):
        raise _refused(f"mount {DIRECTORY}")
    if _libc.mount(b"none", target, b"none", _MS_SHARED | _MS_REC, None):
        raise _refused(f"share {DIRECTORY}")


def remove(name: str) -> None:
    """Take the name away; the namespace itself ends with its last process. Nothing happens without one."""
    target = path(name)
    while _libc.umount2(os.fsencode(target), _MNT_DETACH) == 0:
        pass
    with contextlib.suppress(FileNotFoundError):
        target.unlink()


def owner_of(name: str) -> str | None:
    """The mark of the namespace, None when it carries none, or is gone meanwhile."""
    from pyroute2 import IPRoute  # a tenth of a second that who only enters namespaces need not spend

    def read() -> str | None:
        with IPRoute() as netlink:
            alias = netlink.get_links(1)[0].get_attr("IFLA_IFALIAS")
            return str(alias).removeprefix(_MARK) if str(alias or "").startswith(_MARK) else None

    try:
        return inside(name, read)
    except ChangeError:
        return None


_MARK = "netctl:"


def _on_own_thread(function: Callable[[], T], name: str) -> T:
    """Call `function` on a thread that ends with it; return its result or raise its error."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name=name)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def _prepare(owner: str) -> None:
    from pyroute2 import IPRoute

    # Guests and hosts get IPv6 where the intent says so; its router solicitations and MLD reports
    # would otherwise flood every switch of the lab at start.
    for scope in ("all", "default"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").write_text("1")
    with IPRoute() as netlink:
        netlink.link("set", index=1, ifalias=_MARK + owner, state="up")


def _setns(descriptor: int, what: str) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        if ctypes.get_errno() == errno.EINVAL:
            # A plain file: its namespace was unmounted just now, or is not mounted yet (setns(2)).
            raise ChangeError(f"the namespace {what} is gone")
        raise _refused(f"enter {what}")


def _refused(action: str) -> MachineError:
    number = ctypes.get_errno()
    return MachineError(
        f"the kernel does not let us {action}: {os.strerror(number)}",
        "Run as root on a machine (or in a privileged container) that allows namespaces; see netctl doctor.",
    )
