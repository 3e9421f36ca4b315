"""Runs a program of a plain chroot in a mount namespace of its own whose root is that chroot.

Tools are kept apart from the host by mounts, and for these the kernel wants a root folder that is a mount point.  In a
plain chroot it is some folder of another mount, and a bind mount made there would appear on the host as well, for how
mounts spread can be changed at a mount point only.  So here, without a trace on the host:

    a new mount namespace → out of the chroot, to the root of that namespace → no mount spreads from it any more
    → the chroot's folder is bound to itself and becomes the root → the program

Rules: it runs as a script, of the standard library alone; it needs root, and /proc of the namespace it is in.
Not here: when it is needed (`build_host.py`).
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

# linux/mount.h and linux/sched.h.
_MS_BIND, _MS_MOVE, _MS_REC, _MS_PRIVATE = 1 << 12, 1 << 13, 1 << 14, 1 << 18
_CLONE_NEWNS = 1 << 17


def main(words: list[str]) -> None:
    """Become the program that `words` name, in a root of its own.

    Raises:
        OSError: The kernel refuses one of the steps.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    root, place = os.open("/", os.O_PATH | os.O_DIRECTORY), Path.cwd()
    _must("unshare", libc.unshare(_CLONE_NEWNS))
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    # Entering a mount namespace, even one's own, leads to its root (setns(2)).
    _must("setns", libc.setns(namespace, _CLONE_NEWNS))
    _mount(libc, "none", "/", _MS_REC | _MS_PRIVATE)
    os.fchdir(root)
    folder = str(Path.cwd())
    _mount(libc, folder, folder, _MS_REC | _MS_BIND)
    # Its path leads to the new mount, the open folder to what is below it.
    os.chdir(folder)
    _mount(libc, ".", "/", _MS_MOVE)
    os.chroot(".")
    os.chdir(place)
    os.close(root)
    os.close(namespace)
    os.execvp(words[0], words)  # noqa: S606 - the argument list is the caller's; there is no shell


def _mount(libc: ctypes.CDLL, source: str, target: str, flags: int) -> None:
    _must(f"mount {target}", libc.mount(source.encode(), target.encode(), None, ctypes.c_ulong(flags), None))


def _must(what: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    main(sys.argv[1:])
