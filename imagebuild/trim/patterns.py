"""The patterns for paths and kernel modules in `image.yaml` and in the keep-list.

A path may hold `*` for any part of one name (`**` means the same).  Kept paths keep everything below them.
A module's place is relative to `kernel/`: a folder with `/` at its end, or a file that ends in `.ko`.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath

from imagebuild.definition.config import module_expression

_MODULE = re.compile(r"/usr/lib/modules/[^/]+/kernel/(?P<place>.+\.ko)")
# Characters that mkosi's configuration cannot hold or that are special in a glob (definition.DropPath).
_UNCARRIED = re.compile(r"[\s#,:%\"'\\\[\]*?]")


def module_place(path: str) -> str | None:
    """A kernel module's place below `kernel/`; None for all other files."""
    match = _MODULE.fullmatch(path)
    return match["place"] if match else None


def module_name(place: str) -> str:
    """The name the kernel gives a module: `drivers/md/dm-verity.ko` is `dm_verity`."""
    return PurePosixPath(place).name.removesuffix(".ko").replace("-", "_")


def path_keeper(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a path is one of these, or is below one."""
    parts = [re.escape(pattern.rstrip("/")).replace(r"\*", "[^/]*") for pattern in patterns]
    if not parts:
        return lambda _: False
    expression = re.compile(f"({'|'.join(parts)})(/.*)?", re.DOTALL)
    return lambda path: expression.fullmatch(path) is not None


def module_keeper(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a module's place is one of these, or is below one."""
    parts = [module_expression(pattern) for pattern in patterns]
    if not parts:
        return lambda _: False
    expression = re.compile("|".join(parts))
    return lambda place: expression.search(place) is not None


def drop_line(path: str) -> str:
    """A path as a line of `drop:`: a character that such a line cannot hold becomes `?`, which stands for any one."""
    return _UNCARRIED.sub("?", path)


def matched_by(line: str, paths: Iterable[str]) -> Iterator[str]:
    """The paths that a line of `drop:` removes: those it matches, and everything below them."""
    words = re.escape(line).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
    expression = re.compile(f"{words}(/.*)?", re.DOTALL)
    return (path for path in paths if expression.fullmatch(path))
