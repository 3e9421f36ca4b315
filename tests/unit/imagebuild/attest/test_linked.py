"""The statically linked components that programs name; one table is that of Debian's podman, byte for byte."""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.attest.linked import CARGO_SECTION, GO_SECTION, Ecosystem, Linked, linked_by_owner, read_linked
from imagebuild.elf import ElfError
from imagebuild.errors import BuildError
from imagebuild.inspection.contents import EntryKind, ImageEntry
from tests.fakes.elf_files import sections_file

# `.go.buildinfo` of /usr/bin/podman, podman 5.4.2+ds1-2+b2, packed.
PODMAN = zlib.decompress(
    base64.b64decode(
        "eNpdkr2O00AQx08nJHInCip0ZR4gJHYIJ4G0Rb4UCiASiBpNdifO4v3S7jjntBQ8AC/CM/ASiJbmHoCOAsHYcQ4JNzvz2//M/D32n/7K9zeVNkq7"
        "7fPe+dl/T6/w+XA8GU5+38tuvjz4TL3z6Y+v92+/Xd0GoN1FoWlXbYbS25H0jkA7jGkUvLLgRtKqLrxsR1w8bg/rFQqs8QS5OGiDURTyhAiKJCAE"
        "iNbHQULZaPg02lX1IB0SoVUDozep2mh1VxW1bVwJitWp+wK3UBlarRfL2buVgHRwkrTFKHfgRD4oPGGiD8m7Vk9Y05EeAiYwGpLIBjuiYKBu3hAd"
        "GXQFD8lbbKuaVzTOuzRh3GOnKxHDDkHxRvjWsgvduCMZuKVDQuVSxmEAp6XThkURnErIF77RxAR5Np5Y7Tghk/KsbR9ZyNkThekYWVOiPUq4pMT6"
        "iCuXYItYWk5vtItshfdX7r2pLLKcWTrYBnFSP82elXgIoKNB2HbEYQGk98hzNTQGG8gzZKROUSUM3mip2UzW7Xy+Wr9fvp7OXi4XIu/Yaj19M38h"
        "wKrryR1avxXtF/2nebW4noh9fvlrPM8/XfXj2cfZw+mj7z9P/+NfPArusA=="
    )
)
MARK = bytes(range(16))
MODULES = """\
path\texample.com/tool
mod\texample.com/tool\tv1.0.0\th1:x=
dep\tgithub.com/opencontainers/runc\tv1.1.12\th1:x=
dep\tgolang.org/x/net\tv0.33.0
=>\tgithub.com/fork/net\tv0.34.0\th1:x=
dep\texample.com/tool/internal\tv0.0.0-00010101000000-000000000000
=>\t./internal\t(devel)
build\t-compiler=gc
"""


def counted(text: bytes) -> bytes:
    size, head = len(text), b""
    while size > 0x7F:
        head += bytes([size & 0x7F | 0x80])
        size >>= 7
    return head + bytes([size]) + text


def go_table(version: str, modules: str) -> bytes:
    header = b"\xff Go buildinf:\x08\x02" + bytes(16)
    return header + counted(version.encode()) + counted(MARK + modules.encode() + MARK)


def cargo_table(*packages: dict[str, Any]) -> bytes:
    return zlib.compress(json.dumps({"packages": packages}).encode())


def linked(**sections: bytes) -> set[tuple[str, str, str]]:
    names = {"go": GO_SECTION, "cargo": CARGO_SECTION}
    data = sections_file({names[name]: content for name, content in sections.items()})
    return {(each.ecosystem.value, each.name, each.version) for each in read_linked(io.BytesIO(data))}


def test_podman_says_which_standard_library_it_was_built_with() -> None:
    assert linked(go=PODMAN) == {("golang", "stdlib", "1.24.4")}


def test_modules_are_told_and_a_replaced_one_as_what_replaced_it() -> None:
    assert linked(go=go_table("go1.25rc1 X:nodwarf5", MODULES)) == {
        ("golang", "stdlib", "1.25rc1"),
        ("golang", "github.com/opencontainers/runc", "v1.1.12"),
        ("golang", "github.com/fork/net", "v0.34.0"),
    }


def test_crates_that_only_built_the_program_are_not_in_it() -> None:
    crates = cargo_table(
        {"name": "tool", "version": "1.0.0", "source": "local", "root": True},
        {"name": "rustls", "version": "0.23.1", "source": "crates.io"},
        {"name": "cc", "version": "1.2.0", "source": "crates.io", "kind": "build"},
    )
    assert linked(cargo=crates) == {("cargo", "rustls", "0.23.1")}


def test_a_program_that_says_nothing_has_nothing() -> None:
    assert linked() == set()
    assert read_linked(io.BytesIO(b"#!/bin/sh\n")) == frozenset()


def test_a_table_of_before_go_1_18_is_passed_over() -> None:
    assert linked(go=PODMAN[:15] + b"\x00" + PODMAN[16:]) == set()


@pytest.mark.parametrize("size", [0, 14, 33, 40, 43, 200])
def test_a_table_of_go_that_breaks_off_is_refused(size: int) -> None:
    with pytest.raises(ElfError, match=r"\.go\.buildinfo"):
        linked(go=PODMAN[:size] or b"x")


@pytest.mark.parametrize(
    "table",
    [b"noise", cargo_table()[:-4], zlib.compress(b"{}"), zlib.compress(b"[1]"), zlib.compress(b'{"packages": [1]}')],
)
def test_a_table_of_crates_that_is_damaged_is_refused(table: bytes) -> None:
    with pytest.raises(ElfError, match=r"\.dep-v0"):
        linked(cargo=table)


def test_a_table_that_unpacks_without_end_is_refused() -> None:
    with pytest.raises(ElfError, match="longer than is believable"):
        linked(cargo=zlib.compress(bytes(32 << 20)))


@given(st.binary(max_size=200))
def test_any_table_is_read_or_refused(noise: bytes) -> None:
    for name in ("go", "cargo"):
        try:
            linked(**{name: PODMAN[:32] + noise if name == "go" else noise or b"x"})
        except ElfError:
            continue


def test_what_is_linked_is_told_by_owner_and_only_programs_are_opened(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/podman").write_bytes(sections_file({GO_SECTION: PODMAN}))
    (tmp_path / "usr/bin/true").write_bytes(sections_file({}))
    entries = (
        ImageEntry("/usr/bin/podman", EntryKind.FILE, 0o755, 1, "podman"),
        ImageEntry("/usr/bin/true", EntryKind.FILE, 0o755, 1, "coreutils"),
        ImageEntry("/usr/bin/podmansh", EntryKind.LINK, 0o777, 0, "podman"),
        ImageEntry("/usr/share/not-there", EntryKind.FILE, 0o644, 1, "podman"),
    )
    assert linked_by_owner(tmp_path, entries) == {"podman": {Linked(Ecosystem.GO, "stdlib", "1.24.4")}}
    (tmp_path / "usr/bin/true").write_bytes(sections_file({GO_SECTION: b"x"}))
    with pytest.raises(BuildError, match="/usr/bin/true cannot be read"):
        linked_by_owner(tmp_path, entries)
