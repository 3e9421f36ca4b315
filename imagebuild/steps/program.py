"""The files of Twinhull that decide the bytes of an image.

These are all modules that imports reach from the build's entry or the agent's, and the data that they read; so a change
of the server does not change a build's identity, and a change of the signer does.
This list names a build (`plan.py`), goes into its provenance, and decides whether a release can be reproduced here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bedrock.digest import files_below, files_sha256
from imagebuild.errors import BuildError
from imagebuild.paths import DATA, SOURCE_ROOT
from imagebuild.steps import freeze
from imagebuild.steps.agent_program import LAUNCHERS

BUILD_ENTRY: Final = "imagebuild.pipeline.build"
# Reached, but without influence on the bytes: a budget lets a build pass or fails it.
_WITHOUT: Final = ("imagebuild.pipeline.budget", "imagebuild.pipeline.budget_watch")
# Data of other commands: `twinhull init` and `twinhull trim`.
_OTHER_DATA: Final = frozenset(("image.yaml", "keep.yaml"))


def program_files(source_root: Path = SOURCE_ROOT) -> dict[str, Path]:
    """The files that decide an image's bytes, by their paths below `source_root`.

    Raises:
        BuildError: An entry is not there.
    """
    entries = (BUILD_ENTRY, *LAUNCHERS.values())
    found = freeze.closure(entries, (source_root,), _WITHOUT)
    if missing := [entry for entry in entries if entry not in found]:
        raise BuildError(f"{source_root} holds no {' and no '.join(missing)}")
    files = {path.relative_to(source_root).as_posix(): path for path in found.values()}
    data = source_root / DATA.relative_to(SOURCE_ROOT)
    below = {name: path for name, path in files_below(data).items() if name not in _OTHER_DATA}
    return files | {(data.relative_to(source_root) / name).as_posix(): path for name, path in below.items()}


def program_sha256(source_root: Path = SOURCE_ROOT) -> str:
    """SHA-256 over the files that decide an image's bytes."""
    return files_sha256(program_files(source_root))
