"""Larger receive buffers for the packet sockets of ovs-vswitchd.

With the kernel's default (net.core.rmem_default, 208 KiB), a burst of a single TCP flow overflows the
AF_PACKET socket of a userspace datapath's port and costs thousands of retransmissions. The default is
one for the whole machine, so instead of raising it we take each socket (pidfd_getfd(2)) and set
SO_RCVBUFFORCE (socket(7)) on just that one: nothing on the machine to restore, nothing to leak.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct

RECEIVE_BUFFER = 32 * 2**20
"""Octets. 32 MiB: no retransmission on the test machine at full rate (measured; see docs/measurements.md)."""

_PIDFD_GETFD = 438
_SO_DOMAIN = 39
_SO_RCVBUFFORCE = 33

_libc = ctypes.CDLL(None, use_errno=True)


def enlarge(pid: int, size: int = RECEIVE_BUFFER) -> int:
    """Enlarge the buffers of all packet sockets of the process; returns how many were too small.

    Raises OSError where the kernel or a container forbids it (EPERM, ENOSYS).
    """
    process = os.pidfd_open(pid)
    changed = 0
    try:
        for entry in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                if not os.readlink(f"/proc/{pid}/fd/{entry}").startswith("socket:"):
                    continue
                changed += _enlarge_one(process, int(entry), size)
    finally:
        os.close(process)
    return changed


def _enlarge_one(process: int, descriptor: int, size: int) -> int:
    copy = _libc.syscall(_PIDFD_GETFD, process, descriptor, 0)
    if copy < 0:
        number = ctypes.get_errno()
        if number == 9:  # EBADF: closed since we listed it
            return 0
        raise OSError(number, os.strerror(number))
    with socket.socket(fileno=copy) as taken:
        if taken.getsockopt(socket.SOL_SOCKET, _SO_DOMAIN) != socket.AF_PACKET:
            return 0
        # The kernel doubles what is asked for, to have room for its own bookkeeping (socket(7)).
        if taken.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= size:
            return 0
        taken.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, struct.pack("i", size))
    return 1
