from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from keys.certificates import read_certificate
from keys.check import Finding, Rule, Severity, check, judge
from keys.errors import MissingKeyError
from keys.facts import gather, work_tree_of
from keys.generate import init
from keys.keyring import KEYRING_FILE, Keyring
from keys.passphrase import FixedPassphrase, NoPassphrase
from keys.roles import Profile
from tests.fakes.keyrings import PASSPHRASE, dev_folder, production_folder

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE


def brief(findings: tuple[Finding, ...]) -> list[tuple[Severity, Rule]]:
    return [(finding.severity, finding.rule) for finding in findings]


def test_clean_folder_has_no_findings(tmp_path: Path) -> None:
    assert check(dev_folder(tmp_path)) == ()


def test_private_file_open_to_others_is_an_error_that_names_it(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    (folder / "targets-1.pem").chmod(0o644)
    (finding,) = check(folder)
    assert (finding.severity, finding.rule) == (ERROR, Rule.FILE_MODE)
    assert str(folder / "targets-1.pem") in finding.subject
    assert "0644" in finding.message


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o777])
def test_folder_open_to_others_is_an_error(tmp_path: Path, mode: int) -> None:
    folder = dev_folder(tmp_path)
    folder.chmod(mode)
    assert brief(check(folder)) == [(ERROR, Rule.FOLDER_MODE)]


def test_strange_owner_is_an_error_and_root_is_not_strange(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    facts = gather(Keyring.load(folder), NoPassphrase())
    strange, now = os.geteuid() + 1, datetime.now(UTC)
    privates = (replace(facts.privates[0], owner=strange), replace(facts.privates[1], owner=0))
    owned = replace(facts, privates=privates, folder=replace(facts.folder, owner=strange))
    assert brief(judge(owned, now=now)) == [(ERROR, Rule.OWNER), (ERROR, Rule.OWNER)]


def test_missing_private_file_is_a_warning(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    (folder / "channels-1.pem").unlink()
    assert brief(check(folder)) == [(WARNING, Rule.MISSING_PRIVATE)]


def test_missing_certificate_is_an_error(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    (folder / "db.crt").unlink()
    assert brief(check(folder)) == [(ERROR, Rule.MISSING_CERTIFICATE)]


def test_damaged_files_are_errors(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    (folder / "db.crt").write_text("nothing")
    (folder / "root-1.pem").write_text("nothing")
    assert brief(check(folder)) == [(ERROR, Rule.UNREADABLE)] * 2


def test_private_key_of_another_public_key_is_an_error(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    (folder / "channels-1.pem").replace(folder / "releases-1.pem")
    (found, missing) = check(folder)
    assert (found.severity, found.rule) == (ERROR, Rule.MISMATCH)
    assert found.subject.startswith("releases ")
    assert KEYRING_FILE in found.message
    assert missing.rule is Rule.MISSING_PRIVATE


def test_certificate_of_another_private_key_is_an_error(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    (folder / "db.crt").write_bytes((folder / "PK.crt").read_bytes())
    (finding,) = check(folder)
    assert (finding.severity, finding.rule) == (ERROR, Rule.MISMATCH)
    assert "db.crt" in finding.message


def test_mismatch_of_encrypted_keys_is_found_with_the_passphrase(tmp_path: Path) -> None:
    folder = production_folder(tmp_path)
    (folder / "db.crt").write_bytes((folder / "PK.crt").read_bytes())
    assert brief(check(folder, passphrase=FixedPassphrase(PASSPHRASE))) == [(ERROR, Rule.MISMATCH)]


def test_what_needs_a_passphrase_is_noted_once_as_unchecked(tmp_path: Path) -> None:
    (finding,) = check(production_folder(tmp_path))
    assert (finding.severity, finding.rule) == (NOTE, Rule.UNCHECKED)
    assert "channels" in finding.message


def test_wrong_passphrase_is_an_error_for_each_key(tmp_path: Path) -> None:
    findings = check(production_folder(tmp_path), passphrase=FixedPassphrase("wrong"))
    assert brief(findings) == [(ERROR, Rule.UNREADABLE)] * 12


def test_unencrypted_production_keys_are_errors(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    init(folder, Profile.PRODUCTION, NoPassphrase())
    assert brief(check(folder)) == [(ERROR, Rule.UNENCRYPTED)] * 12


def test_git_work_tree_is_found_however_deep_and_even_when_ignored(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("*\n")
    folder = dev_folder(tmp_path / "a" / "b")
    findings = check(folder)
    assert brief(findings) == [(WARNING, Rule.IN_GIT)] * 10
    assert all(str(tmp_path) in finding.message for finding in findings)


def test_production_keys_in_a_git_work_tree_are_an_error(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    folder = production_folder(tmp_path / "a")
    found = brief(check(folder, passphrase=FixedPassphrase(PASSPHRASE)))
    assert set(found) == {(ERROR, Rule.IN_GIT)}


def test_linked_work_tree_counts_and_links_are_followed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / ".git").write_text("gitdir: elsewhere\n")
    (tree / "key.pem").write_text("")
    (tmp_path / "link.pem").symlink_to(tree / "key.pem")
    assert work_tree_of(tmp_path / "link.pem") == tree
    assert work_tree_of(tmp_path / "other.pem") is None


def test_certificates_expire_by_the_clock(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    end = read_certificate(folder / "db.crt").not_valid_after_utc
    day = timedelta(days=1)
    assert check(folder, now=end - 31 * day) == ()
    assert brief(check(folder, now=end - 29 * day)) == [(WARNING, Rule.EXPIRES_SOON)] * 4
    assert brief(check(folder, now=end + day)) == [(ERROR, Rule.EXPIRED)] * 4
    assert brief(check(folder, now=end - 800 * day)) == [(ERROR, Rule.NOT_YET_VALID)] * 4


def test_expired_certificate_is_found_by_the_real_clock(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    init(folder, Profile.DEV, NoPassphrase(), now=datetime.now(UTC) - timedelta(days=731))
    assert brief(check(folder)) == [(ERROR, Rule.EXPIRED)] * 4


def test_one_key_in_two_roles_is_an_error(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    value = yaml.safe_load((folder / KEYRING_FILE).read_text())
    value["tuf"]["channels"] = value["tuf"]["releases"]
    (folder / KEYRING_FILE).write_text(yaml.safe_dump(value))
    (finding,) = check(folder)
    assert (finding.severity, finding.rule) == (ERROR, Rule.SHARED_KEY)
    assert "releases, channels" in finding.message


def test_keys_in_tokens_are_not_looked_for_on_the_disk(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    value = yaml.safe_load((folder / KEYRING_FILE).read_text())
    value["boot"]["db"]["uri"] = "pkcs11:object=db"
    value["tuf"]["releases"]["keys"][0]["uri"] = "pkcs11:object=releases"
    (folder / KEYRING_FILE).write_text(yaml.safe_dump(value))
    assert check(folder) == ()


def test_all_findings_come_together(tmp_path: Path) -> None:
    folder = dev_folder(tmp_path)
    folder.chmod(0o755)
    (folder / "root-1.pem").chmod(0o666)
    (folder / "db.crt").unlink()
    assert {finding.rule for finding in check(folder)} == {Rule.FOLDER_MODE, Rule.FILE_MODE, Rule.MISSING_CERTIFICATE}


def test_folder_without_keyring_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(MissingKeyError):
        check(tmp_path)
