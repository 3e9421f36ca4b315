"""The repository's files over HTTP.

Rules: it serves only names that a repository can hold and only regular files inside it, so no path leads out; files
other than `timestamp.json` never change under their names and may be cached for ever.
Ranges are starlette's `FileResponse`, given only those that RFC 9110 does not ignore; entity tags are strong: the
digest in the name, or of the content.
Source: RFC 9110 (ranges, conditions), RFC 9111 and RFC 8246 (caching, `immutable`), TUF specification 6.2 (names).
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from bedrock.digest import bytes_sha256
from updater.server.ranges import RangeVerdict, judge_range

FOR_EVER = "public, max-age=31536000, immutable"
ALWAYS_ASK = "no-cache"
JSON = "application/json"
BINARY = "application/octet-stream"

_PART = r"[0-9A-Za-z][0-9A-Za-z.~^_-]*"
_OBJECT = re.compile(r"objects/([0-9a-f]{2})/(\1[0-9a-f]{62})")
_TARGET = re.compile(rf"targets/(?:{_PART}/){{1,8}}([0-9a-f]{{64}})\.{_PART}\.json")
_VERSIONED = re.compile(r"metadata/[1-9][0-9]{0,9}\.[a-z]+\.json")
_TIMESTAMP = "metadata/timestamp.json"


@dataclass(frozen=True)
class Servable:
    """A file and how it is served; `digest` is None where the content has to be hashed."""

    media_type: str
    cache_control: str
    digest: str | None


class WideFileResponse(FileResponse):
    """Reads larger pieces than the default 64 KiB, because each one costs a thread switch, and holds two at most."""

    chunk_size = 128 * 1024


def file_routes(repository: Path) -> list[Route]:
    """Routes for the three folders of a repository."""

    async def endpoint(request: Request) -> Response:
        return await _answer(repository, request)

    return [
        Route(f"/{folder}/{{rest:path}}", endpoint, methods=["GET"]) for folder in ("metadata", "targets", "objects")
    ]


def servable(path: str) -> Servable | None:
    """The file at a path below the repository's base; None for paths that are not served.  Pure."""
    if path == _TIMESTAMP:
        return Servable(JSON, ALWAYS_ASK, None)
    if _VERSIONED.fullmatch(path):
        return Servable(JSON, FOR_EVER, None)
    if match := _OBJECT.fullmatch(path):
        return Servable(BINARY, FOR_EVER, match[2])
    if match := _TARGET.fullmatch(path):
        return Servable(JSON, FOR_EVER, match[1])
    return None


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether a client already has the content of `etag` (weak comparison, as RFC 9110 13.1.2 requires).  Pure."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags


async def _answer(repository: Path, request: Request) -> Response:
    path = str(request.scope["path"]).removeprefix("/")
    found = servable(path)
    if found is None:
        raise HTTPException(status_code=404)
    file = await to_thread.run_sync(_inside, repository, path)
    if found.digest is None:
        return await _metadata(file, found, request)
    headers = _headers(found, found.digest)
    _refuse_unmatched(request, headers["etag"])
    if matches(_listed(request, "if-none-match"), headers["etag"]):
        return Response(status_code=304, headers=headers)
    await to_thread.run_sync(_settle_range, request, file, headers["etag"])
    return WideFileResponse(file, headers=headers, media_type=found.media_type)


def _settle_range(request: Request, file: Path, etag: str) -> None:
    """Take away a range that is to be ignored.

    Raises:
        HTTPException: 416, when it lies beyond the end of the file; 404, when that is gone.
    """
    asked = request.headers.get("range")
    if asked is None:
        return
    try:
        size_bytes = file.stat().st_size
    except OSError as error:
        raise HTTPException(status_code=404) from error
    # Nothing but GET has ranges (RFC 9110 14.2), and another content has all of its own.
    counts = request.method == "GET" and request.headers.get("if-range", etag) == etag
    verdict = judge_range(asked, size_bytes) if counts else RangeVerdict.IGNORED
    if verdict is RangeVerdict.BEYOND:
        raise HTTPException(status_code=416, headers={"content-range": f"bytes */{size_bytes}"})
    if verdict is RangeVerdict.IGNORED:
        request.scope["headers"] = [each for each in request.scope["headers"] if each[0] != b"range"]


def _listed(request: Request, name: str) -> str | None:
    """A header that is a list, which may come in several lines."""
    return ", ".join(request.headers.getlist(name)) or None


def _refuse_unmatched(request: Request, etag: str) -> None:
    """Refuse a request for a content that this is not (strong comparison, RFC 9110 13.1.1).

    Raises:
        HTTPException: 412.
    """
    wanted = _listed(request, "if-match")
    if wanted is not None and not {"*", etag} & {tag.strip() for tag in wanted.split(",")}:
        raise HTTPException(status_code=412)


async def _metadata(file: Path, found: Servable, request: Request) -> Response:
    """Serve metadata: small, and `timestamp.json` may be replaced, so read once, then hash and send these bytes."""
    try:
        content = await to_thread.run_sync(file.read_bytes)
    except FileNotFoundError as error:
        raise HTTPException(status_code=404) from error
    headers = _headers(found, bytes_sha256(content))
    _refuse_unmatched(request, headers["etag"])
    if matches(_listed(request, "if-none-match"), headers["etag"]):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=found.media_type)


def _headers(found: Servable, digest: str) -> dict[str, str]:
    return {"etag": f'"{digest}"', "cache-control": found.cache_control, "x-content-type-options": "nosniff"}


def _inside(repository: Path, path: str) -> Path:
    """The regular file a checked path names, links resolved.

    Raises:
        HTTPException: 404, when there is no such file, or a link leads out of the repository.
    """
    base = repository.resolve()
    try:
        file = (base / path).resolve(strict=True)
        regular = stat.S_ISREG(file.stat().st_mode)
    except OSError as error:
        raise HTTPException(status_code=404) from error
    if not regular or not file.is_relative_to(base):
        raise HTTPException(status_code=404)
    return file
