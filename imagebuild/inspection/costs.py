"""The costs of parts of a root filesystem: bytes of their files, and bytes as a host downloads them.

Parts are compressed at level 9, one by one: this shows what is large, and adds up to an eighth more than the whole.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bedrock.progress import Progress
from imagebuild.inputs.tools import Access, ToolsTree
from imagebuild.inspection.contents import ImageEntry
from updater.repository.objects import QUICK_LEVEL, packed_bytes

_TIMEOUT_S = 300
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Cost:
    """Bytes of a part of the image: of its files, and compressed."""

    raw_bytes: int
    wire_bytes: int


@contextmanager
def unpacked_root(build: Path, *, tools: ToolsTree) -> Iterator[Path]:
    """A copy of a build's root filesystem in a temporary folder, for as long as the context lasts.

    Raises:
        ProcessError: The root filesystem cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="twinhull-inspect-") as scratch:
        root = Path(scratch) / "root"
        tools.run(
            ["fsck.erofs", f"--extract={root}", "--no-preserve", build / "root.erofs"],
            Access(read=(build,), write=(Path(scratch),)),
            timeout_s=_TIMEOUT_S,
        )
        yield root


def cost_of(root: Path, files: Sequence[ImageEntry], progress: Progress) -> Cost:
    """The cost of some files of the unpacked root at `root` together."""

    def content() -> Iterator[bytes]:
        for entry in files:
            yield from chunks(root / entry.path.lstrip("/"))
            progress.advance(1)

    raw = sum(entry.size_bytes for entry in files)
    return Cost(raw, packed_bytes(content(), size_bytes=raw, level=QUICK_LEVEL))


def chunks(path: Path) -> Iterator[bytes]:
    """The content of a file, a MiB at a time."""
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk
