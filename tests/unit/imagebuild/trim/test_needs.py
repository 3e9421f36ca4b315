"""Reading what files need of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.errors import TrimError
from imagebuild.trim.needs import interpreter, parse_dependencies, parse_soft_dependencies, read_needs
from tests.fakes.elf_files import elf_file
from tests.fakes.trees import contents_of

MODULES = "/usr/lib/modules/6.12"


def write(root: Path, path: str, content: bytes) -> None:
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def test_programs_scripts_links_and_modules_are_read(tmp_path: Path) -> None:
    places = [f"{MODULES}/kernel/{name}.ko" for name in ("fs/x-y", "lib/z", "lib/soft")]
    files = {"/usr/bin/a": elf_file("libb.so.1", "libc.so.6"), "/usr/bin/s": b"#!/bin/sh -e\n", "/usr/bin/t": b"text"}
    files |= dict.fromkeys(places, b"\x7fELF")
    files[f"{MODULES}/modules.dep"] = b"kernel/fs/x-y.ko: kernel/lib/z.ko\nkernel/lib/z.ko:\n"
    files[f"{MODULES}/modules.softdep"] = b"# soft\nsoftdep x_y pre: soft missing\n"
    for path, content in files.items():
        write(tmp_path, path, content)
    (tmp_path / "usr/bin/l").symlink_to("a")
    contents = contents_of({path: len(content) for path, content in files.items()}, {"/usr/bin/l": "a"})
    needs = read_needs(contents, tmp_path)
    assert needs.links == {"/usr/bin/l": "a"}
    assert needs.names == {"/usr/bin/a": ("libb.so.1", "libc.so.6"), "/usr/bin/s": ("sh",)}
    assert needs.modules == {places[0]: (places[1], places[2]), places[1]: ()}


def test_a_damaged_program_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "/usr/bin/a", b"\x7fELF")
    with pytest.raises(TrimError, match="/usr/bin/a is damaged: the ELF header breaks off"):
        read_needs(contents_of({"/usr/bin/a": 4}), tmp_path)


def test_a_record_that_does_not_fit_the_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrimError, match="/usr/bin/a of the image's record is not in its root"):
        read_needs(contents_of({"/usr/bin/a": 4}), tmp_path)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b"#!/bin/sh\n", "sh"),
        (b"#! /usr/bin/env -S python3 -u\n", "python3"),
        (b"#!/usr/bin/perl -w\n", "perl"),
        (b"#!\n", None),
        (b"plain\n", None),
    ],
)
def test_the_interpreter_of_a_script(line: bytes, name: str | None) -> None:
    assert interpreter(line) == name


def test_lines_without_dependencies_are_passed_over() -> None:
    assert list(parse_dependencies("\nnonsense\na.ko: b.ko c.ko\n")) == [("a.ko", ("b.ko", "c.ko"))]
    assert list(parse_soft_dependencies("softdep a\nalias x y z\nsoftdep a pre: b post: c\n")) == [("a", ("b", "c"))]
