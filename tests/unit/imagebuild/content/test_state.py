from __future__ import annotations

import json

from imagebuild.content.state import StateEntry, read_record, state_of, tmpfiles_paths


def folder(path: str, mode: int = 0o755, user: str = "root", group: str = "root") -> StateEntry:
    return StateEntry(path, "folder", mode, user, group, shipped=True, size_bytes=4096)


def file(path: str, content: str | None, *, size_bytes: int = 1) -> StateEntry:
    return StateEntry(
        path, "file", 0o640, "redis", "adm", shipped=content is not None, size_bytes=size_bytes, content=content
    )


def test_folders_are_made_with_their_modes_and_owners() -> None:
    found = state_of(
        [folder("/var/lib/redis", 0o750, "redis", "redis"), folder("/var/log/redis", 0o2750, "redis", "adm")], ()
    )
    assert found.lines == ("d /var/lib/redis 0750 redis redis -", "d /var/log/redis 2750 redis adm -")


def test_a_shipped_file_travels_in_the_image_and_an_empty_one_is_made() -> None:
    found = state_of([file("/var/lib/a/x", "text"), file("/var/lib/a/empty", None, size_bytes=0)], ())
    assert found.lines == (
        "f /var/lib/a/empty 0640 redis adm -",
        "C /var/lib/a/x 0640 redis adm - /usr/share/factory/var/lib/a/x",
    )
    assert found.factory == {"/usr/share/factory/var/lib/a/x": (0o640, "text")}


def test_what_a_maintainers_script_wrote_is_left_behind_and_named() -> None:
    found = state_of([file("/var/lib/a/seed", None)], ())
    assert (found.lines, found.left_behind) == ((), ("/var/lib/a/seed",))


def test_links_are_made_again() -> None:
    entry = StateEntry("/var/lib/a", "link", 0o777, "root", "root", shipped=True, size_bytes=3, target="b c")
    assert state_of([entry], ()).lines == ('L /var/lib/a - - - - "b c"',)


def test_what_only_debians_tools_use_is_not_made() -> None:
    names = (
        "/var/lib/dpkg/info",
        "/var/lib/apt",
        "/var/cache/debconf/x",
        "/var/lib/systemd/deb-systemd-helper-enabled",
    )
    assert state_of(map(folder, names), ()).text == ""


def test_what_the_images_own_tmpfiles_make_is_theirs() -> None:
    known = tmpfiles_paths(['# x\nd /var/lib/app 0755 - - -\nL+ "/var/lib/two" - - - - x\nD! /var/spool/*/q/ 0755\n\n'])
    entries = [folder(path) for path in ("/var/lib/app", "/var/lib/two", "/var/spool/a/q", "/var/lib/more")]
    assert state_of(entries, known).lines == ("d /var/lib/more 0755 root root -",)


def test_the_record_is_read_strictly() -> None:
    row = {
        "path": "/var/a",
        "kind": "folder",
        "mode": 493,
        "user": "root",
        "group": "root",
        "shipped": True,
        "size_bytes": 1,
    }
    assert read_record(json.dumps([row]).encode(), source="var.json") == (
        StateEntry("/var/a", "folder", 0o755, "root", "root", shipped=True, size_bytes=1),
    )
