"""Of three copies of the boot loader, the one that differs is written again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from partitions.loader_conf import LOADER_CONF, first_conf
from updater.agent.loaders import ON_BOOT, ON_ESP, keep_first_conf, keep_loaders

GOOD = b"MZ loader"


class Partitions:
    """The files of both partitions, and how often each was opened for writing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: list[str] = []
        for where, paths in (("esp", ON_ESP), ("xbootldr", ON_BOOT)):
            for path in paths:
                self.file(where, path).parent.mkdir(parents=True, exist_ok=True)
                self.file(where, path).write_bytes(GOOD)

    def file(self, where: str, path: str) -> Path:
        return self.folder / where / path

    @contextmanager
    def esp(self, *, writable: bool) -> Iterator[Path]:
        self.written += ["esp"] * writable
        yield self.folder / "esp"

    @contextmanager
    def boot(self, *, writable: bool) -> Iterator[Path]:
        self.written += ["xbootldr"] * writable
        yield self.folder / "xbootldr"

    def keep(self) -> tuple[str, ...]:
        return keep_loaders(self.esp, self.boot)

    @property
    def whole(self) -> bool:
        places = [("esp", path) for path in ON_ESP] + [("xbootldr", path) for path in ON_BOOT]
        return all(self.file(*place).read_bytes() == GOOD for place in places)


@pytest.fixture
def parts(tmp_path: Path) -> Partitions:
    return Partitions(tmp_path)


def test_copies_that_agree_are_left_alone(parts: Partitions) -> None:
    assert parts.keep() == ()
    assert not parts.written


@pytest.mark.parametrize("damage", [b"MZ loadex", b"", None, b"x" * (5 << 20)])
@pytest.mark.parametrize(("where", "path"), [("esp", ON_ESP[0]), ("esp", ON_ESP[1]), ("xbootldr", ON_BOOT[0])])
def test_the_one_that_differs_is_restored(parts: Partitions, where: str, path: str, damage: bytes | None) -> None:
    if damage is None:
        parts.file(where, path).unlink()
    else:
        parts.file(where, path).write_bytes(damage)
    (line,) = parts.keep()
    assert f"{path} on {where} was damaged and is restored" in line
    assert parts.whole
    assert parts.written == [where]
    assert parts.keep() == ()


def test_copies_that_all_differ_are_told_and_not_guessed(parts: Partitions) -> None:
    for number, path in enumerate(ON_ESP):
        parts.file("esp", path).write_bytes(b"%d" % number)
    (line,) = parts.keep()
    assert "differ" in line
    assert not parts.written


def test_the_only_one_left_fills_the_places_where_there_is_none(parts: Partitions) -> None:
    for path in ON_ESP:
        parts.file("esp", path).unlink()
    assert len(parts.keep()) == len(ON_ESP)
    assert parts.whole
    assert parts.written == ["esp", "esp"]


@pytest.mark.parametrize("found", [None, b"", b"timeout 10\neditor yes\n"])
def test_settings_of_the_first_loader_are_the_images(parts: Partitions, found: bytes | None) -> None:
    path = parts.file("esp", LOADER_CONF)
    if found is not None:
        path.parent.mkdir()
        path.write_bytes(found)
    assert keep_first_conf(parts.esp) == ("loader/loader.conf on esp was not the image's and is restored",)
    assert path.read_text() == first_conf()
    assert keep_first_conf(parts.esp) == ()
    assert parts.written == ["esp"]
