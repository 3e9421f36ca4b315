"""The files and modules that a running host touched, from its page cache and its list of kernel modules.

The root is erofs, read-only, with a page cache per file.  A file with a page in it was read, mapped or executed since
the boot by some process, because the kernel's readahead never leaves a file; fincore(1) lists the pages without reading
any.  Debian ships fincore in a package that no host needs, so it is passed to the running guest (in memory); the image
is not changed, and nothing is traced.  Pure: the commands for the guest, and the parsing of its answers.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from imagebuild.errors import TrimError

# The start of PID 1 reads it, so a record without it is invalid.
CANARY = "/usr/lib/systemd/systemd"
# Counters in /proc/vmstat of dropped pages, whose files are no longer known as touched.
_LOST = re.compile(r"(pgsteal_(kswapd|direct|khugepaged|proactive)|drop_pagecache)")
_ESCAPED = re.compile(rb"\\x([0-9a-fA-F]{2})")
# The guest's shell returns only the end of long output, so the first line proves that nothing was cut off.
_BEGIN, _END = "twinhull-sample 1", "twinhull-sample end"

_FOLDER = "/run/twinhull-trim"
_CHUNK_BYTES = 12 << 10
SAMPLE_SCRIPT = f"""
set -eu
work={_FOLDER}
find / -xdev -type f -print0 >$work/names
xargs -0 -a $work/names $work/fincore --bytes --raw --noheadings --output RES,FILE >$work/found
echo '{_BEGIN}'
grep -E '^(pgsteal_|drop_pagecache)' /proc/vmstat | sed 's/^/lost /'
cut -d ' ' -f 1 /proc/modules | sed 's/^/module /'
echo "names $(tr -cd '\\000' <$work/names | wc -c) $(wc -l <$work/found)"
grep -v '^0 ' $work/found | sed 's/^/file /'
echo '{_END}'
"""


@dataclass(frozen=True)
class Sample:
    """The files (absolute paths) and modules (names) touched since a boot, at one moment.

    Module names are spelled with `_`, as the kernel does.
    """

    files: frozenset[str]
    modules: frozenset[str]


def delivery(program: bytes) -> Iterator[str]:
    """Commands that copy the program fincore into the guest's memory, until its next boot."""
    # A separate file system, because the one around it is noexec.
    yield f"mkdir -p {_FOLDER} && mount -t tmpfs -o nosuid,nodev,mode=0700,size=64m tmpfs {_FOLDER}"
    yield f": >{_FOLDER}/fincore && chmod 700 {_FOLDER} {_FOLDER}/fincore"
    for start in range(0, len(program), _CHUNK_BYTES):
        piece = base64.b64encode(program[start : start + _CHUNK_BYTES]).decode()
        yield f"printf %s {piece} | base64 -d >>{_FOLDER}/fincore"
    yield f"[ $(wc -c <{_FOLDER}/fincore) -eq {len(program)} ] && {_FOLDER}/fincore --version"


def union(samples: Iterable[Sample]) -> Sample:
    """What was touched in any of the samples."""
    every = tuple(samples)
    return Sample(
        frozenset().union(*(sample.files for sample in every)), frozenset().union(*(sample.modules for sample in every))
    )


def read_sample(text: str) -> Sample:
    """Read what `SAMPLE_SCRIPT` printed.

    Raises:
        TrimError: It is incomplete, files were left out, pages were dropped from the cache, or PID 1 is not in it.
    """
    lines = text.strip().splitlines()
    if not lines or lines[0] != _BEGIN or lines[-1] != _END:
        raise TrimError(f"the guest's list of touched files is not whole: {text[-200:]!r}")
    found: dict[str, list[str]] = {"lost": [], "module": [], "names": [], "file": []}
    for line in lines[1:-1]:
        kind, _, rest = line.partition(" ")
        if kind not in found:
            raise TrimError(f"the guest's list of touched files holds {line[:200]!r}")
        found[kind].append(rest)
    _require_all_asked(found["names"])
    _require_nothing_lost(found["lost"])
    files = frozenset(_path(line) for line in found["file"])
    if CANARY not in files:
        raise TrimError(f"{CANARY} is not in the page cache of the running host, so the touched files cannot be found")
    return Sample(files, frozenset(found["module"]))


def _require_all_asked(lines: list[str]) -> None:
    counts = lines[0].split() if len(lines) == 1 else []
    if len(counts) != 2 or counts[0] != counts[1]:  # noqa: PLR2004 - names and answers
        raise TrimError(f"fincore did not answer for every file of the host: {' '.join(lines)}")


def _require_nothing_lost(lines: list[str]) -> None:
    counters = (line.split() for line in lines)
    lost = [f"{name} {count}" for name, count in counters if _LOST.fullmatch(name) and int(count)]
    if lost or not lines:
        raise TrimError(f"the host dropped pages from its cache, so touched files are missing: {lost}").with_hint(
            "give the machine more memory (--memory)"
        )


def _path(line: str) -> str:
    size, _, name = line.partition(" ")
    if not size.isdecimal() or not name.startswith("/"):
        raise TrimError(f"fincore answered {line[:200]!r}")
    # libsmartcols writes spaces, backslashes and control bytes as \xNN, so that a row is a line.
    return _ESCAPED.sub(lambda match: bytes((int(match[1], 16),)), name.encode()).decode(errors="surrogateescape")
