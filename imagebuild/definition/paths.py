"""Paths inside an image, and where the image really stores a file of the definition.

The root filesystem is read-only and `/var` is another file system, made at the first boot.  So a file for a path below
`/var` (or below a folder that is a link into it, such as `/opt`) is stored as a copy under `/usr/share/factory`, and
systemd-tmpfiles copies it to its path when nothing exists there yet.
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

FACTORY = "/usr/share/factory"
# Folders that are links into /var, and where they lead (`data/scripts/kernel.finalize` makes them).
_LINKS = {"/home": "/var/home", "/root": "/var/roothome", "/opt": "/var/opt", "/srv": "/var/srv"}
_MERGED = ("/bin", "/sbin", "/lib", "/lib64")
_NOT_GIVEN = {
    "/run": "it is in memory and empty at each boot: write a tmpfiles.d file into /etc/tmpfiles.d",
    "/tmp": "it is in memory and empty at each boot: write a tmpfiles.d file into /etc/tmpfiles.d",  # noqa: S108 - a name
    "/var/run": "it is in memory and empty at each boot: write a tmpfiles.d file into /etc/tmpfiles.d",
    "/var/lock": "it is in memory and empty at each boot: write a tmpfiles.d file into /etc/tmpfiles.d",
    "/var/tmp": "old files there are removed: choose a folder below /var/lib",  # noqa: S108 - a name
    "/dev": "the kernel makes what is there",
    "/proc": "the kernel makes what is there: `sysctl` sets what can be set",
    "/sys": "the kernel makes what is there: write a tmpfiles.d or udev rules file",
    "/boot": "it is the boot partition, which a build fills by itself",
    "/efi": "it is the partition of the boot loader, which a build fills by itself",
    "/etc/passwd": "`users` makes it",
    "/etc/shadow": "`users` makes it",
    "/etc/group": "`groups` makes it",
    "/etc/gshadow": "`groups` makes it",
    "/etc/machine-id": "each host makes its own",
    "/etc/resolv.conf": "systemd-resolved makes it: write a file below /etc/systemd/resolved.conf.d",
    "/etc/localtime": "`timezone` sets it",
    "/etc/locale.conf": "`locale` sets it",
}


@dataclass(frozen=True)
class AbsolutePath:
    """A path inside the image that cannot leave it."""

    text: str

    @classmethod
    def from_text(cls, text: str) -> AbsolutePath:
        """Read a path.

        Raises:
            ValueError: It is not absolute, or has `..` or a control character in it.
        """
        path = PurePosixPath(text)
        if not path.is_absolute() or ".." in path.parts or not text.isprintable() or len(path.parts) < 2:  # noqa: PLR2004 - "/" and a name
            raise ValueError(f"{text!r} is not an absolute path inside the image")
        return cls(f"/{str(path).lstrip('/')}")

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class FilePath(AbsolutePath):
    """A path at which an image can have a file."""

    @classmethod
    def from_text(cls, text: str) -> FilePath:
        """Read a path.

        Raises:
            ValueError: It is not a path inside the image, or a build cannot put a file there.
        """
        path = AbsolutePath.from_text(text).text
        for folder, why in _NOT_GIVEN.items():
            if is_below(path, folder):
                raise ValueError(f"{path} cannot be in an image: {why}")
        return cls(path)

    @property
    def on_host(self) -> str:
        """Where a host has it, links of folders resolved."""
        for folder, target in _LINKS.items():
            if is_below(self.text, folder):
                return target + self.text.removeprefix(folder)
        return f"/usr{self.text}" if any(is_below(self.text, top) for top in _MERGED) else self.text

    @property
    def made_at_boot(self) -> bool:
        """Whether systemd-tmpfiles makes it on the host, from a copy in the image."""
        return is_below(self.on_host, "/var")

    @property
    def in_image(self) -> str:
        """Where its content is in the image."""
        return FACTORY + self.on_host if self.made_at_boot else self.on_host


def is_below(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or something in it."""
    return path == folder or path.startswith(f"{folder}/")


def on_host(path: AbsolutePath) -> str:
    """Where a host has a path, links of folders resolved."""
    return FilePath(path.text).on_host


def tmpfiles_word(text: str) -> str:
    """A path as a tmpfiles.d line carries it: quoted, specifiers taken literally."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if any(sign in text for sign in " \t\"'\\") else escaped
