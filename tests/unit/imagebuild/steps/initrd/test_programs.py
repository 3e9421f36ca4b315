"""Programs and libraries out of small but whole Debian packages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from imagebuild.definition.initrd import InitrdContent
from imagebuild.errors import BuildError, RefusedInputError
from imagebuild.inputs.store import Store
from imagebuild.steps.dpkg import read_database
from imagebuild.steps.initrd.programs import unpack_programs
from tests.fakes.debian_packages import ArchiveLink, Content, ar, deb, stored, tar_xz
from tests.fakes.elf_files import elf_file

LIBRARIES = "/usr/lib/x86_64-linux-gnu"
LIBC: Mapping[str, Content] = {
    f"{LIBRARIES}/libc.so.6": elf_file("ld-linux-x86-64.so.2"),
    f"{LIBRARIES}/ld-linux-x86-64.so.2": elf_file(),
    "/usr/lib64/ld-linux-x86-64.so.2": ArchiveLink("../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
    "/usr/share/doc/libc6/copyright": b"LGPL",
}
TOOL: Mapping[str, Content] = {
    "/usr/sbin/tool": elf_file("libtool.so.1", "libc.so.6"),
    "/usr/share/doc/tool/copyright": b"MIT",
    "/usr/share/doc/tool/changelog": b"much",
}
LIBTOOL: Mapping[str, Content] = {
    f"{LIBRARIES}/libtool.so.1": ArchiveLink("libtool.so.1.2"),
    f"{LIBRARIES}/libtool.so.1.2": elf_file("libc.so.6"),
}
ALWAYS = {
    "usr/lib/x86_64-linux-gnu/libc.so.6",
    "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "usr/lib64/ld-linux-x86-64.so.2",
}


def content_of(*programs: str, libraries: tuple[str, ...] = ()) -> InitrdContent:
    return InitrdContent({"tool": programs}, libraries, {}, (), (), (), {})


def unpack(folder: Path, content: InitrdContent, **packages: Mapping[str, Content] | bytes) -> Path:
    """The tree of what `content` wants of these packages, whose files are made here unless they are given whole."""
    store = Store(folder / "files")
    locked = [
        stored(store, name, files if isinstance(files, bytes) else deb(name, "1", files))
        for name, files in packages.items()
    ]
    root = folder / "root"
    unpack_programs(content, locked, store, root=root, record=folder / "record")
    return root


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or path.is_file()}


def test_a_program_comes_with_what_it_is_linked_to_and_the_links_that_lead_there(tmp_path: Path) -> None:
    root = unpack(tmp_path, content_of("/usr/sbin/tool"), libc6=LIBC, tool=TOOL, libtool1=LIBTOOL)
    libraries = {"usr/lib/x86_64-linux-gnu/libtool.so.1", "usr/lib/x86_64-linux-gnu/libtool.so.1.2"}
    assert names(root) == {"usr/sbin/tool"} | libraries | ALWAYS
    assert (root / "usr/lib/x86_64-linux-gnu/libtool.so.1").readlink() == Path("libtool.so.1.2")


def test_a_library_that_nobody_needs_is_left_out_with_its_package(tmp_path: Path) -> None:
    more = {f"{LIBRARIES}/libmore.so.3": elf_file("libgone.so")}
    root = unpack(tmp_path, content_of("/usr/sbin/tool"), libc6=LIBC, tool=TOOL, libtool1=LIBTOOL, libmore3=more)
    assert not any("libmore" in name for name in names(root))
    assert not (tmp_path / "record/info/libmore3.list").exists()


def test_a_library_that_is_loaded_by_name_comes_along_with_what_it_needs(tmp_path: Path) -> None:
    more = {f"{LIBRARIES}/libmore.so.3": elf_file("libtool.so.1")}
    content = content_of("/usr/sbin/tool", libraries=("libmore.so.3",))
    root = unpack(tmp_path, content, libc6=LIBC, tool={"/usr/sbin/tool": elf_file()}, libtool1=LIBTOOL, libmore3=more)
    assert {Path(name).name for name in names(root)} >= {"libmore.so.3", "libtool.so.1", "libtool.so.1.2"}


def test_systemds_own_library_is_found_in_its_folder(tmp_path: Path) -> None:
    shared = {f"{LIBRARIES}/systemd/libsystemd-shared-257.so": elf_file("libc.so.6")}
    tool = {"/usr/sbin/tool": elf_file("libsystemd-shared-257.so")}
    root = unpack(tmp_path, content_of("/usr/sbin/tool"), libc6=LIBC, tool=tool, shared=shared)
    assert "usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-257.so" in names(root)


def test_a_program_that_is_linked_to_nothing_needs_nothing(tmp_path: Path) -> None:
    root = unpack(tmp_path, content_of("/usr/sbin/tool", "/etc/tool.conf"), libc6=LIBC, tool=PLAIN)
    assert names(root) == {"usr/sbin/tool", "etc/tool.conf"} | ALWAYS - {"usr/lib/x86_64-linux-gnu/libc.so.6"}
    assert (root / "etc/tool.conf").read_text() == "[tool]"


PLAIN: Mapping[str, Content] = {"/usr/sbin/tool": elf_file(), "/etc/tool.conf": b"[tool]"}


def test_another_name_of_a_file_brings_its_content(tmp_path: Path) -> None:
    tool: Mapping[str, Content] = {
        "/usr/sbin/first": elf_file("libc.so.6"),
        "/usr/sbin/tool": ArchiveLink("usr/sbin/first", hard=True),
    }
    root = unpack(tmp_path, content_of("/usr/sbin/tool"), libc6=LIBC, tool=tool)
    assert names(root) == {"usr/sbin/tool"} | ALWAYS
    assert (root / "usr/sbin/tool").read_bytes() == elf_file("libc.so.6")


def test_every_link_of_a_chain_stays(tmp_path: Path) -> None:
    chain: Mapping[str, Content] = {
        f"{LIBRARIES}/libtool.so.1": ArchiveLink("libtool.so.1.2"),
        f"{LIBRARIES}/libtool.so.1.2": ArchiveLink("libtool.so.1.2.3"),
        f"{LIBRARIES}/libtool.so.1.2.3": elf_file(),
    }
    root = unpack(tmp_path, content_of("/usr/sbin/tool"), libc6=LIBC, tool=TOOL, libtool1=chain)
    assert (root / "usr/lib/x86_64-linux-gnu/libtool.so.1").exists()


def test_a_program_that_no_package_brings_is_named(tmp_path: Path) -> None:
    content = content_of("/usr/sbin/tool", "/usr/sbin/gone", "/etc/gone.conf")
    with pytest.raises(BuildError, match=r"^no package of the initrd brings /etc/gone\.conf, /usr/sbin/gone$"):
        unpack(tmp_path, content, libc6=LIBC, tool=TOOL, libtool1=LIBTOOL)


def test_a_library_that_no_package_brings_is_named_with_what_needs_it(tmp_path: Path) -> None:
    message = r"brings libtool\.so\.1, which /usr/sbin/tool needs"
    with pytest.raises(BuildError, match=message):
        unpack(tmp_path, content_of("/usr/sbin/tool"), libc6=LIBC, tool=TOOL)


def test_a_library_that_is_loaded_by_name_and_is_in_no_package_is_named(tmp_path: Path) -> None:
    content = content_of("/usr/sbin/tool", libraries=("libgone.so.1",))
    with pytest.raises(BuildError, match=r"brings libgone\.so\.1, which a program loads by name"):
        unpack(tmp_path, content, libc6=LIBC, tool=TOOL, libtool1=LIBTOOL)


@pytest.mark.parametrize("target", ["libtool.so.1.2", "../../../../../outside", "/etc/hostname", "libtool.so.1"])
def test_a_link_that_leads_nowhere_or_outside_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "outside").write_bytes(elf_file())
    wrong = {f"{LIBRARIES}/libtool.so.1": ArchiveLink(target)}
    with pytest.raises(BuildError, match=r"/libtool\.so\.1 of the initrd leads nowhere"):
        unpack(tmp_path, content_of("/usr/sbin/tool"), libc6=LIBC, tool=TOOL, libtool1=wrong)


def test_the_loader_is_not_forgotten(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"/usr/lib64/ld-linux-x86-64\.so\.2 of the initrd leads nowhere"):
        unpack(tmp_path, content_of("/usr/sbin/tool"), tool={"/usr/sbin/tool": elf_file()})


@pytest.mark.parametrize(
    "content",
    [
        b"noise",
        b"",
        deb("tool", "1", TOOL)[:200],
        ar({"debian-binary": b"2.0\n", "control.tar.xz": tar_xz({})}),
        ar({"debian-binary": b"2.0\n", "control.tar.xz": tar_xz({}), "data.tar.xz": b"noise"}),
        ar(
            {"debian-binary": b"2.0\n", "control.tar.xz": tar_xz({}), "data.tar.xz": tar_xz({"./a": b"a" * 9000})[:-40]}
        ),
        ar({"debian-binary": b"2.0\n", "control.tar.xz": tar_xz({}), "data.tar.xz": tar_xz({})}),
    ],
    ids=["noise", "empty", "truncated", "no data", "data is noise", "data is truncated", "no control file"],
)
def test_a_file_that_is_no_debian_package_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(RefusedInputError, match="tool 1 is not a Debian package"):
        unpack(tmp_path, content_of("/usr/sbin/tool"), libc6=LIBC, tool=content)


def test_a_package_that_is_damaged_in_the_middle_is_refused(tmp_path: Path) -> None:
    numbers = "".join(map(str, range(50_000))).encode()
    whole = bytearray(deb("tool", "1", {"/usr/lib/libnumbers.so": numbers, **TOOL}))
    whole[len(whole) // 2] ^= 0xFF
    with pytest.raises(RefusedInputError, match="tool 1 is not a Debian package"):
        unpack(tmp_path, content_of("/usr/sbin/tool"), libc6=LIBC, tool=bytes(whole))


def test_a_name_that_climbs_out_of_the_tree_is_not_unpacked(tmp_path: Path) -> None:
    evil = {**TOOL, "/../evil": b"evil", "/usr/lib/x86_64-linux-gnu/lib/../../../../../evil.so": b"evil"}
    root = unpack(tmp_path, content_of("/usr/sbin/tool"), libc6=LIBC, tool=evil, libtool1=LIBTOOL)
    assert not any(path.name.startswith("evil") for path in tmp_path.rglob("*"))
    assert "usr/sbin/tool" in names(root)


def test_what_was_used_is_recorded_as_dpkg_would(tmp_path: Path) -> None:
    unused = {f"{LIBRARIES}/libmore.so.3": elf_file()}
    unpack(tmp_path, content_of("/usr/sbin/tool"), libmore3=unused, tool=TOOL, libtool1=LIBTOOL, libc6=LIBC)
    record = tmp_path / "record"
    found = read_database(record)
    assert [package.name for package in found] == ["libc6", "libtool1", "tool"]
    # All its paths, as dpkg keeps them, and not only those that are in the initrd.
    assert set(found[2].files) >= {*TOOL, "/usr", "/usr/share/doc/tool"}
    assert found[2].version == "1"
    assert sorted(path.name for path in (record / "info").iterdir()) == ["libc6.list", "libtool1.list", "tool.list"]
    assert {path.name: path.read_text() for path in (record / "copyright").iterdir()} == {
        "libc6": "LGPL",
        "tool": "MIT",
    }


def test_the_record_does_not_depend_on_the_order_of_packages(tmp_path: Path) -> None:
    packages = {"tool": TOOL, "libtool1": LIBTOOL, "libc6": LIBC}
    for place, order in (("one", list(packages)), ("two", list(reversed(packages)))):
        (tmp_path / place).mkdir()
        unpack(tmp_path / place, content_of("/usr/sbin/tool"), **{name: packages[name] for name in order})
    one, two = ((tmp_path / place / "record/status").read_text() for place in ("one", "two"))
    assert one == two
