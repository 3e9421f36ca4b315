"""Explains a failed step to the author of the image definition, from the step's log.

Pure: text in, one error out.  Known causes in the definition, a mirror or a disk are named in one line; for everything
else the last lines of the log are shown.
"""

from __future__ import annotations

import re

from bedrock.errors import ProcessError
from imagebuild.errors import BuildError, ImageBuildError, MirrorError, SpaceError

_SHOWN_LINES = 10
_LINE_WIDTH = 200
# The usual output of Debian's maintainer scripts, and mkosi's repetition of the failed command.
_NOISE = re.compile(
    r"\s*$|update-alternatives: (using|warning:)|(Setting up|Processing triggers|Unpacking|Selecting) |‣ \""
)
_NO_PACKAGE = re.compile(r"^E: (?:Unable to locate package |Package ')(?P<name>[^\s']+)", re.MULTILINE)
_UNMET = re.compile(r"^ (?P<line>\S+ : (?:Depends|PreDepends|Conflicts|Breaks): .*)$", re.MULTILINE)
_NOT_FETCHED = re.compile(r"^E: Failed to fetch (?P<url>\S+)\s+(?P<reason>.*)$", re.MULTILINE)
_NOT_SIGNED = re.compile(
    r"^[EW]: .*(?:The repository '(?P<url>[^']+)' is not signed|GPG error: (?P<other>.*))", re.MULTILINE
)
_KERNELS = re.compile(r"the image must hold exactly one kernel, found: (?P<found>.*)")


def explain(what: str, failure: ProcessError) -> ImageBuildError:
    """The error for a failed program; its message begins with `what`."""
    for find in (_full_disk, _missing_packages, _unmet_dependencies, _unsigned, _not_fetched, _kernels):
        cause = find(failure.tail)
        if cause is not None:
            error = type(cause)(f"{what}: {cause}")
            for hint in cause.hints:
                error.add_note(hint)
            return error
    return BuildError("\n".join((f"{what}: {str(failure).splitlines()[0]}", *last_words(failure.tail))))


def last_words(log: str) -> tuple[str, ...]:
    """The last lines without the usual noise, cut to a readable width."""
    lines = [line for line in log.splitlines() if not _NOISE.match(line)][-_SHOWN_LINES:]
    return tuple(line if len(line) <= _LINE_WIDTH else f"{line[:_LINE_WIDTH]}…" for line in lines)


def _hinted(error: ImageBuildError, hint: str) -> ImageBuildError:
    error.add_note(hint)
    return error


def _full_disk(log: str) -> ImageBuildError | None:
    if "No space left on device" not in log:
        return None
    return _hinted(SpaceError("the disk is full"), "free some space, or choose another --out or XDG_CACHE_HOME")


def _missing_packages(log: str) -> ImageBuildError | None:
    names = dict.fromkeys(match["name"] for match in _NO_PACKAGE.finditer(log))
    if not names:
        return None
    word = "package" if len(names) == 1 else "packages"
    error = BuildError(f"the mirror has no {word} {', '.join(names)}")
    return _hinted(error, "look at packages: and kernel: in image.yaml, and at the release they are to come from")


def _unmet_dependencies(log: str) -> ImageBuildError | None:
    lines = list(dict.fromkeys(match["line"] for match in _UNMET.finditer(log)))
    if not lines:
        return None
    return BuildError("\n".join(("the packages cannot be installed together", *lines[:_SHOWN_LINES])))


def _unsigned(log: str) -> ImageBuildError | None:
    match = _NOT_SIGNED.search(log)
    if match is None:
        return None
    error = MirrorError(f"the mirror is not signed by Debian: {match['url'] or match['other']}")
    return _hinted(error, "is it a complete and current mirror of Debian?")


def _not_fetched(log: str) -> ImageBuildError | None:
    match = _NOT_FETCHED.search(log)
    if match is None:
        return None
    return MirrorError(f"the mirror did not give {match['url']}: {match['reason'].strip()}")


def _kernels(log: str) -> ImageBuildError | None:
    match = _KERNELS.search(log)
    if match is None:
        return None
    found = "none" if "*" in match["found"] else match["found"]
    error = BuildError(f"the image must hold exactly one kernel, found: {found}")
    return _hinted(error, "kernel: in image.yaml names the package that brings it")
