"""The request to reset a host: what it says, how it is kept, and a credential's that is carried out once."""

from __future__ import annotations

from pathlib import Path

import pytest

from updater.agent.ground.reset import (
    CREDENTIAL,
    DONE,
    DONE_ON_VAR,
    REQUEST,
    ResetRequest,
    Scope,
    pending_reset,
    request_reset,
    reset_by_credential,
)
from updater.errors import UpdaterError

EVERY = [ResetRequest(scope, keep, mark) for scope in Scope for keep in (True, False) for mark in ("", "audit-7")]


@pytest.mark.parametrize("request_", EVERY, ids=lambda each: each.line.strip())
def test_a_request_is_read_as_it_was_written(tmp_path: Path, request_: ResetRequest) -> None:
    assert pending_reset(tmp_path) is None
    request_reset(tmp_path, request_)
    assert pending_reset(tmp_path) == request_
    assert (tmp_path / REQUEST).read_text().count("\n") == 1


@pytest.mark.parametrize(
    "text", ["", "all", "all keep", "none keep-identity", "all keep-identity a b", "all keep-identity ../x", "x" * 2000]
)
def test_what_the_initrd_would_not_understand_is_not_pending(tmp_path: Path, text: str) -> None:
    (tmp_path / REQUEST).write_text(text)
    assert pending_reset(tmp_path) is None
    with pytest.raises(ValueError, match="is not `all"):
        ResetRequest.read(text)


def test_a_request_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UpdaterError, match="cannot be written"):
        request_reset(tmp_path / "missing", ResetRequest(Scope.ALL, keep_identity=False))


def by_credential(folder: Path, text: str | bytes) -> ResetRequest | None:
    (folder / CREDENTIAL).write_bytes(text if isinstance(text, bytes) else text.encode())
    return reset_by_credential(str(folder), folder)


def test_a_credential_is_carried_out_once(tmp_path: Path) -> None:
    wanted = ResetRequest(Scope.ETC, keep_identity=True, mark="audit-7")
    assert by_credential(tmp_path, "etc keep-identity audit-7\n") == wanted
    (tmp_path / DONE).write_text("audit-7\n")
    assert by_credential(tmp_path, "etc keep-identity audit-7\n") is None
    assert by_credential(tmp_path, "etc keep-identity audit-8\n") is not None


def test_a_credential_is_not_carried_out_again_on_a_host_that_lost_its_state(tmp_path: Path) -> None:
    state = tmp_path / "twinhull"
    state.mkdir()
    (tmp_path / DONE_ON_VAR).write_text("audit-7\n")
    assert by_credential(state, "all new-identity audit-7\n") is None
    assert by_credential(state, "all new-identity audit-8\n") is not None


@pytest.mark.parametrize("text", ["all new-identity", "", "please", b"\xff\xfe", "x" * 5000])
def test_a_credential_without_a_name_or_a_meaning_is_an_error(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(UpdaterError, match=CREDENTIAL):
        by_credential(tmp_path, text)


@pytest.mark.parametrize("folder", [None, "/nonexistent"])
def test_without_a_credential_nothing_is_asked_for(tmp_path: Path, folder: str | None) -> None:
    assert reset_by_credential(folder, tmp_path) is None
