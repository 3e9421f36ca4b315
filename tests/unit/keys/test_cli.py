from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from bedrock.cli import run_command
from keys import cli
from keys.cli import keys, passphrase_source
from keys.keyring import Keyring
from keys.passphrase import FILE_VARIABLE, VARIABLE, FixedPassphrase
from keys.private import is_encrypted
from keys.roles import Profile, TufRole
from keys.signers import open_signers
from tests.fakes.keyrings import PASSPHRASE, dev_folder, production_folder


@pytest.fixture(autouse=True)
def _no_passphrase_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (VARIABLE, FILE_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def invoke(*argv: str | Path, input_text: str | None = None) -> Result:
    return CliRunner().invoke(keys, [str(word) for word in argv], input=input_text, catch_exceptions=False)


def leave(*argv: str | Path) -> int:
    """The exit code of a whole program run."""
    with pytest.raises(SystemExit) as caught:
        run_command(keys, prog_name="twinhull keys", argv=[str(word) for word in argv])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def encrypted(folder: Path) -> set[bool]:
    return {is_encrypted(path.read_bytes()) for path in folder.glob("*.pem")}


def test_dev_init_asks_nothing_and_tells_what_it_made(tmp_path: Path) -> None:
    result = invoke("init", tmp_path / "keys", "--profile", "dev")
    assert result.exit_code == 0
    assert "1 of 1 must sign, online" in result.output
    assert encrypted(tmp_path / "keys") == {False}


def test_dev_init_encrypts_when_a_passphrase_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "x")
    assert invoke("init", tmp_path / "keys", "--profile", "dev").exit_code == 0
    assert encrypted(tmp_path / "keys") == {True}
    assert invoke("init", tmp_path / "open", "--profile", "dev", "--no-passphrase").exit_code == 0
    assert encrypted(tmp_path / "open") == {False}


def test_production_init_takes_the_first_line_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "pass"
    file.write_text(f"{PASSPHRASE}\n")
    assert invoke("init", tmp_path / "keys", "--profile", "production", "--passphrase-file", file).exit_code == 0
    keyring = Keyring.load(tmp_path / "keys")
    assert keyring.profile is Profile.PRODUCTION
    assert len(open_signers(keyring, TufRole.ROOT, FixedPassphrase(PASSPHRASE))) == 3


def test_production_init_without_passphrase_must_be_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert leave("init", tmp_path / "keys", "--profile", "production") == 2
    assert "--no-passphrase" in capsys.readouterr().err
    assert not (tmp_path / "keys").exists()
    assert leave("init", tmp_path / "keys", "--profile", "production", "--no-passphrase") == 0
    assert encrypted(tmp_path / "keys") == {False}


def test_production_init_asks_twice_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    @click.pass_context
    def at_terminal(context: click.Context) -> None:
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        context.invoke(
            cli.init_command, folder=tmp_path / "keys", profile="production", passphrase_file=None, no_passphrase=False
        )

    typed = f"typo\nother\n{PASSPHRASE}\n{PASSPHRASE}\n"
    result = CliRunner().invoke(at_terminal, input=typed, catch_exceptions=False)
    assert result.exit_code == 0
    assert PASSPHRASE not in result.output
    assert open_signers(Keyring.load(tmp_path / "keys"), TufRole.ROOT, FixedPassphrase(PASSPHRASE))


def test_contradicting_passphrase_options_are_wrong_usage(tmp_path: Path) -> None:
    result = invoke("init", tmp_path / "k", "--profile", "dev", "--no-passphrase", "--passphrase-file", tmp_path / "p")
    assert result.exit_code == 2
    assert "exclude each other" in result.output


def test_unknown_profile_is_wrong_usage(tmp_path: Path) -> None:
    assert leave("init", tmp_path / "keys", "--profile", "staging") == 2


def test_second_init_fails_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = dev_folder(tmp_path)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert leave("init", folder, "--profile", "dev") == 1
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    err = capsys.readouterr().err
    assert err.startswith(f"error: {folder} already holds keys")
    assert "\nhint: " in err


def test_show_gives_programs_ids_thresholds_uris_and_expiry(tmp_path: Path) -> None:
    folder = production_folder(tmp_path)
    (folder / "root-2.pem").unlink()
    shown = json.loads(invoke("show", folder, "--json").stdout)
    keyring = Keyring.load(folder)
    root = next(role for role in shown["tuf"] if role["role"] == "root")
    assert (shown["profile"], root["threshold"], root["online"]) == ("production", 2, False)
    assert [key["keyid"] for key in root["keys"]] == [key.keyid for key in keyring.role(TufRole.ROOT).keys]
    assert [key["here"] for key in root["keys"]] == [True, False, True]
    assert root["keys"][0]["uri"] == f"file:{folder}/root-1.pem"
    assert [boot["role"] for boot in shown["boot"]] == ["PK", "KEK", "db", "pcr"]
    assert shown["boot"][0]["not_after"].endswith("Z")


def test_show_tells_people_the_same(tmp_path: Path) -> None:
    folder = production_folder(tmp_path)
    (folder / "root-2.pem").unlink()
    text = invoke("show", folder).stdout
    assert "2 of 3 must sign\n" in text
    assert "root-2.pem  (not here)" in text
    assert "certificate until 20" in text


def test_show_needs_no_passphrase_and_prints_no_private_key(tmp_path: Path) -> None:
    assert "PRIVATE" not in invoke("show", production_folder(tmp_path)).stdout


def test_show_of_an_empty_folder_fails_with_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("show", tmp_path) == 1
    assert "hint: make one: twinhull keys init" in capsys.readouterr().err


def test_broken_keyring_is_wrong_usage_with_every_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = dev_folder(tmp_path)
    (folder / "keyring.yaml").write_text("format: 1\nprofile: x\nextra: 1\n")
    assert leave("show", folder) == 2
    err = capsys.readouterr().err
    assert "profile:" in err
    assert "extra:" in err


def test_check_of_good_keys_exits_0(tmp_path: Path) -> None:
    result = invoke("check", dev_folder(tmp_path))
    assert result.exit_code == 0
    assert json.loads(invoke("check", tmp_path / "keys", "--json").stdout)["findings"] == []


def test_check_exits_1_for_errors_and_lists_them(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    (folder / "db.pem").chmod(0o644)
    result = invoke("check", folder)
    assert result.exit_code == 1
    assert "error: db (" in result.stdout
    found = json.loads(invoke("check", folder, "--json").stdout)["findings"]
    assert [(item["severity"], item["rule"]) for item in found] == [("error", "file-mode")]


def test_check_exits_0_for_warnings_only(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    (folder / "root-1.pem").unlink()
    assert invoke("check", folder).exit_code == 0
    assert leave("check", folder) == 0


def test_check_exit_code_survives_the_program_entry(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    folder.chmod(0o755)
    assert leave("check", folder) == 1


def test_check_opens_encrypted_keys_with_the_file(tmp_path: Path) -> None:
    folder = production_folder(tmp_path)
    file = tmp_path / "pass"
    file.write_text(PASSPHRASE)
    assert "unchecked" not in invoke("check", folder, "--passphrase-file", file).stdout
    assert "unchecked" in invoke("check", folder).stdout


def test_prompt_asks_once_and_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(text: str, **_options: object) -> str:
        asked.append(text)
        return "typed"

    monkeypatch.setattr(click, "prompt", answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    source = passphrase_source(None)
    assert [source.passphrase("/k/a.pem"), source.passphrase("/k/b.pem")] == ["typed", "typed"]
    assert asked == ["Passphrase of /k/a.pem"]
    assert "typed" not in repr(source)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert passphrase_source(None).passphrase("/k/a.pem") is None


@pytest.mark.parametrize("command", [(), ("init",), ("show",), ("check",)])
def test_help_shows_an_example(command: tuple[str, ...]) -> None:
    assert "  Example:\n    twinhull keys" in invoke(*command, "--help").stdout


def test_new_keys_are_listed_for_programs_too(tmp_path: Path) -> None:
    made = invoke("init", tmp_path / "keys", "--profile", "dev", "--json")
    assert made.stdout == invoke("show", tmp_path / "keys", "--json").stdout
    assert json.loads(made.stdout)["profile"] == "dev"
