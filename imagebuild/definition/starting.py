"""A new image definition to start from: `data/image.yaml` with its own id, and its schema for editors.

`twinhull schema image` prints the same schema, for a definition that was started by an older Twinhull.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bedrock import strict
from bedrock.errors import DocumentError
from imagebuild.definition.image import FILE_NAME, SCHEMA_FILE
from imagebuild.definition.schemas import image_schema
from imagebuild.errors import BuildError
from imagebuild.paths import DATA
from updater.documents.release import Name

_PLACEHOLDER = "id: my-host"


@dataclass(frozen=True)
class _Named:
    id: Name


def image_id(folder: Path) -> str:
    """The id of a definition in this folder: the folder's name, with a hyphen for each character an id cannot hold.

    Raises:
        BuildError: The name gives no valid id.
    """
    name = folder.absolute().resolve().name
    made = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    try:
        return strict.read(_Named, {"id": made}, source=str(folder)).id
    except DocumentError as error:
        message = f"the folder's name {name!r} gives no image id: {error.problems[0].message}"
        raise BuildError(message).with_hint("name the folder after the image, such as my-host, or give --id") from error


def write_starting_definition(folder: Path, *, chosen_id: str | None) -> Path:
    """Write a commented `image.yaml` and its schema to the disk; the path of the former.

    Raises:
        BuildError: There is one already, or the folder's name gives no valid id.
        DocumentError: `chosen_id` is not an id.
    """
    path = folder / FILE_NAME
    if path.exists():
        raise BuildError(f"{path} exists and was not changed").with_hint("choose a folder without image.yaml")
    chosen = image_id(folder) if chosen_id is None else strict.read(_Named, {"id": chosen_id}, source="--id").id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SCHEMA_FILE).write_bytes(strict.dump_json(image_schema()))
    path.write_text((DATA / FILE_NAME).read_text().replace(_PLACEHOLDER, f"id: {chosen}", 1))
    return path
