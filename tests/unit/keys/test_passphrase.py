from __future__ import annotations

from pathlib import Path

import pytest

from keys.errors import PassphraseError
from keys.passphrase import (
    FILE_VARIABLE,
    MAX_BYTES,
    VARIABLE,
    FixedPassphrase,
    NoPassphrase,
    PassphraseFile,
    demanded,
    from_environment,
)


def test_file_gives_its_first_line_without_line_end(tmp_path: Path) -> None:
    file = tmp_path / "pass"
    file.write_bytes(" päss word \r\nsecond\n".encode())
    assert PassphraseFile(file).passphrase("k") == " päss word "


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\n", b"x" * (MAX_BYTES + 1)])
def test_unusable_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "pass"
    file.write_bytes(content)
    with pytest.raises(PassphraseError, match=str(file)):
        PassphraseFile(file).passphrase("k")


def test_longest_passphrase_is_taken_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "pass"
    file.write_bytes(b"x" * MAX_BYTES + b"\r\n")
    assert PassphraseFile(file).passphrase("k") == "x" * MAX_BYTES


def test_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(PassphraseError, match=r"nowhere.*No such file"):
        PassphraseFile(tmp_path / "nowhere").passphrase("k")


def test_empty_variable_is_refused_when_it_is_needed() -> None:
    source = from_environment(environ={VARIABLE: ""})
    with pytest.raises(PassphraseError, match=f"{VARIABLE} is empty"):
        source.passphrase("k")


def test_explicit_file_goes_before_the_environment(tmp_path: Path) -> None:
    environ = {VARIABLE: "a", FILE_VARIABLE: "/other"}
    assert from_environment(file=tmp_path, environ=environ) == PassphraseFile(tmp_path)
    assert from_environment(environ=environ) == PassphraseFile(Path("/other"))
    assert from_environment(environ={VARIABLE: "a"}).passphrase("k") == "a"
    assert from_environment(environ={}).passphrase("k") is None


def test_process_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FILE_VARIABLE, raising=False)
    monkeypatch.setenv(VARIABLE, "from outside")
    assert from_environment().passphrase("k") == "from outside"


def test_demanding_what_nobody_has_names_the_key_and_the_ways() -> None:
    with pytest.raises(PassphraseError, match=r"/k/root-1\.pem needs a passphrase") as caught:
        demanded(NoPassphrase())("/k/root-1.pem")
    assert VARIABLE in caught.value.hints[0]


def test_passphrase_is_not_part_of_the_repr() -> None:
    assert "secret" not in repr(FixedPassphrase("secret"))
