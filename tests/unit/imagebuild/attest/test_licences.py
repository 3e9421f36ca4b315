from __future__ import annotations

from email.message import Message
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuild.attest.licences import NO_FILE, NOT_MACHINE_READABLE, Licences, debian_licences, wheel_licences

DEP5 = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2020 A
License: GPL-2+ with
 OpenSSL exception

Files: lib/*
Copyright: 2020 B
License: Expat

Files: debian/*
Copyright: 2021 C
License: Expat
"""


def test_the_short_names_of_a_machine_readable_file_are_told_once(tmp_path: Path) -> None:
    (tmp_path / "libx").write_text(DEP5)
    assert debian_licences(tmp_path / "libx") == Licences(names=("Expat", "GPL-2+ with"))


@pytest.mark.parametrize("text", ["", "This is Python, under its own licence.\n", "Format: nonsense\n\nFiles: *\n"])
def test_free_text_stays_unknown(tmp_path: Path, text: str) -> None:
    (tmp_path / "python").write_text(text)
    assert debian_licences(tmp_path / "python") == Licences(unknown=NOT_MACHINE_READABLE)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    assert debian_licences(tmp_path / "gone") == Licences(unknown=NO_FILE)


@given(content=st.binary(max_size=300))
def test_no_file_stops_a_build(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("copyright") / "any"
    path.write_bytes(content)
    found = debian_licences(path)
    assert bool(found.names) != bool(found.unknown)


@given(body=st.text(max_size=200))
def test_no_paragraph_stops_a_build(tmp_path_factory: pytest.TempPathFactory, body: str) -> None:
    path = tmp_path_factory.mktemp("copyright") / "any"
    path.write_text(DEP5 + "\n" + body, encoding="utf-8")
    found = debian_licences(path)
    assert bool(found.names) != bool(found.unknown)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("License-Expression", "MIT OR Apache-2.0", Licences(expression="MIT OR Apache-2.0")),
        ("License", "BSD", Licences(names=("BSD",))),
        ("License", "a whole\n text", Licences(unknown="the package's metadata declares no licence")),
        ("Summary", "x", Licences(unknown="the package's metadata declares no licence")),
    ],
)
def test_a_wheel_s_licence_is_what_it_declares(field: str, value: str, expected: Licences) -> None:
    metadata = Message()
    metadata[field] = value
    assert wheel_licences(metadata) == expected
