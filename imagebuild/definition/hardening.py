"""`hardening:` of an image definition: a switch for each part of the default hardening.

Pure: which packages and kernel arguments the switches come to.  Writing files is `steps/hardening.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from bedrock import strict

# What mkosi's environment and a shell can carry.
ProgramPath = Annotated[
    str, strict.Pattern(r"(/[A-Za-z0-9_][A-Za-z0-9._+@-]*){2,}", "the absolute path of a program such as /usr/bin/sudo")
]


@dataclass(frozen=True)
class Hardening:
    """What is hardened; docs/hardening.md describes each part and its reason.

    Attributes:
        sysctl: Kernel settings: Debian's own defaults and ours.
        mounts: Mount file systems nosuid, nodev and noexec where possible.
        setuid: The programs that keep their setuid and setgid bits and file capabilities; all others lose them.
        apparmor: Confine containers with the profile of their engine.
        lockdown: Only signed kernel modules and nothing that changes the running kernel, even without Secure Boot.
        slab_nomerge: Kernel objects of different kinds never share a slab.
        init_on_free: Memory is zeroed when it is given back.
        page_shuffle: Which page comes next cannot be foretold.
        mounted_disks: A block device that is mounted cannot be written past its file system.
        debugfs: There is no debugfs.
        sealed_arguments: Kernel arguments that are not the UKI's own have no effect.
    """

    sysctl: bool = True
    mounts: bool = True
    setuid: tuple[ProgramPath, ...] = ()
    apparmor: bool = True
    lockdown: bool = True
    slab_nomerge: bool = True
    init_on_free: bool = True
    page_shuffle: bool = True
    mounted_disks: bool = True
    debugfs: bool = True
    sealed_arguments: bool = True

    @property
    def packages(self) -> tuple[str, ...]:
        """The Debian packages it takes."""
        wanted = {"linux-sysctl-defaults": self.sysctl, "apparmor": self.apparmor}
        return tuple(name for name, on in wanted.items() if on)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The kernel arguments it takes; the initrd reads ours."""
        switches = {
            ("lockdown=integrity", "module.sig_enforce=1"): self.lockdown,
            ("slab_nomerge",): self.slab_nomerge,
            ("init_on_free=1",): self.init_on_free,
            ("page_alloc.shuffle=1",): self.page_shuffle,
            ("bdev_allow_write_mounted=0",): self.mounted_disks,
            ("debugfs=off",): self.debugfs,
            ("twinhull.mounts=plain",): not self.mounts,
            ("twinhull.mounts=setuid",): self.mounts and bool(self.setuid),
        }
        return tuple(word for words, on in switches.items() if on for word in words)

    @property
    def last_arguments(self) -> tuple[str, ...]:
        """What ends the command line.

        The kernel takes every word after `--` for an argument of the initrd's first program, which has none.
        """
        return ("--",) if self.sealed_arguments else ()
