"""A boot partition whose file system is damaged or gone; the kernel's part of it is played."""

from __future__ import annotations

from pathlib import Path

import pytest

from partitions.loader_conf import LOADER_CONF, SECOND_CONF_BYTES
from tests.fakes.clock import FakeClock
from tests.fakes.fat_image import FatImage
from tests.fakes.programs import write_program
from updater.agent.boot_partition import FatPartition

CONF = b"default host_1.0.0*\n".ljust(SECOND_CONF_BYTES, b"\n")


class Played:
    """A partition that is a file, mounted as a folder, and what was asked of other programs."""

    def __init__(self, folder: Path, image: bytes) -> None:
        self.file = folder / "partition"
        self.file.write_bytes(image)
        self.words = folder / "words"
        self.partition = FatPartition("xbootldr", lambda: self.file, folder / "mounts", FakeClock())
        for name in ("mount", "umount", "sync", "mkfs.fat"):
            fails = f"test -e {folder}/mountable" if name == "mount" else ":"
            write_program(folder / "bin", name, f'echo "{name} $*" >> {self.words}; {fails}')
        (folder / "mountable").touch()
        self.mountable = folder / "mountable"

    def asked(self, name: str) -> list[str]:
        lines = self.words.read_text().splitlines() if self.words.exists() else []
        return [line for line in lines if line.split()[0] == name]


@pytest.fixture
def image() -> FatImage:
    made = FatImage()
    made.folder("loader")
    made.file(LOADER_CONF, CONF)
    return made


def played(folder: Path, image: bytes, monkeypatch: pytest.MonkeyPatch) -> Played:
    monkeypatch.setenv("PATH", f"{folder}/bin:/usr/bin:/bin")
    return Played(folder, image)


def test_the_second_choice_is_replaced_in_one_step(
    tmp_path: Path, image: FatImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = played(tmp_path, bytes(image.build()), monkeypatch)
    other = CONF.replace(b"1.0.0", b"1.0.1")
    assert host.partition.second_choice() == CONF
    host.partition.choose_second(other)
    assert host.partition.second_choice() == other
    assert not host.asked("mount")


@pytest.mark.parametrize(
    "content", [None, b"", CONF[:-1], CONF + b"editor yes\n"], ids=["lost", "empty", "cut", "long"]
)
def test_a_second_choice_of_another_length_is_none_and_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    made = FatImage()
    if content is not None:
        made.folder("loader")
        made.file(LOADER_CONF, content)
    host = played(tmp_path, bytes(made.build()), monkeypatch)
    assert host.partition.second_choice() is None
    host.partition.choose_second(CONF)
    (mounted,) = host.asked("mount")
    assert mounted.split()[1] == "--read-write"
    # What is played mounts nothing, so the file is in the folder itself.
    (written,) = (tmp_path / "mounts").glob(f"*/{LOADER_CONF}")
    assert written.read_bytes() == CONF


def test_a_file_system_is_made_anew_only_when_nobody_finds_one(
    tmp_path: Path, image: FatImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bytes(image.build())
    host = played(tmp_path, whole, monkeypatch)
    assert not host.partition.make_anew()
    host.file.write_bytes(bytes(len(whole)))
    # The kernel reads what our own reader does not.
    assert not host.partition.make_anew()
    assert not host.asked("mkfs.fat")
    host.mountable.unlink()
    assert host.partition.make_anew()
    assert host.asked("mkfs.fat") == [f"mkfs.fat -F 32 -n XBOOTLDR {host.file}"]
    host.file.write_bytes(whole)
    assert not host.partition.make_anew()
