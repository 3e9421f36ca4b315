"""Tools that make an initrd out of files that only look like programs and kernel modules.

Their archives are text, one line for each name, so that a test can read them (`Packed`).
"""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass, field
from pathlib import Path

from bedrock.errors import ProcessError
from bedrock.process import Finished
from tests.fakes.played_tools import Call, PlayedTools

MAGIC = b"zstd"


@dataclass(frozen=True)
class Packed:
    """A name in an archive: its mode and time, and the file's content or where the link leads."""

    mode: int
    time_s: int
    content: str

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def permissions(self) -> int:
        return stat.S_IMODE(self.mode)


def read_archive(data: bytes) -> dict[str, Packed]:
    """What is in an archive that `InitrdTools` made, in its order."""
    rows = json.loads(data.removeprefix(MAGIC).rstrip(b"\0"))
    return {name: Packed(*row) for name, row in rows.items()}


@dataclass(frozen=True)
class InitrdTools(PlayedTools):
    """depmod, cpio and zstd.

    Attributes:
        fails: The program that fails.
    """

    fails: list[str] = field(default_factory=list)

    def play(self, call: Call) -> Finished:
        words = call.words
        if words[0] in self.fails:
            raise ProcessError(f"{words[0]} failed", returncode=1)
        match words[0]:
            case "depmod":
                _depmod(words)
            case "sh":
                assert call.cwd is not None
                _cpio(call.cwd, Path(words[-2]), Path(words[-1]))
            case "zstd":
                Path(words[-2]).write_bytes(MAGIC + Path(words[-1]).read_bytes())
            case other:
                raise AssertionError(other)
        return call.end()

    def programs_run(self) -> list[str]:
        """The names of what ran."""
        return [words[0] for words in self.ran]


def _depmod(words: list[str]) -> None:
    base, kernel = Path(words[1].removeprefix("--basedir=")), words[2]
    # It looks nowhere else.
    folder = base / "lib/modules" / kernel
    assert (folder / "modules.order").is_file()
    found = sorted(path.relative_to(folder) for path in folder.rglob("*.ko*"))
    for name in ("alias", "alias.bin", "builtin.bin", "dep", "dep.bin", "devname", "softdep", "symbols"):
        (folder / f"modules.{name}").write_text("".join(f"{path}:\n" for path in found))


def _cpio(root: Path, listing: Path, archive: Path) -> None:
    rows: dict[str, tuple[int, int, str]] = {}
    for name in filter(None, listing.read_text().split("\0")):
        path = root / name
        told = path.lstat()
        content = (
            str(path.readlink()) if path.is_symlink() else "" if path.is_dir() else path.read_text(errors="replace")
        )
        rows[name] = (told.st_mode, int(told.st_mtime), content)
    archive.write_text(json.dumps(rows))
