"""Which packages brought the files of an image, according to the file lists of dpkg and of wheels.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from imagebuild.steps.agent_program import BORROWED, HOME, PACKAGES_FOLDER
from imagebuild.steps.dpkg import InstalledPackage
from imagebuild.steps.leave_out.patterns import merged

_INTERPRETER = f"/{HOME}/bin/python3"
_LIBRARY = f"/{HOME}/lib/"
_CODE = f"/{HOME}/app/"


def owners_of(paths: Iterable[str], installed: Iterable[InstalledPackage]) -> frozenset[str]:
    """The packages that brought at least one of these absolute paths; kernel modules may have been unpacked since."""
    wanted = {merged(path) for path in paths}
    wanted |= {f"{path}.xz" for path in wanted if path.endswith(".ko")}
    return frozenset(package.name for package in installed if any(merged(path) in wanted for path in package.files))


def interpreter_owners(agent: Iterable[str], installed: Iterable[InstalledPackage]) -> frozenset[str]:
    """The tools tree's packages that the agent's interpreter, standard library and `BORROWED` were copied from.

    Args:
        agent: Absolute paths of the agent's files in the image.
        installed: The packages of the tools tree.
    """
    copied = {_stem(f"/usr/lib/{path.removeprefix(_LIBRARY)}") for path in agent if path.startswith(_LIBRARY)}
    copied |= {_stem(f"/{PACKAGES_FOLDER}/{name}") for name in map(_in_code, agent) if _top(name) in BORROWED}
    program = "/usr/bin/python3.13" if _INTERPRETER in agent else None
    return frozenset(
        package.name
        for package in installed
        if any(
            path == program or (path.startswith("/usr/lib/python3") and _stem(path) in copied) for path in package.files
        )
    )


def wheel_is_shipped(members: Iterable[str], agent: Iterable[str]) -> bool:
    """Whether the agent holds something of a wheel: sources are shipped as byte code."""
    shipped = {_stem(path.removeprefix(_CODE)) for path in agent if path.startswith(_CODE)}
    return any(_stem(member) in shipped for member in members)


def _in_code(path: str) -> str:
    return path.removeprefix(_CODE) if path.startswith(_CODE) else ""


def _top(name: str) -> str:
    return name.partition("/")[0].partition(".")[0]


def _stem(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))
