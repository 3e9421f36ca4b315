"""A ceremony as people type it: three people, two of three root keys, and a signer that is always on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from keys.ceremony.cli import sign_command
from keys.ceremony.request import PayloadKind
from keys.cli import keys
from keys.generate import init
from keys.passphrase import NoPassphrase
from keys.roles import Profile
from updater.repository.ceremony.cli import root
from updater.repository.ceremony.words import tuf_words
from updater.repository.cli import repo


@click.group()
def program() -> None:
    """What the program has for it."""


for command in (keys, root, repo, sign_command({PayloadKind.TUF: tuf_words})):
    program.add_command(command)


def ran(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(program, list(words), standalone_mode=False, catch_exceptions=False)
    assert (done.return_value or 0) == code, done.output
    return done


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("production") / "keys"
    init(folder, Profile.PRODUCTION, NoPassphrase())
    return folder


@pytest.fixture
def place(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`anna` and `ben` with a root key each, `vault` with targets, and so on; `office` with the public side."""
    monkeypatch.chdir(tmp_path)
    holders = {
        "office": (),
        "anna": ("root-1",),
        "ben": ("root-2",),
        "vault": ("targets-1", "releases-1", "channels-1"),
        "online": ("snapshot-1", "timestamp-1"),
    }
    for holder, names in holders.items():
        shutil.copytree(whole, tmp_path / holder, ignore=shutil.ignore_patterns("*.pem"))
        for name in names:
            shutil.copy(whole / f"{name}.pem", tmp_path / holder)
    return tmp_path


def answered(*words: str, code: int = 0) -> Any:
    return json.loads(ran(*words, "--json", code=code).stdout)


def test_a_repository_is_made_and_renewed_in_parts(place: Path) -> None:
    done = ran("repo", "init", "repo", "--keys", "office")
    assert "missing: 1.root.json: 2 of root-1.pem" in done.stdout
    assert "next: twinhull root sign-request repo" in done.stdout
    ran("root", "sign-request", "repo", "--keys", "office", "--out", "all.json", code=5)
    for holder in ("anna", "ben", "vault"):
        shutil.copy("all.json", f"{holder}.json")
        told = ran("sign", f"{holder}.json", "--keys", holder, "--yes")
        assert "2 of 3 keys must sign root" in told.stderr
        assert ran("sign", f"{holder}.json", "--keys", holder, "--yes", code=4)
    step = answered("root", "apply", "repo", "anna.json", "--keys", "office", code=5)
    assert len(step["missing"]) == 4
    assert not step["finished"]
    done = ran("root", "apply", "repo", "ben.json", "vault.json", "--keys", "office")
    assert "waits for the online keys" in done.stdout
    assert "root: version 1 is visible" in ran("repo", "sign-online", "repo", "--keys", "online").stdout
    ran("repo", "verify", "repo", "--quiet")
    assert (place / "online" / "root.json").read_bytes() == (place / "repo/metadata/1.root.json").read_bytes()
    ran("root", "apply", "repo", "ben.json", "--keys", "online", code=4)
    # A year later.
    ran("root", "sign-request", "repo", "--keys", "office", "--out", "none.json", code=4)
    assert not (place / "none.json").exists()
    ran("root", "sign-request", "repo", "--keys", "office", "--out", "next.json", "--renew", code=5)
    for holder in ("anna", "ben", "vault"):
        ran("sign", "next.json", "--keys", holder, "--yes")
    assert "valid now" in ran("root", "apply", "repo", "next.json", "--keys", "online").stdout
    ran("repo", "verify", "repo", "--quiet", "--root", "repo/metadata/1.root.json")
    assert (place / "online" / "root.json").read_bytes() == (place / "repo/metadata/2.root.json").read_bytes()


def test_a_rotation_whose_keys_are_elsewhere_is_named_by_refresh(place: Path, whole: Path) -> None:
    shutil.copytree(whole, place / "all")
    ran("repo", "init", "repo", "--keys", "all")
    ran("keys", "rotate", "online", "timestamp", "--no-passphrase")
    done = ran("repo", "refresh", "repo", "--keys", "online", code=5)
    assert "timestamp: the key" in done.stderr
    assert "hint: twinhull root sign-request repo" in done.stderr
    ran("root", "sign-request", "repo", "--keys", "online", "--out", "root.json", code=5)
    for holder in ("anna", "ben"):
        ran("sign", "root.json", "--key", f"file:{holder}/root-{1 if holder == 'anna' else 2}.pem", "--yes")
    assert answered("root", "apply", "repo", "root.json", "--keys", "online")["finished"]
    ran("repo", "verify", "repo", "--quiet")
    assert answered("repo", "refresh", "repo", "--keys", "online")["keys"] == {
        "changes": [],
        "needed": [],
        "ignored": [],
    }
