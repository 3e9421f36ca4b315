from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from bedrock.cli import run_command
from bedrock.clock import SYSTEM_CLOCK
from keys.keyring import Keyring
from keys.passphrase import NoPassphrase
from keys.roles import TufRole
from tests.fakes.attested import attested_build
from tests.fakes.builds import write_build
from tests.fakes.keyrings import PASSPHRASE, dev_folder, production_folder
from updater.repository.access import KeyAccess
from updater.repository.cli import channel, repo
from updater.repository.commit import commit
from updater.repository.layout import Layout
from updater.repository.lifetime import Lifetimes
from updater.repository.metadata import load_state
from updater.repository.role_documents import WRITING_ORDER


@click.group()
def program() -> None:
    """Both groups, as the program has them."""


program.add_command(repo)
program.add_command(channel)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with keys, an empty repository and a build."""
    monkeypatch.chdir(tmp_path)
    dev_folder(tmp_path)
    assert ran("repo", "init", "repo", "--keys", "keys").exit_code == 0
    write_build(tmp_path / "out", version="1.0.0")
    return tmp_path


def ran(*words: str) -> Result:
    return CliRunner().invoke(program, list(words), catch_exceptions=False)


def answered(*words: str) -> Any:
    done = ran(*words, "--json")
    assert done.exit_code == 0
    return json.loads(done.stdout)


def exit_code(*words: str) -> int | str | None:
    with pytest.raises(SystemExit) as caught:
        run_command(program, prog_name="twinhull", argv=words)
    return caught.value.code


def test_the_whole_way_from_a_build_to_a_channel(folder: Path) -> None:
    published = answered("repo", "publish", "repo", "out", "--keys", "keys")
    assert published["published"][0]["new"] is True
    assert published["published"][0]["stored_bytes"] > 0
    done = answered("channel", "set", "repo", "stable", "--release", "host/1.0.0", "--over", "2h", "--keys", "keys")
    assert done["changed"] is True
    assert done["channel"]["pace"]["over_s"] == 7200
    assert answered("channel", "show", "repo", "stable") == done["channel"]
    assert answered("channel", "list", "repo") == {"channels": [done["channel"]]}
    report = answered("repo", "verify", "repo")
    assert (report["ok"], report["releases"], report["channels"], report["problems"]) == (True, 1, 1, [])


def test_texts_for_people_tell_the_same(folder: Path) -> None:
    published = ran("repo", "publish", "repo", "out", "--keys", "keys")
    assert "host 1.0.0 (x86-64): published" in published.stdout
    assert "compressing out/root.erofs" in published.stderr
    again = ran("repo", "publish", "repo", "out", "--keys", "keys", "--quiet")
    assert "nothing to do" in again.stdout
    assert again.exit_code == 0
    assert again.stderr == ""
    words = ("channel", "set", "repo", "stable", "--release", "host/1.0.0", "--dead-end", "0.9=old disk", "--halt")
    assert "HALTED" in ran(*words, "--keys", "keys").stdout
    shown = ran("channel", "show", "repo", "stable").stdout
    assert "dead end: 0.9: old disk" in shown
    assert ran("channel", "list", "repo").stdout.startswith("stable: host 1.0.0 (x86-64) from ")
    assert "everything holds" in ran("repo", "verify", "repo", "--quiet").stdout
    assert "timestamp: signed, valid until " in ran("repo", "refresh", "repo", "--keys", "keys").stdout


def test_damage_exits_3_and_is_listed(folder: Path) -> None:
    ran("repo", "publish", "repo", "out", "--keys", "keys")
    for path in (folder / "repo" / "objects").glob("*/*"):
        path.write_bytes(b"damaged")
    done = ran("repo", "verify", "repo", "--json")
    assert done.exit_code == 3
    assert len(json.loads(done.stdout)["problems"]) == 3
    assert ran("repo", "verify", "repo").stdout.count("problem: ") == 3
    assert exit_code("repo", "verify", "repo") == 3


def test_verify_takes_the_root_hosts_start_from(folder: Path) -> None:
    assert answered("repo", "verify", "repo", "--root", "repo/metadata/1.root.json")["ok"] is True


def test_refresh_tells_what_it_signed_and_what_is_left_to_others(folder: Path) -> None:
    (folder / "keys" / "channels-1.pem").unlink()
    words = ("repo", "refresh", "repo", "--keys", "keys", "--within", "100d", "--release-lifetime", "900d")
    told = ran(*words)
    assert "warning: channels expires at" in told.stderr
    assert "releases: signed" in told.stdout
    done = answered(*words, "--release-lifetime", "2d")
    assert done["signed"] == ["snapshot", "timestamp"]
    assert list(done["keys_elsewhere"]) == []


def signed_ago(folder: Path, role: TufRole, *, days: int) -> None:
    """Sign a role's next document, and the snapshot and timestamp over it, as if some days ago."""
    layout = Layout(folder / "repo")
    state = load_state(layout, None)
    signers = KeyAccess(Keyring.load(folder / "keys"), NoPassphrase()).open(*TufRole)
    then = SYSTEM_CLOCK.now() - timedelta(days=days)
    changed = {role: state.documents()[role].copy()}
    commit(layout, state, changed=changed, signers=signers, lifetimes=Lifetimes(), now=then)


def test_a_new_root_is_written_for_the_images_built_from_then_on(folder: Path) -> None:
    before = (folder / "keys" / "root.json").read_bytes()
    ran("repo", "refresh", "repo", "--keys", "keys")
    assert (folder / "keys" / "root.json").read_bytes() == before
    signed_ago(folder, TufRole.ROOT, days=300)
    done = answered("repo", "refresh", "repo", "--keys", "keys", "--within", "100d")
    assert "root" in done["signed"]
    assert (folder / "keys" / "root.json").read_bytes() == (folder / "repo/metadata/3.root.json").read_bytes()


def test_a_role_that_stays_expired_is_an_exit_code_of_its_own(folder: Path) -> None:
    signed_ago(folder, TufRole.CHANNELS, days=91)
    (folder / "keys" / "channels-1.pem").unlink()
    assert exit_code("repo", "refresh", "repo", "--keys", "keys") == 6
    assert "error: channels expired at" in ran("repo", "refresh", "repo", "--keys", "keys").stderr


def test_status_shows_every_role_and_whose_turn_it_is(folder: Path) -> None:
    shown = answered("repo", "status", "repo")
    assert (shown["validity"], shown["unfinished"]) == ("fine", False)
    assert [role["role"] for role in shown["roles"]] == [role.value for role in WRITING_ORDER]
    assert all(set(role["signed_by"]) <= set(role["keys"]) and role["signed_by"] for role in shown["roles"])
    assert ran("repo", "status", "repo").stdout.count("expires in") == len(shown["roles"])


@pytest.mark.parametrize(
    ("days", "code", "told"), [(4, 5, "expires in 3.0 days"), (8, 6, "expired 1.0 days ago"), (0, 0, "expires in 7.0")]
)
def test_status_has_an_exit_code_for_due_and_one_for_overdue(folder: Path, days: int, code: int, told: str) -> None:
    signed_ago(folder, TufRole.CHANNELS, days=days)
    assert told in ran("repo", "status", "repo").stdout
    assert ("to be signed by 1 of" in ran("repo", "status", "repo").stdout) == (code > 0)
    assert exit_code("repo", "status", "repo") == code


def test_status_says_that_a_command_was_cut_short(folder: Path) -> None:
    old = (folder / "repo/metadata/timestamp.json").read_bytes()
    ran("repo", "refresh", "repo", "--keys", "keys")
    (folder / "repo/metadata/timestamp.json").write_bytes(old)
    assert answered("repo", "status", "repo")["unfinished"] is True
    assert "cut short" in ran("repo", "status", "repo").stdout
    ran("repo", "refresh", "repo", "--keys", "keys")
    assert answered("repo", "status", "repo")["unfinished"] is False


def test_conflict_exits_1_with_a_hint(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("repo", "publish", "repo", "out", "--keys", "keys") == 0
    write_build(folder / "other", version="1.0.0", seed=2)
    assert exit_code("repo", "publish", "repo", "other", "--keys", "keys") == 1
    told = capsys.readouterr().err
    assert "error: host 1.0.0 for x86-64 was published before with other content" in told
    assert "hint: a published version never changes" in told


def test_build_that_is_not_what_it_says_exits_3(folder: Path) -> None:
    (folder / "out" / "uki.efi").write_bytes(b"other")
    assert exit_code("repo", "publish", "repo", "out", "--keys", "keys") == 3


def test_encrypted_keys_open_with_the_passphrase_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    production_folder(tmp_path)
    (tmp_path / "pass").write_text(f"{PASSPHRASE}\n")
    assert exit_code("repo", "init", "repo", "--keys", "keys") == 1
    assert not (tmp_path / "repo").exists()
    assert exit_code("repo", "init", "repo", "--keys", "keys", "--passphrase-file", "pass") == 0
    assert ran("repo", "verify", "repo").exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("repo", "publish", "repo", "--keys", "keys"),
        ("repo", "publish", "repo", "out", "--keys", "keys", "--level", "20"),
        ("repo", "init", "other", "--keys", "keys", "--online-lifetime", "soon"),
        ("channel", "set", "repo", "stable", "--release", "host", "--keys", "keys"),
        ("channel", "set", "repo", "stable", "--floor", "1_0", "--keys", "keys"),
        ("channel", "set", "repo", "stable", "--start", "tomorrow", "--keys", "keys"),
        ("channel", "set", "repo", "stable", "--dead-end", "1.0", "--keys", "keys"),
        ("channel", "set", "repo", "../up", "--release", "host/1.0.0", "--keys", "keys"),
    ],
)
def test_wrong_usage_exits_2(folder: Path, words: tuple[str, ...]) -> None:
    exit_code("repo", "publish", "repo", "out", "--keys", "keys")
    assert exit_code(*words) == 2


@pytest.mark.parametrize("words", [("repo", "verify", "no"), ("channel", "list", "no"), ("channel", "show", "no", "x")])
def test_missing_repository_exits_1_and_tells_how_to_make_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_code(*words) == 1
    assert "twinhull repo init" in capsys.readouterr().err


@pytest.mark.parametrize("group", [repo, channel])
def test_every_command_teaches_with_an_example(group: click.Group) -> None:
    for command in group.commands.values():
        assert command.help is not None
        assert f"twinhull {group.name} {command.name}" in command.help


def test_what_is_published_or_set_already_is_nothing_to_do(folder: Path) -> None:
    published = ("repo", "publish", "repo", "out", "--keys", "keys", "--quiet")
    pointed = ("channel", "set", "repo", "stable", "--release", "host/1.0.0", "--keys", "keys")
    assert [exit_code(*published), exit_code(*published)] == [0, 4]
    assert [exit_code(*pointed), exit_code(*pointed, "--json")] == [0, 4]
    write_build(folder / "next", version="1.0.1")
    assert exit_code(*published, str(folder / "next")) == 0


def test_making_a_repository_says_where_its_root_of_trust_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dev_folder(tmp_path)
    monkeypatch.setenv("TWINHULL_KEYS", "keys")
    told = answered("repo", "init", "repo")
    assert (told["repository"], told["root_of_trust"]) == ("repo", "keys/root.json")
    assert (told["finished"], told["missing"]) == (True, [])


@pytest.mark.parametrize("option", ["--online-lifetime", "--release-lifetime"])
def test_a_signature_that_never_holds_is_wrong_usage(folder: Path, option: str) -> None:
    assert exit_code("repo", "refresh", "repo", "--keys", "keys", option, "0s") == 2
    assert ran("repo", "refresh", "repo", "--keys", "keys", option, "1d").exit_code == 0


def test_a_build_for_another_root_exits_3_unless_that_is_said(folder: Path) -> None:
    attested_build(folder / "foreign", version="2.0.0", root="ab" * 32)
    assert exit_code("repo", "publish", "repo", "foreign", "--keys", "keys") == 3
    assert ran("repo", "publish", "repo", "foreign", "--keys", "keys", "--allow-other-trust").exit_code == 0


def test_a_repository_is_copied_from_a_root_that_must_be_named(folder: Path) -> None:
    assert ran("repo", "publish", "repo", "out", "--keys", "keys").exit_code == 0
    assert exit_code("repo", "copy", "repo", "mirror") == 2
    assert exit_code("repo", "copy", "repo", "mirror", "--root", "keys/root.json", "--keys", "keys") == 2
    done = answered("repo", "copy", "repo", "mirror", "--root", "keys/root.json")
    assert (done["new"], done["releases"], done["expired"]) == (True, 1, [])
    assert exit_code("repo", "copy", "repo", "mirror", "--keys", "keys") == 4
    assert answered("repo", "verify", "mirror", "--root", "keys/root.json")["ok"]
