from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import FakeClock
from updater.server.app import create_app
from updater.server.files import ALWAYS_ASK, FOR_EVER, matches, servable

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CONTENT = bytes(range(256)) * 8
DIGEST = hashlib.sha256(CONTENT).hexdigest()
OBJECT = f"/objects/{DIGEST[:2]}/{DIGEST}"
TARGET = f"/targets/releases/host/1.0.0~rc1^2/{DIGEST}.x86-64.json"
TIMESTAMP = '{{"signatures": [], "signed": {{"version": 7, "expires": "{}"}}}}'


def timestamp(expires: datetime) -> str:
    return TIMESTAMP.format(expires.strftime("%Y-%m-%dT%H:%M:%SZ"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    base = tmp_path / "repo"
    files = {
        OBJECT: CONTENT,
        TARGET: b'{"a": 1}',
        "/metadata/1.root.json": b'{"root": 1}',
        "/metadata/timestamp.json": timestamp(NOW + timedelta(days=1)).encode(),
        "/.lock": b"",
        "/metadata/.timestamp.json.1.tmp": b"half",
        "/objects/.incoming-1": b"half",
        "/secret.json": b"no",
    }
    for name, content in files.items():
        path = base / name.removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return base


def request(
    repository: Path, method: str, path: str, *, headers: dict[str, str] | None = None, now: datetime = NOW
) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(repository, clock=FakeClock(now)))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.request(method, path, headers=headers)

    return anyio.run(ask)


def get(repository: Path, path: str, **headers: str) -> httpx.Response:
    return request(repository, "GET", path, headers={key.replace("_", "-"): value for key, value in headers.items()})


def test_object_is_sent_whole_with_its_digest_as_tag(repository: Path) -> None:
    answer = get(repository, OBJECT)
    assert answer.status_code == 200
    assert answer.content == CONTENT
    assert answer.headers["etag"] == f'"{DIGEST}"'
    assert answer.headers["cache-control"] == FOR_EVER
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-9", CONTENT[:10]),
        ("bytes=100-", CONTENT[100:]),
        ("bytes=-7", CONTENT[-7:]),
        ("bytes=5-99999", CONTENT[5:]),
    ],
)
def test_range_is_answered_with_that_part(repository: Path, asked: str, expected: bytes) -> None:
    answer = get(repository, OBJECT, range=asked)
    assert answer.status_code == 206
    assert answer.content == expected
    assert answer.headers["content-range"].endswith(f"/{len(CONTENT)}")
    assert answer.headers["etag"] == f'"{DIGEST}"'


def test_range_past_the_end_is_not_satisfiable(repository: Path) -> None:
    answer = get(repository, OBJECT, range=f"bytes={len(CONTENT)}-")
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"


@pytest.mark.parametrize("asked", ["bytes=5-1", "abc", "lines=0-5", "bytes=1_0-20", "bytes=+1-5"])
def test_range_that_is_not_understood_is_ignored(repository: Path, asked: str) -> None:
    answer = get(repository, OBJECT, range=asked)
    assert answer.status_code == 200
    assert answer.content == CONTENT


def test_an_answer_to_a_range_past_the_end_is_not_kept(repository: Path) -> None:
    assert get(repository, OBJECT, range="bytes=99999-").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", [OBJECT, "/metadata/1.root.json"])
def test_if_match_gets_the_content_it_names_or_nothing(repository: Path, path: str) -> None:
    etag = get(repository, path).headers["etag"]
    for wanted, status in ((etag, 200), ("*", 200), (f'"x", {etag}', 200), ('"x"', 412), (f"W/{etag}", 412)):
        assert get(repository, path, if_match=wanted).status_code == status, wanted


def test_lists_may_come_in_several_lines(repository: Path) -> None:
    async def ask(name: str) -> int:
        transport = httpx.ASGITransport(create_app(repository, clock=FakeClock(NOW)))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            lines = [(name, '"x"'), (name, f'"{DIGEST}"')]
            return (await client.get(OBJECT, headers=lines)).status_code

    assert anyio.run(ask, "if-match") == 200
    assert anyio.run(ask, "if-none-match") == 304


@pytest.mark.parametrize("asked", ["bytes=0-9", "bytes=99999-"])
def test_only_get_has_ranges(repository: Path, asked: str) -> None:
    answer = request(repository, "HEAD", OBJECT, headers={"range": asked})
    assert answer.status_code == 200
    assert answer.headers["content-length"] == str(len(CONTENT))


def test_a_range_past_the_end_of_the_same_content_is_refused_by_us(repository: Path) -> None:
    answer = get(repository, OBJECT, range="bytes=99999-", if_range=f'"{DIGEST}"')
    assert (answer.status_code, answer.headers["cache-control"]) == (416, "no-store")


def test_if_range_with_the_same_tag_resumes(repository: Path) -> None:
    assert get(repository, OBJECT, range="bytes=9-", if_range=f'"{DIGEST}"').status_code == 206


def test_if_range_with_another_tag_starts_over(repository: Path) -> None:
    answer = get(repository, OBJECT, range="bytes=9-", if_range='"other"')
    assert answer.status_code == 200
    assert answer.content == CONTENT


@pytest.mark.parametrize("tags", ['"{}"', 'W/"{}"', '"x", "{}"', "*"])
def test_known_object_is_not_sent_again(repository: Path, tags: str) -> None:
    answer = get(repository, OBJECT, if_none_match=tags.format(DIGEST))
    assert answer.status_code == 304
    assert answer.content == b""
    assert answer.headers["etag"] == f'"{DIGEST}"'
    assert answer.headers["cache-control"] == FOR_EVER


def test_head_tells_without_a_body(repository: Path) -> None:
    answer = request(repository, "HEAD", OBJECT)
    assert answer.status_code == 200
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.content == b""


def test_target_is_json_and_immutable(repository: Path) -> None:
    answer = get(repository, TARGET)
    assert answer.json() == {"a": 1}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == FOR_EVER
    assert answer.headers["etag"] == f'"{DIGEST}"'


def test_versioned_metadata_is_immutable(repository: Path) -> None:
    answer = get(repository, "/metadata/1.root.json")
    assert answer.headers["cache-control"] == FOR_EVER
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'


def test_timestamp_is_asked_for_every_time_and_sent_only_when_it_changed(repository: Path) -> None:
    first = get(repository, "/metadata/timestamp.json")
    assert first.headers["cache-control"] == ALWAYS_ASK
    assert get(repository, "/metadata/timestamp.json", if_none_match=first.headers["etag"]).status_code == 304
    (repository / "metadata" / "timestamp.json").write_text(timestamp(NOW + timedelta(days=2)))
    second = get(repository, "/metadata/timestamp.json", if_none_match=first.headers["etag"])
    assert second.status_code == 200
    assert second.headers["etag"] != first.headers["etag"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/secret.json",
        "/.lock",
        "/metadata/",
        "/metadata/.timestamp.json.1.tmp",
        "/metadata/%2e%2e/secret.json",
        "/metadata/..%2fsecret.json",
        "/metadata/timestamp.json%00",
        "/metadata/timestamp.json/",
        "/metadata//timestamp.json",
        "/metadata/0.root.json",
        "/metadata/2.root.json",
        "/objects/.incoming-1",
        f"/objects/00/{DIGEST}",
        f"/objects/{DIGEST[:2]}/{DIGEST.upper()}",
        f"/objects/{DIGEST[:2]}",
        f"/targets/releases/../releases/host/1.0.0/{DIGEST}.x86-64.json",
        "/targets/releases/host/1.0.0/x86-64.json",
        "/etc/passwd",
    ],
)
def test_everything_else_is_not_there(repository: Path, path: str) -> None:
    answer = get(repository, path)
    assert answer.status_code == 404
    # A file that is missing now may be published in a minute.
    assert answer.headers["cache-control"] == "no-store"


def test_link_out_of_the_repository_is_not_followed(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    other = "f" * 64
    (repository / "objects" / "ff").mkdir()
    (repository / "objects" / "ff" / other).symlink_to(tmp_path / "outside")
    assert get(repository, f"/objects/ff/{other}").status_code == 404


def test_folder_in_place_of_an_object_is_not_there(repository: Path) -> None:
    other = "e" * 64
    (repository / "objects" / "ee" / other).mkdir(parents=True)
    assert get(repository, f"/objects/ee/{other}").status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(repository: Path, method: str) -> None:
    assert request(repository, method, OBJECT).status_code == 405


@given(st.text())
def test_only_paths_below_the_three_folders_are_servable(path: str) -> None:
    found = servable(path)
    assert found is None or path.split("/", maxsplit=1)[0] in ("metadata", "targets", "objects")
    assert found is None or ".." not in path.split("/")


@given(st.lists(st.sampled_from(["..", ".", "", "a", "releases", f"{DIGEST}.x.json", "timestamp.json"]), max_size=6))
def test_no_servable_path_has_a_part_that_leads_elsewhere(parts: list[str]) -> None:
    for folder in ("metadata", "targets", "objects"):
        path = "/".join([folder, *parts])
        assert servable(path) is None or not {"..", ".", ""} & set(parts)


def test_absent_condition_matches_nothing() -> None:
    assert not matches(None, '"a"')
    assert not matches('"b", W/"c"', '"a"')
