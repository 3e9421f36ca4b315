"""The packages an image asks for, as mkosi itself reads its configuration.

A definition's own `mkosi.conf` may add packages, with all of mkosi's includes and conditions, so mkosi is asked.
"""

from __future__ import annotations

import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bedrock.errors import ProcessError
from imagebuild.definition.config import asking_config
from imagebuild.definition.image import BuildProfile, ImageDefinition
from imagebuild.definition.initrd import load_content
from imagebuild.errors import BuildError
from imagebuild.inputs.deb import local_names
from imagebuild.inputs.tools import Access, ToolsTree
from imagebuild.paths import DATA

_TIMEOUT_S = 120
_LISTS = ("Packages", "BuildPackages", "VolatilePackages")
_PROFILES = (None, *BuildProfile)


@dataclass(frozen=True)
class RequestedPackages:
    """What the root filesystem asks for, by profile, and what the initrd is put together from; names, sorted."""

    root: dict[BuildProfile | None, tuple[str, ...]]
    initrd: tuple[str, ...]

    @property
    def lists(self) -> tuple[tuple[str, ...], ...]:
        """Each list of names that must be installable by itself, once."""
        return tuple(dict.fromkeys((*self.root.values(), self.initrd)))

    @property
    def lines(self) -> tuple[str, ...]:
        """All of it as one list, to compare."""
        root = {f"root: {name}" for names in self.root.values() for name in names}
        return tuple(sorted(root | {f"initrd: {name}" for name in self.initrd}))


def asked_packages(folder: Path, definition: ImageDefinition, *, tools: ToolsTree) -> RequestedPackages:
    """Ask mkosi what the definition in `folder` installs, with each profile.

    Raises:
        BuildError: mkosi does not accept the definition's own configuration.
    """
    # mkosi's sandbox takes absolute paths only.
    folder = folder.absolute()
    merged = folder if any(folder.glob("mkosi.*")) else None
    base = (DATA / "image.conf").read_text()
    local = local_names(folder, definition.local_packages)
    texts = {each: asking_config(definition, base=base, local=local, profile=each, merged=merged) for each in _PROFILES}
    # A profile may add nothing; mkosi needs half a second to answer.
    different = list(dict.fromkeys(texts.values()))
    with ThreadPoolExecutor(len(different)) as workers:
        names = dict(zip(different, workers.map(lambda text: _packages(text, tools, folder), different), strict=True))
    return RequestedPackages({each: names[text] for each, text in texts.items()}, load_content().packages)


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
            message = f"mkosi does not accept the configuration next to {folder / 'image.yaml'}\n{error.tail}"
            raise BuildError(message) from error
    image = json.loads(done.stdout)["Images"][-1]
    # The archive that is installed from holds one version of each package, so no suite needs to be chosen there.
    return tuple(sorted({name for key in _LISTS for name in image.get(key) or ()}))
