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
    """

    sysctl: bool = True
    mounts: bool = True
    setuid: tuple[ProgramPath, ...] = ()
    apparmor: bool = True
    lockdown: bool = True

    @property
    def packages(self) -> tuple[str, ...]:
        """The Debian packages it takes."""
        wanted = {"linux-sysctl-defaults": self.sysctl, "apparmor": self.apparmor}
        return tuple(name for name, on in wanted.items() if on)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The kernel arguments it takes; the initrd reads ours."""
        arguments = ("lockdown=integrity", "module.sig_enforce=1") if self.lockdown else ()
        if not self.mounts:
            return (*arguments, "twinhull.mounts=plain")
        return (*arguments, "twinhull.mounts=setuid") if self.setuid else arguments
