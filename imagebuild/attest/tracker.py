"""The Debian security tracker's data: which vulnerabilities a source package has in a release, and where it is fixed.

    {source: {CVE: {"description": text, "releases": {"trixie": {"status": "resolved", "fixed_version": "1.2-3",
     "urgency": "low"}}}}}

Rules: only the requested packages are read from the file, and of these only the keys used here; a wrong shape is an
error with its path; unknown keys are ignored, because the tracker sometimes adds some.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import urllib3

from bedrock import strict
from bedrock.errors import DocumentError, Problem
from imagebuild.errors import ImageBuildError

MAX_TRACKER_BYTES = 512 << 20
_TIMEOUT_S = 120
_CHUNK_BYTES = 1 << 20


class TrackerStatus(enum.Enum):
    """What the tracker says of a vulnerability in one release."""

    RESOLVED = "resolved"
    OPEN = "open"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True)
class TrackerEntry:
    """A vulnerability of a source package in one Debian release; `fixed_version` `0` means it never had it."""

    cve: str
    source: str
    release: str
    description: str
    status: TrackerStatus
    fixed_version: str | None
    urgency: str


def load_tracker(place: str, *, most_bytes: int = MAX_TRACKER_BYTES) -> bytes:
    """Read the tracker's file from a path or a http(s) URL; bounded in size and time.

    Raises:
        ImageBuildError: It cannot be read or fetched, or is too large.
    """
    if not place.startswith(("http://", "https://")):
        try:
            return Path(place).read_bytes()
        except OSError as error:
            raise ImageBuildError(f"the tracker's file {place} cannot be read: {error.strerror}") from error
    try:
        answer = urllib3.request("GET", place, timeout=_TIMEOUT_S, retries=2, preload_content=False)
        data = b"".join(_bounded(answer, place, most_bytes))
        answer.close()
    except urllib3.exceptions.HTTPError as error:
        raise ImageBuildError(f"the tracker does not answer: {place}: {error}") from error
    if answer.status != 200:  # noqa: PLR2004 - HTTP OK
        raise ImageBuildError(f"the tracker answered {answer.status} for {place}")
    return data


def parse_tracker(data: bytes, wanted: Iterable[tuple[str, str]], *, source: str) -> tuple[TrackerEntry, ...]:
    """The vulnerabilities of some source packages, each in one Debian release, by package and name.

    Args:
        data: The file.
        wanted: Pairs of source package and release.
        source: What the file is called in messages.

    Raises:
        DocumentError: Not JSON, or another shape; every error is listed.
    """
    document = strict.parse_json(data, source=source)
    if not isinstance(document, Mapping):
        raise DocumentError(source, (Problem("", "must be a mapping of source packages"),))
    reader = _TrackerReader()
    asked = sorted(set(wanted))
    entries = tuple(entry for name, release in asked for entry in reader.package(name, release, document.get(name, {})))
    if reader.problems:
        raise DocumentError(source, tuple(reader.problems))
    return entries


class _TrackerReader:
    """Gathers errors instead of stopping at the first."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def package(self, name: str, release: str, value: object) -> Iterator[TrackerEntry]:
        for cve, item in sorted(self._mapping(name, value).items()):
            path = f"{name}.{cve}"
            row = self._mapping(path, item)
            releases = self._mapping(f"{path}.releases", row.get("releases", {}))
            if release not in releases:
                continue
            path = f"{path}.releases.{release}"
            found = self._mapping(path, releases[release])
            status = self._status(f"{path}.status", found.get("status"))
            fixed = self._text(f"{path}.fixed_version", found.get("fixed_version"))
            urgency = self._text(f"{path}.urgency", found.get("urgency")) or "not yet assigned"
            described = self._text(f"{name}.{cve}.description", row.get("description")) or ""
            if status is TrackerStatus.RESOLVED and fixed is None:
                self.problems.append(Problem(f"{path}.fixed_version", "is missing, though the status is resolved"))
            elif status is not None:
                # The tracker marks an urgency that its own people set with stars.
                yield TrackerEntry(cve, name, release, described, status, fixed, urgency.rstrip("*"))

    def _mapping(self, path: str, value: object) -> Mapping[str, object]:
        if isinstance(value, Mapping):
            return value
        self.problems.append(Problem(path, f"must be a mapping, not {_shown(value)}"))
        return {}

    def _text(self, path: str, value: object) -> str | None:
        if value is not None and not isinstance(value, str):
            self.problems.append(Problem(path, f"must be text, not {_shown(value)}"))
            return None
        return value

    def _status(self, path: str, value: object) -> TrackerStatus | None:
        known = {status.value: status for status in TrackerStatus}
        if isinstance(value, str) and value in known:
            return known[value]
        self.problems.append(Problem(path, f"must be one of {', '.join(known)}, not {_shown(value)}"))
        return None


def _bounded(answer: urllib3.BaseHTTPResponse, place: str, most_bytes: int) -> Iterator[bytes]:
    size = 0
    for chunk in answer.stream(_CHUNK_BYTES):
        size += len(chunk)
        if size > most_bytes:
            raise ImageBuildError(f"the tracker sent more than {most_bytes} bytes for {place}")
        yield chunk


def _shown(value: object) -> str:
    return repr(value)[:60]
