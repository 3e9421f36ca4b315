"""Checks that the image's kernel knows the modules and settings of a definition.

A module is known if it has a file, is built in or has an alias; a setting, if its name is a string in the kernel or in
one of its modules, because a kernel has no list of its settings.
"""

from __future__ import annotations

import difflib
import lzma
import re
from collections.abc import Collection, Iterable, Iterator

import zstandard

_NEAR = 3
_PACKED = {b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\x00": "xz"}
# A kernel comes to some tens of megabytes; more is not one.
_LARGEST = 256 << 20


def module_problems(wanted: Iterable[str], *, dep: str, builtin: str, aliases: str) -> tuple[str, ...]:
    """Problems for modules that the image's kernel does not have; the texts are depmod's."""
    files = (line.partition(":")[0] for line in (*dep.splitlines(), *builtin.splitlines()))
    known = {_module_name(file) for file in files if file}
    known |= {words[1] for words in map(str.split, aliases.splitlines()) if words[:1] == ["alias"] and len(words) > 1}
    return tuple(
        f"modules[{index}]: the image has no kernel module {name}{_nearest(name.replace('-', '_'), known)};"
        " is it in another kernel package, or removed by drop_modules?"
        for index, name in enumerate(wanted)
        if name not in known and name.replace("-", "_") not in known
    )


def unknown_settings(names: Iterable[str], kernel: bytes) -> dict[str, str]:
    """The last part of each setting that the kernel itself does not know, by the setting."""
    found = {}
    for name in names:
        last = re.split(r"[./]", name)[-1]
        if f"\0{last}\0".encode() not in kernel:
            found[name] = last
    return found


def unpacked_kernel(image: bytes) -> bytes | None:
    """The kernel in a bootable image of it; None when it is packed in a way that is not known here."""
    for start, packing in _payloads(image):
        try:
            if packing == "zstd":
                reader = zstandard.ZstdDecompressor().stream_reader(image[start:])
                content = reader.read(_LARGEST)
            else:
                content = lzma.LZMADecompressor().decompress(image[start:], max_length=_LARGEST)
        except (zstandard.ZstdError, lzma.LZMAError):
            continue
        if b"Linux version" in content:
            return content
    return None


def _payloads(image: bytes) -> Iterator[tuple[int, str]]:
    for magic, packing in _PACKED.items():
        start = image.find(magic)
        while start != -1:
            yield start, packing
            start = image.find(magic, start + 1)


def _module_name(path: str) -> str:
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def _nearest(name: str, names: Collection[str]) -> str:
    near = difflib.get_close_matches(name, sorted(each for each in names if ":" not in each), n=_NEAR, cutoff=0.7)
    return f" (near it are {', '.join(near)})" if near else ""
