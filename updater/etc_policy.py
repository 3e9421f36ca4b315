"""What of a host's own `/etc` outlives a boot: the policy that an image carries, shared by the builder and the agent.

The initrd reads the same file (`imagebuild/data/initrd/init`, lay_etc): one line for the mode, then one for each name
that persists, the image's base first.  Everything else is the image's own again at the next boot, so an edit of a disk
that was not running cannot bring a program, a unit or a setting that runs one.
Pure: no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

POLICY_FILE = "/usr/lib/twinhull/etc-policy"
# A name that is longer, deeper or of other characters is passed over by the initrd as well.
_NAME = r"[A-Za-z0-9._@:+-]+"
_SHAPE = re.compile(rf"({_NAME}/)*({_NAME}/|[A-Za-z0-9._@:+*-]+)")
MAX_NAMES = 64
MAX_DEPTH = 8
MAX_FILE_BYTES = 256 << 10
# Users are the image's and those of a document or of sysusers.d; a whole copy would hide what a later version brings.
ACCOUNT_FILES = frozenset({"passwd", "group", "shadow", "gshadow", "subuid", "subgid"})
_PROGRAMS_READ = "programs that run as root take from it what they load or run"
_STARTS = "what it names is started at boot or later"
_LOGIN = "it says who may log in, and what runs when somebody does"
_CONTAINERS = "it says which programs start containers, and with which rights"
_FORBIDDEN = {
    _STARTS: (
        *("systemd", "udev", "dbus-1", "init.d", "init", "inittab", "rc*", "default", "cron*", "anacrontab", "at.*"),
        *(
            "incron*",
            "fstab",
            "crypttab",
            "veritytab",
            "integritytab",
            "extensions",
            "confexts",
            "verity.d",
            "portables",
        ),
        *("repart.d", "sysupdate*", "credstore*", "binfmt.d", "tmpfiles.d", "modules", "modules-load.d", "modprobe.d"),
        *("sysctl.d", "sysctl.conf", "kernel", "initramfs-tools", "dracut*", "grub*", "request-key*", "cloud", "apt"),
        *("dpkg", "acpi", "pm", "watchdog*", "logrotate*", "update-motd.d", "ca-certificates*", "xdg", "X11"),
    ),
    _PROGRAMS_READ: (
        *("ld.so.*", "ld-musl*", "nsswitch.conf", "environment*", "alternatives", "ssl/openssl*", "ssl/engines*"),
        *("gnutls", "pkcs11", "crypto-policies", "krb5*", "gss", "sasl2", "OpenCL", "vulkan", "glvnd", "apparmor*"),
        *("selinux", "audit*", "audisp", "network", "networks.d", "ppp", "dhcp*", "NetworkManager", "netplan"),
        *("networkd-dispatcher", "wpa_supplicant", "rsyslog*", "syslog-ng", "smartd.conf", "smartmontools", "mdadm*"),
        *("lvm", "multipath*", "iscsi", "auto.*", "autofs*", "samba", "snmp", "mailcap", "e2scrub.conf", "python*"),
        *("perl", "java*", "vim*", "git*", "screenrc", "tmux.conf", "nanorc"),
    ),
    _LOGIN: (
        *("passwd*", "group*", "shadow*", "gshadow*", "subuid*", "subgid*", "userdb", "sysusers.d", "pam.d"),
        *("pam.conf", "security", "sudo*", "doas.conf", "polkit-1", "ssh", "profile*", "bash*", "csh*", "zsh*"),
        *("fish", "skel", "login.defs", "shells", "securetty", "sssd", "nslcd*"),
    ),
    _CONTAINERS: (
        *("containers/systemd", "containers/containers.conf*", "containers/storage.conf*", "containers/oci"),
        *("containers/policy.json", "containers/mounts.conf", "containers/seccomp.json", "cdi", "cni", "containerd"),
        *("docker", "crio", "kubernetes", "rancher", "nvidia-container-runtime"),
    ),
    "of the agent's files only updater.yaml and updater.d/ persist, and every image keeps them": ("twinhull",),
}
_HINT = "put it into the image (`files`, `units`), or into a signed provisioning document, or build with etc: overlay"


class EtcMode(Enum):
    """What of the edits of a host's `/etc` outlives a boot."""

    OVERLAY = "overlay"
    ALLOWLIST = "allowlist"
    VOLATILE = "volatile"


@dataclass(frozen=True)
class KeptName:
    """A file below `/etc` (`app/settings`, `app/*.conf`), or a folder with everything in it (`app/`)."""

    text: str

    @classmethod
    def from_text(cls, text: str) -> KeptName:
        """Read a name that an image lists.

        Raises:
            ValueError: It is not such a name, or one of those by which code could be brought.
        """
        name = _shaped(text)
        for reason, patterns in _FORBIDDEN.items():
            for pattern in patterns:
                if name.overlaps(pattern):
                    raise ValueError(f"{text!r} cannot persist ({pattern}): {reason}; {_HINT}")
        return name

    def __str__(self) -> str:
        return self.text

    @property
    def is_folder(self) -> bool:
        """Whether everything below it persists."""
        return self.text.endswith("/")

    def matches(self, path: str) -> bool:
        """Whether a file by its path below `/etc` is one of those that it stands for."""
        if self.is_folder:
            return path.startswith(self.text) and path.count("/") - self.text.count("/") < MAX_DEPTH
        folder, _, pattern = self.text.rpartition("/")
        place, _, name = path.rpartition("/")
        return place == folder and fnmatchcase(name, pattern)

    def overlaps(self, pattern: str) -> bool:
        """Whether it stands for something at or below a path, each part of which may end in `*`."""
        own, other = self.text.rstrip("/").split("/"), pattern.split("/")
        if not all(_meet(mine, theirs) for mine, theirs in zip(own, other, strict=False)):
            return False
        return len(own) >= len(other) or self.is_folder


def _shaped(text: str) -> KeptName:
    parts = text.rstrip("/").split("/")
    if _SHAPE.fullmatch(text) is None or any(set(part) == {"."} for part in parts) or len(parts) > MAX_DEPTH:
        raise ValueError(
            f"{text!r} is not a name below /etc such as app/settings, app/*.conf or app/ (a folder); letters, digits, "
            f"._@:+- and, in a file's own name, *"
        )
    return KeptName(text)


def _meet(mine: str, theirs: str) -> bool:
    """Whether two names with `*` in them can be the same; where both have one, what stands before it decides."""
    if "*" in mine and "*" in theirs:
        first, second = mine.partition("*")[0], theirs.partition("*")[0]
        return first.startswith(second) or second.startswith(first)
    return fnmatchcase(mine, theirs) or fnmatchcase(theirs, mine)


# The identity of the host, and the mark of what systemd does once per image; not configuration.
_IDENTITY = ("machine-id", ".updated")
# systemd-networkd starts no program, whatever such a file says; without it a host could be out of reach after a reboot.
_SETTINGS = ("hostname", "twinhull/updater.yaml", "twinhull/updater.d/*.yaml", "systemd/network/*.network")
BASE = {
    EtcMode.OVERLAY: (*_IDENTITY, *_SETTINGS),
    EtcMode.ALLOWLIST: (*_IDENTITY, *_SETTINGS),
    EtcMode.VOLATILE: _IDENTITY,
}


@dataclass(frozen=True)
class EtcPolicy:
    """The policy of an image; in mode `overlay` the names are those of a boot whose disk cannot be written."""

    mode: EtcMode = EtcMode.ALLOWLIST
    keep: tuple[KeptName, ...] = ()

    def __post_init__(self) -> None:
        if self.keep and self.mode is not EtcMode.ALLOWLIST:
            raise ValueError(f"etc_keep has no effect with etc: {self.mode.value}, only with allowlist")
        if len(self.keep) > MAX_NAMES:
            raise ValueError(f"etc_keep lists {len(self.keep)} names, {MAX_NAMES} is the most; list a folder instead")

    @property
    def names(self) -> tuple[KeptName, ...]:
        """Everything that persists, the base first: it must not fall behind what the image adds."""
        return (*map(KeptName, BASE[self.mode]), *self.keep)

    def persists(self, path: str) -> bool:
        """Whether an edit of a file below `/etc` outlives a boot."""
        if path in ACCOUNT_FILES:
            return False
        return self.mode is EtcMode.OVERLAY or any(name.matches(path) for name in self.names)

    def passing(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Those of some absolute paths that are below `/etc` and do not outlive a boot."""
        below = ((path, path.removeprefix("/etc/")) for path in paths if path.startswith("/etc/"))
        return tuple(path for path, name in below if not self.persists(name))

    def text(self) -> str:
        """The file that the image carries."""
        lines = [f"mode {self.mode.value}"]
        lines += [f"{'folder' if name.is_folder else 'file'} {str(name).rstrip('/')}" for name in self.names]
        return "".join(f"{line}\n" for line in lines)


def parse_policy(text: str) -> EtcPolicy:
    """Read the file that an image carries.

    Raises:
        ValueError: It is not such a file.
    """
    first, *lines = text.splitlines() or [""]
    mode = EtcMode(first.removeprefix("mode "))
    names = []
    for line in lines:
        kind, _, name = line.partition(" ")
        if kind not in ("file", "folder") or not name:
            raise ValueError(f"{line!r} is not a line of {POLICY_FILE}")
        names.append(KeptName(f"{name}/" if kind == "folder" else name))
    base = {KeptName(name) for name in BASE[mode]}
    return EtcPolicy(mode, tuple(name for name in names if name not in base))
