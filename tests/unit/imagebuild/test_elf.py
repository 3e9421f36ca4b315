from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.elf import Dlopen, Elf, ElfError, read_elf
from tests.fakes.elf_files import elf_file

WHOLE = elf_file(
    "libc.so.6",
    soname="libone.so.1",
    interpreter="/lib64/ld-linux-x86-64.so.2",
    dlopen=[{"soname": ["libtwo.so.2"]}],
)


def read(data: bytes) -> Elf | None:
    return read_elf(io.BytesIO(data))


@pytest.mark.parametrize("order", ["<", ">"])
def test_libraries_name_and_interpreter_are_read(order: str) -> None:
    found = read(elf_file("liba.so.1", "libc.so.6", soname="me.so", interpreter="/lib/ld.so", order=order))
    assert found == Elf(needed=("liba.so.1", "libc.so.6"), soname="me.so", interpreter="/lib/ld.so")


def test_a_static_program_needs_nothing() -> None:
    assert read(elf_file()) == Elf()


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fEL"])
def test_what_is_not_elf_is_none(data: bytes) -> None:
    assert read(data) is None


def test_the_folders_searched_first_are_those_of_runpath_if_there_is_one() -> None:
    both = read(elf_file("liba.so", runpath="$ORIGIN/../lib:/opt/lib", rpath="/old"))
    old = read(elf_file("liba.so", rpath="/old"))
    assert both is not None
    assert old is not None
    assert both.search == ("$ORIGIN/../lib", "/opt/lib")
    assert old.search == ("/old",)


def test_libraries_that_a_program_may_load_are_named_in_its_notes() -> None:
    rows = [{"soname": ["libzstd.so.1"], "priority": "suggested", "feature": "zstd"}, {"soname": ["a.so.2", "a.so.1"]}]
    found = read(elf_file("libc.so.6", dlopen=rows))
    assert found is not None
    assert found.dlopen == (
        Dlopen(("libzstd.so.1",), "suggested", "zstd"),
        Dlopen(("a.so.2", "a.so.1"), "recommended"),
    )


@pytest.mark.parametrize("rows", [[{"priority": "required"}], ["text"], [{"soname": 1}]])
def test_a_note_that_cannot_be_read_is_an_error(rows: list[object]) -> None:
    with pytest.raises(ElfError, match="a note on what it loads cannot be read"):
        read(elf_file(dlopen=rows))


def test_names_outside_every_segment_are_an_error() -> None:
    data = bytearray(WHOLE)
    # The address of the first segment, which holds the names.
    data[64 + 16 : 64 + 24] = (1 << 40).to_bytes(8, "little")
    with pytest.raises(ElfError, match="which no segment holds"):
        read(bytes(data))


@given(st.integers(4, len(WHOLE) - 1))
def test_a_file_that_breaks_off_is_an_error_or_lacks_only_its_padding(length: int) -> None:
    try:
        found = read(WHOLE[:length])
    except ElfError:
        return
    assert found == read(WHOLE)


@given(st.integers(4, len(WHOLE) - 1), st.binary(min_size=1, max_size=8))
def test_a_damaged_file_is_read_or_refused(at: int, noise: bytes) -> None:
    damaged = bytearray(WHOLE)
    damaged[at : at + len(noise)] = noise
    try:
        read(bytes(damaged))
    except ElfError:
        return


def test_the_interpreter_that_runs_this_test_is_read() -> None:
    with Path(sys.executable).open("rb") as stream:
        found = read_elf(stream)
    assert found is not None
    assert found.interpreter is not None
    assert any(name.startswith("libc.") for name in found.needed)
