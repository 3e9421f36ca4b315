"""Metadata that are damaged, on the way or where a host keeps them, and a server that sends something else."""

from __future__ import annotations

import gc
import tempfile
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.fakes.http_server import Site, raw
from tests.fakes.metadata_client import CHANNEL, client, refreshed
from tests.fakes.tuf_site import SignedSite
from updater.errors import FetchError, RefusedError


def test_a_tampered_document_is_refused(signed: SignedSite, tmp_path: Path) -> None:
    path = next(path for path in signed.site.files if path.endswith(".stable.json"))
    signed.site.files[path] = signed.site.files[path].replace(b'"halted": false', b'"halted": true ')
    with pytest.raises(RefusedError):
        refreshed(signed, tmp_path).channel("stable")


def test_an_endless_document_is_refused(signed: SignedSite, tmp_path: Path) -> None:
    signed.site.files["/metadata/timestamp.json"] += b" " * (1 << 20)
    with pytest.raises(RefusedError):
        refreshed(signed, tmp_path)


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    gone = SignedSite(Site(url="http://127.0.0.1:1"))
    with pytest.raises(FetchError, match=r"http://127\.0\.0\.1:1/metadata/2\.root\.json: .*refused \(after 3 tries\)"):
        refreshed(gone, tmp_path)


def test_a_busy_server_is_asked_again(signed: SignedSite, tmp_path: Path) -> None:
    signed.site.status["/metadata/timestamp.json"] = [503, 503]
    refreshed(signed, tmp_path)


@pytest.mark.parametrize("length", [3 << 30, None])
def test_a_snapshot_that_is_named_very_long_or_does_not_end_costs_bounded_memory(
    signed: SignedSite, tmp_path: Path, length: int | None
) -> None:
    number = signed.version
    signed.write(timestamp=lambda stamp: setattr(stamp.snapshot_meta, "length", length))
    path = f"/metadata/{number}.snapshot.json"
    sent: list[int] = []

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n{")
        while True:
            handler.wfile.write(b" " * (1 << 20))
            sent.append(1 << 20)

    signed.site.special[path] = endless
    tracemalloc.start()
    with pytest.raises(RefusedError, match="long"):
        refreshed(signed, tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 << 20
    assert sum(sent) < 16 << 20
    if length is not None:
        assert path not in [asked for asked, _ in signed.site.requests]


@pytest.mark.parametrize("path", ["metadata/2.root.json", "metadata/timestamp.json"])
@pytest.mark.parametrize(
    ("head", "body", "what"),
    [
        ("Content-Type: text/html", b"<html>log in</html>", "a web page"),
        ("X: y", b"  <!DOCTYPE html>", "a web page"),
        ("Content-Type: application/xml", b"<?xml?>", "a web page"),
        ("Content-Type: text/plain", b"moved", "text/plain"),
        ("X: y", b"", "something without a type"),
    ],
)
def test_a_web_page_instead_of_metadata_is_named_with_where_it_came_from(
    signed: SignedSite, path: str, head: str, body: bytes, what: str
) -> None:
    signed.site.special[f"/{path}"] = raw(
        f"HTTP/1.1 200 OK\r\n{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode(), body
    )
    with tempfile.TemporaryDirectory() as folder, pytest.raises(FetchError) as caught:
        refreshed(signed, Path(folder))
    assert str(caught.value) == f"{signed.site.url}: {what} came instead of {path}"
    assert "does `url:` point to a repository" in caught.value.hints[0]


def test_kept_metadata_torn_by_a_power_cut_do_not_block_the_host(signed: SignedSite, tmp_path: Path) -> None:
    refreshed(signed, tmp_path).channel("stable")
    for path in (tmp_path / "tuf").rglob("*.json"):
        path.write_bytes(b"")
    assert refreshed(signed, tmp_path).channel("stable") == CHANNEL


DAMAGE: dict[str, bytes] = {
    "empty": b"",
    "garbage": b"\0\xff" * 5000,
    "not an object": b"[]",
    "deep": b"[" * 100_000,
    "other": b'{"signed": {"version": "x"}, "signatures": []}',
    "endless number": b'{"signed": {"version": ' + b"9" * 5000 + b"}}",
    "half": b'{"signatures": [{"keyid": "ab"',
}


KEPT = ("timestamp", "snapshot", "targets", "channels", "root")


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Nothing that other tests left is collected where the stack is used up, and what it ends by could not even run."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize(
    ("names", "damage"),
    [*((KEPT, damage) for damage in DAMAGE), *(((name,), damage) for name, damage in zip(KEPT, DAMAGE, strict=False))],
)
def test_kept_metadata_that_are_damaged_are_fetched_anew(
    signed: SignedSite, tmp_path: Path, names: tuple[str, ...], damage: str
) -> None:
    signed.rotate()
    signed.write()
    refreshed(signed, tmp_path).channel("stable")
    for name in names:
        kept = tmp_path / "tuf" / f"{name}.json"
        assert kept.exists()
        kept.write_bytes(DAMAGE[damage])
    assert refreshed(signed, tmp_path).channel("stable") == CHANNEL


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_root_of_trust_is_refused_as_the_images_own(signed: SignedSite, tmp_path: Path, damage: str) -> None:
    with pytest.raises(RefusedError, match="the image's own root of trust") as caught:
        client(signed, tmp_path, root=DAMAGE[damage] or b" ")
    # Nobody is sent to whoever runs the repository, who can do nothing about it.
    assert "repository" not in " ".join(caught.value.hints)
    assert not signed.site.requests
