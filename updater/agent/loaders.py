"""The boot loader of this host, of which its disk has three copies; what differs from the other two is written again.

Firmware starts whichever it finds, and a loader that is damaged is refused under Secure Boot: the others start then.
A copy is replaced only by what another place has as well, so a damaged one never spreads; the only one left fills the
places where there is none.
The first loader's settings are the image's.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from bedrock import process
from bedrock.digest import bytes_sha256
from bedrock.errors import TwinhullError
from partitions.loader_conf import LOADER_CONF, REMOVABLE_LOADER, first_conf
from updater.agent.boot_partition import OpenFolder

_MOST_BYTES = 4 << 20
_SYNC_TIMEOUT_S = 60.0
ON_ESP = (REMOVABLE_LOADER, "EFI/systemd/systemd-bootx64.efi")
ON_BOOT = (REMOVABLE_LOADER,)


def keep_loaders(esp: OpenFolder, boot: OpenFolder) -> tuple[str, ...]:
    """Compare the copies, and write to the disk those that differ or are missing; returns a line for each.

    Args:
        esp: Opens the files of the ESP.
        boot: Opens those of the partition of the UKIs.
    """
    found = {("esp", path): content for path, content in _read(esp, ON_ESP).items()}
    found |= {("xbootldr", path): content for path, content in _read(boot, ON_BOOT).items()}
    good, odd = judge(found)
    if not odd:
        return ()
    if good is None:
        return ("the copies of the boot loader differ, and none of them has another one like it",)
    lines = []
    for where, path in odd:
        try:
            with (esp if where == "esp" else boot)(writable=True) as folder:
                _replace(folder / path, good)
            lines.append(f"the boot loader {path} on {where} was damaged and is restored from another copy")
        except (TwinhullError, OSError) as error:
            lines.append(f"the boot loader {path} on {where} is damaged and cannot be restored: {error}")
    return tuple(lines)


def keep_first_conf(esp: OpenFolder) -> tuple[str, ...]:
    """Let the first boot loader's settings be the image's (writes to the disk); returns a line when they were not."""
    conf = first_conf().encode()
    with esp(writable=False) as folder:
        if _content(folder / LOADER_CONF) == conf:
            return ()
    with esp(writable=True) as folder:
        _replace(folder / LOADER_CONF, conf)
    return (f"{LOADER_CONF} on esp was not the image's and is restored",)


def judge(
    found: Mapping[tuple[str, str], bytes | None],
) -> tuple[bytes | None, tuple[tuple[str, str], ...]]:
    """The content that two places have, or the only one that has any, and the places that differ from it; else None."""
    sums = Counter(bytes_sha256(content) for content in found.values() if content)
    if len(sums) == 1 and all(found.values()):
        return next(iter(found.values())), ()
    best = sums.most_common(1)
    # Two that agree, or the only one there is: this host was started by it.
    if not best or (best[0][1] == 1 and len(sums) > 1):
        return None, tuple(found)
    good = next(content for content in found.values() if content and bytes_sha256(content) == best[0][0])
    return good, tuple(place for place, content in found.items() if content != good)


def _read(opened: OpenFolder, paths: tuple[str, ...]) -> dict[str, bytes | None]:
    try:
        with opened(writable=False) as folder:
            return {path: _content(folder / path) for path in paths}
    except (TwinhullError, OSError):
        return dict.fromkeys(paths)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.stat().st_size <= _MOST_BYTES else b""
    except OSError:
        return None


def _replace(path: Path, content: bytes) -> None:
    """Write a file to the disk; other copies of a loader, or its own defaults, do while this one is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name("loader.new")
    with partial.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    with suppress(FileNotFoundError):
        path.unlink()
    partial.rename(path)
    process.run(("sync", "--file-system", path.parent), timeout_s=_SYNC_TIMEOUT_S)
