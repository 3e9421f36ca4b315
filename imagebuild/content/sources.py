"""The files that a definition puts into an image, and their source: a key of `image.yaml`, or a file next to it.

Pure but for reading the definition's folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imagebuild.definition.image import ImageDefinition

_LARGEST = 1 << 20


@dataclass(frozen=True)
class DefinitionText:
    """A text of the definition that is a file of the image.

    Attributes:
        path: Where the image has it.
        where: Its source, for messages.
        text: Its content.
    """

    path: str
    where: str
    text: str

    def at(self, line: int | None, message: str) -> str:
        """A message about one of its lines."""
        return f"{self.where}, line {line}: {message}" if line else f"{self.where}: {message}"

    def line_of(self, text: str, section: str | None = None) -> int | None:
        """The line that begins with `text` (in a section, when one is named), counted from 1."""
        current = None
        for number, line in enumerate(self.text.splitlines(), 1):
            stripped = line.strip()
            if stripped.startswith("[") and stripped.endswith("]"):
                current = stripped[1:-1]
            if stripped.startswith(text) and section in (None, current):
                return number
        return None


def sources_of(definition: ImageDefinition, folder: Path) -> tuple[DefinitionText, ...]:
    """The texts that a definition in `folder` puts into its image."""
    return tuple(_sources(definition, folder))


def _sources(definition: ImageDefinition, folder: Path) -> Iterator[DefinitionText]:
    for index, file in enumerate(definition.files):
        if file.source is None:
            yield DefinitionText(file.path.in_image, f"files[{index}].content ({file.path})", file.content or "")
        elif (text := _text(folder / file.source)) is not None:
            yield DefinitionText(file.path.in_image, file.source, text)
    for index, unit in enumerate(definition.units):
        yield DefinitionText(unit.path, f"units[{index}].content ({unit.name})", unit.content)
    extra = folder / "mkosi.extra"
    for path in sorted(extra.rglob("*")):
        if path.is_file() and not path.is_symlink() and (text := _text(path)) is not None:
            yield DefinitionText(f"/{path.relative_to(extra)}", f"mkosi.extra/{path.relative_to(extra)}", text)


def _text(path: Path) -> str | None:
    """A file's text; None when it is none, or longer than a person writes."""
    if path.stat().st_size > _LARGEST:
        return None
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError:
        return None
