"""Where a provisioning document may write: below `/etc` and `/var`, except where the updater's safety depends on it.

The root file system is read-only and verified anyway; these rules keep a document from breaking what updates a host,
checks its health and rolls it back.  They do not protect against whoever may provision a host: a unit runs as root.
Pure: no I/O; that no link on the host leads elsewhere is checked where the files are written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated

from bedrock import strict

UNITS = PurePosixPath("/etc/systemd/system")
QUADLETS = PurePosixPath("/etc/containers/systemd")
QUADLET_KINDS = (".container", ".volume", ".network", ".pod", ".kube", ".image", ".build")
UNIT_KINDS = (".service", ".socket", ".timer", ".path", ".mount", ".automount", ".target", ".slice", ".swap")
# Units that find, check and start the system before or next to any document.
_GUARDED_UNITS = re.compile(
    r"twinhull-.*|boot-complete\.target|var\.mount|var-lib-twinhull\.mount|etc\.mount|-\.mount|systemd-veritysetup.*|systemd-bless-boot\..*"
)
_GUARDED = {
    "/etc/twinhull": "the agent's settings are set by `updater:`; only health.d/ and before-reboot.d/ are allowed here",
    "/var/lib/twinhull": "it is the agent's own folder",
    "/var/cache/twinhull": "it is the agent's own folder",
    "/var/lib/systemd": "it is systemd's own folder",
    "/etc/systemd/system": "put units under `units:`; only drop-ins (NAME.d/*.conf) are allowed here",
    "/etc/systemd/system.control": "units are given in `units:`",
    "/etc/systemd/system.attached": "units are given in `units:`",
    "/etc/systemd/system-generators": "generators belong to the image",
    "/etc/systemd/system-environment-generators": "generators belong to the image",
    "/etc/systemd/system-preset": "presets belong to the image",
    "/etc/containers/systemd": "Quadlets are given in `units:`",
    "/etc/credstore": "system-wide credentials could override the agent's own",
    "/etc/passwd": "users are given in `users:`",
    "/etc/group": "users are given in `users:`",
    "/etc/shadow": "users are given in `users:`",
    "/etc/gshadow": "users are given in `users:`",
    "/etc/hostname": "the name is given in `hostname:`",
    "/etc/machine-id": "a host makes its own",
    "/etc/ld.so.preload": "it would change every program, the agent's among them",
    "/etc/ld.so.cache": "it would change every program, the agent's among them",
    "/etc/ssl/certs/ca-certificates.crt": "certificates are given in `ca_certificates:`",
}
# An operator's own programs: health checks, and those that are asked before a reboot.
_PROGRAM = re.compile(r"/etc/twinhull/(health|before-reboot)\.d/([a-z]+\.d/)?[^/]+")
_DROP_IN = re.compile(r"/etc/systemd/system/([^/]+)\.d/[^/]+\.conf")
_MIN_PARTS = 3  # "/", "etc" and a name
# The kernel takes paths of 4095 bytes and names of 255, and a file that is being written has a longer name.
_MAX_PATH_BYTES = 1024
_MAX_NAME_BYTES = 200


@dataclass(frozen=True)
class HostPath:
    """A path below `/etc` or `/var` that a document may write."""

    text: str

    @classmethod
    def from_text(cls, text: str) -> HostPath:
        """Read a path.

        Raises:
            ValueError: It is not below `/etc` or `/var`, or it is one that no document may write.
        """
        path = PurePosixPath(text)
        if text != str(path) or ".." in path.parts or not text.isprintable():
            raise ValueError(f"{text[:_MAX_NAME_BYTES]!r} is not a plain absolute path")
        if len(text.encode()) > _MAX_PATH_BYTES or any(len(part.encode()) > _MAX_NAME_BYTES for part in path.parts):
            limits = f"a path of {_MAX_PATH_BYTES} bytes and names of {_MAX_NAME_BYTES}"
            raise ValueError(f"{text[:_MAX_NAME_BYTES]!r}… is longer than {limits}")
        if len(path.parts) < _MIN_PARTS or path.parts[:2] not in (("/", "etc"), ("/", "var")):
            raise ValueError(f"{text!r} is not a path below /etc or /var, where a host's own files belong")
        drop_in = _DROP_IN.fullmatch(text)
        if drop_in is not None:
            if is_guarded_unit(drop_in[1]):
                raise ValueError(f"{text!r} is refused: {drop_in[1]} belongs to the image")
            return cls(text)
        if _PROGRAM.fullmatch(text) is not None:
            return cls(text)
        for guarded, why in _GUARDED.items():
            if path.is_relative_to(guarded):
                raise ValueError(f"{text!r} is refused: {why}")
        return cls(text)

    def __str__(self) -> str:
        return self.text


UnitName = Annotated[
    str, strict.Pattern(r"[A-Za-z0-9:_][A-Za-z0-9:_.@-]{0,200}\.[a-z]+", "a unit name such as web.container")
]


def unit_path(name: str) -> str:
    """Where a unit or Quadlet of a document is written.

    Raises:
        ValueError: It is neither, or its name belongs to the image.
    """
    if name.endswith(QUADLET_KINDS):
        return str(QUADLETS / name)
    if not name.endswith(UNIT_KINDS):
        raise ValueError(
            f"{name!r} is neither a unit nor a Quadlet (known: {', '.join((*UNIT_KINDS, *QUADLET_KINDS))})"
        )
    if is_guarded_unit(name):
        raise ValueError(f"{name!r} belongs to the image and cannot be replaced")
    return str(UNITS / name)


def is_guarded_unit(name: str) -> bool:
    """Whether the updater's safety depends on this unit."""
    return _GUARDED_UNITS.fullmatch(name) is not None
