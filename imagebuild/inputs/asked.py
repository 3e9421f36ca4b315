"""The packages an image asks for, as mkosi itself reads its configuration.

A definition's own `mkosi.conf` may add packages, with all of mkosi's includes and conditions, so mkosi is asked.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bedrock.errors import ProcessError
from imagebuild.config import asking_config
from imagebuild.definition import BuildProfile, ImageDefinition
from imagebuild.errors import BuildError
from imagebuild.tools import Access, ToolsTree

DATA = Path(__file__).parent.parent / "data"
_TIMEOUT_S = 120
_LISTS = ("Packages", "BuildPackages", "VolatilePackages")


@dataclass(frozen=True)
class Asked:
    """What the root filesystem and the initrd ask for, by name, sorted."""

    root: tuple[str, ...]
    initrd: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """Both as one list, to compare."""
        return tuple(f"root: {name}" for name in self.root) + tuple(f"initrd: {name}" for name in self.initrd)


def asked_packages(
    folder: Path, definition: ImageDefinition, profile: BuildProfile | None, *, tools: ToolsTree
) -> Asked:
    """Ask mkosi what the definition in `folder` installs.

    Raises:
        BuildError: mkosi does not accept the definition's own configuration.
    """
    # mkosi's sandbox is told absolute paths only.
    folder = folder.absolute()
    merged = folder if any(folder.glob("mkosi.*")) else None
    root = asking_config(definition, base=(DATA / "image.conf").read_text(), profile=profile, merged=merged)
    initrd = asking_config(definition, base=(DATA / "initrd.conf").read_text(), initrd=True)
    return Asked(_packages(root, tools, folder), _packages(initrd, tools, folder))


def _packages(text: str, tools: ToolsTree, folder: Path) -> tuple[str, ...]:
    with tempfile.TemporaryDirectory(prefix="twinhull-asked-") as scratch:
        place = Path(scratch)
        (place / "mkosi.conf").write_text(text)
        try:
            done = tools.run(
                ["mkosi", "--directory", place, "--json", "summary"],
                Access(read=(place, folder)),
                timeout_s=_TIMEOUT_S,
                cwd=place,
            )
        except ProcessError as error:
            message = f"mkosi does not accept the configuration beside {folder / 'image.yaml'}\n{error.tail}"
            raise BuildError(message) from error
    image = json.loads(done.stdout)["Images"][-1]
    # The archive that is installed from holds one version of each package, so no suite needs to be chosen there.
    return tuple(sorted({name for key in _LISTS for name in image.get(key) or ()}))
