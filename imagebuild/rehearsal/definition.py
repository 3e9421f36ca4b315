"""The copy of a definition that is rehearsed: changed, and open to the shell at every boot."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from imagebuild.definition.image import FILE_NAME


def copy_definition(source: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Copy the definition in `source` to `folder`, replacing what is there (writes to the disk).

    Args:
        source: The definition.
        folder: Where the copy is put.
        change: Changes what `image.yaml` says, read as plain values.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    path = folder / FILE_NAME
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    # The rehearsal's shell comes with every boot as an unsigned credential.
    document["provision"] = {**(document.get("provision") or {}), "unsigned": "always"}
    change(document)
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return folder
