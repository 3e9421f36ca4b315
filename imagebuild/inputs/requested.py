"""The packages an image requests, as mkosi itself reads its configuration.

A definition's own `mkosi.conf` may add packages, with all of mkosi's includes and conditions, so mkosi is asked; and in
the same breath, whether these files set what a build does not take from there.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedrock.errors import DocumentError, Problem, ProcessError
from imagebuild.definition.config import asking_config
from imagebuild.definition.image import BuildProfile, ImageDefinition
from imagebuild.definition.initrd import load_content
from imagebuild.definition.mkosi import refused_settings
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
        DocumentError: That configuration sets what a build does not take from there.
    """
    # mkosi's sandbox takes absolute paths only.
    folder = folder.absolute()
    merged = folder if any(folder.glob("mkosi.*")) else None
    base = (DATA / "image.conf").read_text()
    local = local_names(folder, definition.local_packages)
    texts = {each: asking_config(definition, base=base, local=local, profile=each, merged=merged) for each in _PROFILES}
    alone = asking_config(definition, base=base, local=local) if merged else texts[None]
    # A profile may add nothing; mkosi needs half a second to answer.
    different = list(dict.fromkeys((*texts.values(), alone)))
    with ThreadPoolExecutor(len(different)) as workers:
        found = dict(zip(different, workers.map(lambda text: _settings(text, tools, folder), different), strict=True))
    _require_honoured(folder, found[alone], found[texts[None]])
    return RequestedPackages({each: _packages(found[text]) for each, text in texts.items()}, load_content().packages)


def _require_honoured(folder: Path, without: Mapping[str, Any], having: Mapping[str, Any]) -> None:
    """Refuse what the definition's own mkosi files set and a build does not take from there."""
    files = [path for path in map(Path, having.get("Files") or ()) if path.is_relative_to(folder)]
    problems = []
    for problem in refused_settings(without, having):
        names = (str(path.relative_to(folder)) for path in files if _names(path, problem.path))
        problems.append(Problem(f"{next(names, 'mkosi.*')}: {problem.path}", problem.message))
    if problems:
        raise DocumentError(str(folder), tuple(problems))


def _names(file: Path, setting: str) -> bool:
    """Whether a file of mkosi's makes a setting."""
    return any(line.partition("=")[0].strip().removeprefix("@") == setting for line in file.read_text().splitlines())


def _packages(settings: Mapping[str, Any]) -> tuple[str, ...]:
    # The archive that is installed from holds one version of each package, so no suite needs to be chosen there.
    return tuple(sorted({name for key in _LISTS for name in settings.get(key) or ()}))


def _settings(text: str, tools: ToolsTree, folder: Path) -> dict[str, Any]:
    """Every setting of mkosi by name, as a configuration of this text comes to."""
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
    settings: dict[str, Any] = json.loads(done.stdout)["Images"][-1]
    return settings
