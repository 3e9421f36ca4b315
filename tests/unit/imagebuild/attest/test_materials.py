from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from imagebuild.attest.licences import NO_FILE, Licences
from imagebuild.attest.materials import InstalledTree, ReleasePart, merge, read_wheel
from imagebuild.attest.owners import interpreter_owners, owners_of, wheel_is_shipped
from imagebuild.errors import BuildError
from imagebuild.steps.dpkg import InstalledPackage

AGENT = (
    "/usr/lib/twinhull/bin/python3",
    "/usr/lib/twinhull/lib/python3.13/json/__init__.pyc",
    "/usr/lib/twinhull/app/tuf/api/metadata.pyc",
)


def package(name: str, *files: str, version: str = "1") -> InstalledPackage:
    return InstalledPackage(
        name=name,
        version=version,
        architecture="amd64",
        source=name,
        source_version=version,
        section="",
        summary="",
        essential=False,
        depends=(),
        provides=(),
        files=files,
    )


def wheel(path: Path, **members: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_owners_are_found_in_a_merged_tree_and_of_unpacked_modules() -> None:
    installed = (
        package("kmod", "/sbin/modprobe"),
        package("linux-image-6.12", "/boot/vmlinuz-6.12", "/lib/modules/6.12/kernel/erofs.ko.xz"),
        package("docs", "/usr/share/doc/x"),
    )
    assert owners_of(("/usr/sbin/modprobe",), installed) == {"kmod"}
    assert owners_of(("/usr/lib/modules/6.12/kernel/erofs.ko",), installed) == {"linux-image-6.12"}
    assert owners_of((), installed) == frozenset()


def test_the_interpreter_s_packages_are_those_copied_from() -> None:
    installed = (
        package("python3.13-minimal", "/usr/bin/python3.13"),
        package("libpython3.13-minimal", "/usr/lib/python3.13/json/__init__.py"),
        package("libpython3.13-stdlib", "/usr/lib/python3.13/turtle.py"),
        package("libc6", "/usr/lib/x86_64-linux-gnu/libc.so.6"),
    )
    assert interpreter_owners(AGENT, installed) == {"python3.13-minimal", "libpython3.13-minimal"}


def test_what_the_agent_borrows_from_debian_is_debian_s_and_a_wheel_of_the_same_name_is_not() -> None:
    folder = "/usr/lib/python3/dist-packages"
    installed = (
        package("python3-cryptography", f"{folder}/cryptography/utils.py", f"{folder}/cryptography/x509.py"),
        package("python3-cffi-backend", f"{folder}/_cffi_backend.cpython-313-x86_64-linux-gnu.so"),
        package("python3-yaml", f"{folder}/yaml/loader.py"),
    )
    code = "/usr/lib/twinhull/app"
    agent = (f"{code}/cryptography/utils.pyc", f"{code}/yaml/loader.pyc")
    assert interpreter_owners(agent, installed) == {"python3-cryptography"}
    extension = f"{code}/_cffi_backend.cpython-313-x86_64-linux-gnu.so"
    assert interpreter_owners((extension,), installed) == {"python3-cffi-backend"}


def test_a_wheel_is_shipped_when_something_of_it_is_left() -> None:
    assert wheel_is_shipped(("tuf/api/metadata.py", "tuf/repository/x.py"), AGENT)
    assert not wheel_is_shipped(("pycparser/lextab.py",), AGENT)


def test_a_package_of_several_trees_is_one_with_all_its_parts(tmp_path: Path) -> None:
    installed = (package("libc6"), package("perl"))
    image = InstalledTree(installed, tmp_path, "trixie", {ReleasePart.ROOT: frozenset({"libc6"})})
    initrd = InstalledTree((package("libc6"),), tmp_path, "trixie", {ReleasePart.INITRD: frozenset({"libc6"})})
    tools = (package("systemd-boot-efi"), package("gcc"))
    loader = InstalledTree(
        tools, tmp_path, "trixie", {ReleasePart.LOADER: frozenset({"systemd-boot-efi"})}, nested=True
    )
    found = {each.id.name: each for each in merge((image, initrd, loader), {})}
    assert found["libc6"].parts == (ReleasePart.ROOT, ReleasePart.INITRD)
    assert found["perl"].parts == ()
    assert found["systemd-boot-efi"].parts == (ReleasePart.LOADER,)
    assert found["libc6"].licences == Licences(unknown=NO_FILE)
    assert "gcc" not in found


def test_two_versions_of_a_package_are_two(tmp_path: Path) -> None:
    trees = [InstalledTree((package("libc6", version=version),), tmp_path, "trixie", {}) for version in "12"]
    assert [each.id.version for each in merge(trees, {})] == ["1", "2"]


def test_a_wheel_says_what_it_is(tmp_path: Path) -> None:
    metadata = "Name: tuf\nVersion: 7.0.1\nSummary: updates\nLicense-Expression: MIT\n"
    path = wheel(tmp_path / "tuf.whl", **{"tuf/api/metadata.py": "", "tuf-7.0.1.dist-info/METADATA": metadata})
    found = read_wheel(path, AGENT)
    assert (found.name, found.version, found.licences.expression, found.shipped) == ("tuf", "7.0.1", "MIT", True)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_no_wheel_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.whl").write_bytes(b"no zip")
    with pytest.raises(BuildError, match=r"bad\.whl cannot be read as a wheel"):
        read_wheel(tmp_path / "bad.whl", AGENT)
    with pytest.raises(BuildError, match="METADATA"):
        read_wheel(wheel(tmp_path / "bare.whl", a=""), AGENT)
