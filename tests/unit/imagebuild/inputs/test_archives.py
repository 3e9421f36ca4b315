"""The archives of a definition, which of their suites are there, and what is said when updates are missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from imagebuild.definition.sources import DEBIAN, LOCAL, SECURITY, ExpiredIndexes, SecurityUpdates
from imagebuild.errors import BuildError, MirrorError
from imagebuild.inputs.apt import list_name
from imagebuild.inputs.archives import AptSuite, Presence, apt_sources, archives_of, debian_archives, source_of
from imagebuild.inputs.lockfile import Selection, Suite
from imagebuild.inputs.mirror import KEYRING, Mirrors
from imagebuild.inputs.probe import is_there
from imagebuild.inputs.updates import missing_updates
from tests.fakes.definitions import definition_of
from tests.fakes.http_server import Site, serving

MIRRORS = Mirrors("http://mirror.test/debian", "http://security.test/updates")


def test_debians_suites_are_signed_by_its_keyring() -> None:
    stanzas = apt_sources(debian_archives(MIRRORS, "trixie").suites).split("\n\n")
    assert [stanza.splitlines()[1:3] for stanza in stanzas] == [
        ["URIs: http://mirror.test/debian", "Suites: trixie"],
        ["URIs: http://mirror.test/debian", "Suites: trixie-updates"],
        ["URIs: http://security.test/updates", "Suites: trixie-security"],
    ]
    assert all(f"Signed-By: {KEYRING}" in stanza for stanza in stanzas)


def test_security_updates_are_looked_for_beside_the_mirror_when_nothing_names_them() -> None:
    found = debian_archives(Mirrors("http://mirror.test/debian", None), "trixie")
    assert found.suites[-1].base == "http://mirror.test/debian-security/dists/trixie-security"
    assert found.suites[-1].presence is Presence.GUESSED
    assert SECURITY not in debian_archives(Mirrors("http://mirror.test/other", None), "trixie").bases
    assert SECURITY not in debian_archives(MIRRORS, "trixie", security=SecurityUpdates.NONE).bases


def test_a_definitions_archives_follow_debians_in_their_order(tmp_path: Path) -> None:
    source = "{name: tools, uris: ['http://tools.test/a', 'http://tools.test/b'], suites: [x, y], components: [c],"
    text = f"id: host\ncomponents: [main, non-free]\nsources: [{source} signed_by: key.asc, packages: [jq]}}]\n"
    (tmp_path / "key.asc").write_text("x")
    found = archives_of(definition_of(tmp_path, text), tmp_path, MIRRORS)
    assert [(suite.archive, suite.name) for suite in found.suites[3:]] == [
        ("tools", "x"),
        ("tools", "y"),
        ("tools.2", "x"),
        ("tools.2", "y"),
    ]
    assert found.suites[0].components == ("main", "non-free")
    assert found.suites[3].key == tmp_path / "key.asc"
    assert found.listed == {"jq": "tools"}
    assert found.bases["tools.2"] == "http://tools.test/b"
    assert found.bases[LOCAL] == f"file:{tmp_path}"


def test_expired_indexes_are_accepted_only_where_the_definition_says_so(tmp_path: Path) -> None:
    strict = archives_of(definition_of(tmp_path, "id: host\n"), tmp_path, MIRRORS)
    lenient = archives_of(definition_of(tmp_path, "id: host\nexpired_indexes: accept\n"), tmp_path, MIRRORS)
    assert "Check-Valid-Until" not in apt_sources(strict.suites)
    assert apt_sources(lenient.suites).count("Check-Valid-Until: no") == len(lenient.suites)


def test_both_archives_of_debian_are_one_source_and_so_are_all_uris_of_another() -> None:
    assert [source_of(name) for name in (DEBIAN, SECURITY, "tools", "tools.2")] == [DEBIAN, DEBIAN, "tools", "tools"]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://mirror.test/debian/dists/trixie/InRelease", "mirror.test_debian_dists_trixie_InRelease"),
        ("http://127.0.0.1:80/a_b~c/./InRelease", "127.0.0.1:80_a%5fb%7ec_._InRelease"),
        ("file:/srv/debs/./InRelease", "_srv_debs_._InRelease"),
    ],
)
def test_lists_are_found_by_the_names_that_apt_gives_them(url: str, name: str) -> None:
    assert list_name(url) == name


def suite_at(url: str, presence: Presence) -> AptSuite:
    return AptSuite(SECURITY, url, "trixie-security", ("main",), None, presence)


PLACE = "/dists/trixie-security/InRelease"


def test_a_suite_is_there_when_its_inrelease_is(tmp_path: Path) -> None:
    with serving(Site({PLACE: b"x"})) as site:
        assert is_there(suite_at(site.url, Presence.OPTIONAL))
    assert not is_there(suite_at(f"file:{tmp_path}", Presence.OPTIONAL))
    (tmp_path / PLACE.lstrip("/")).parent.mkdir(parents=True)
    (tmp_path / PLACE.lstrip("/")).write_text("x")
    assert is_there(suite_at(f"file:{tmp_path}", Presence.OPTIONAL))


@pytest.mark.parametrize("presence", [Presence.OPTIONAL, Presence.GUESSED])
def test_a_clear_no_means_that_the_release_has_no_such_suite(presence: Presence) -> None:
    with serving(Site()) as site:
        assert not is_there(suite_at(site.url, presence))


def test_a_refusal_means_no_only_where_the_place_was_a_guess() -> None:
    with serving(Site(status={PLACE: [403, 403]})) as site:
        assert not is_there(suite_at(site.url, Presence.GUESSED))
        with pytest.raises(MirrorError, match="it answered 403"):
            is_there(suite_at(site.url, Presence.OPTIONAL))


@pytest.mark.parametrize("presence", [Presence.OPTIONAL, Presence.GUESSED])
def test_a_mirror_that_gives_no_answer_is_not_taken_for_one_without_updates(presence: Presence) -> None:
    with pytest.raises(MirrorError, match="does not say whether there is a suite trixie-security") as caught:
        is_there(suite_at("http://127.0.0.1:9", presence))
    assert any("security: none" in hint for hint in caught.value.hints)


def test_what_must_be_there_is_left_to_apt() -> None:
    assert is_there(suite_at("http://127.0.0.1:9", Presence.REQUIRED))


def suite(archive: str, name: str, label: str = "stable") -> Suite:
    return Suite(archive, name, label, "Debian", "Sat, 01 Aug 2026 00:00:00 UTC", (), "a" * 64, {})


MAIN, UPDATES, FIXES = suite(DEBIAN, "trixie"), suite(DEBIAN, "trixie-updates"), suite(SECURITY, "trixie-security")


def test_a_build_with_all_updates_says_nothing() -> None:
    whole = Selection("trixie", (), (MAIN, UPDATES, FIXES), ())
    assert missing_updates(whole, SecurityUpdates.AUTO) == ()
    assert missing_updates(whole, SecurityUpdates.REQUIRED) == ()


def test_a_build_without_security_updates_says_so_unless_it_is_meant() -> None:
    bare = Selection("trixie", (), (MAIN, UPDATES), ())
    assert "no security updates are in this image" in missing_updates(bare, SecurityUpdates.AUTO)[0]
    assert missing_updates(bare, SecurityUpdates.NONE) == ()
    with pytest.raises(BuildError, match="security: required") as caught:
        missing_updates(bare, SecurityUpdates.REQUIRED)
    assert "security_mirror" in caught.value.hints[0]


def test_a_release_that_gets_every_fix_first_has_no_suites_of_updates() -> None:
    sid = Selection("sid", (), (suite(DEBIAN, "sid", "unstable"),), ())
    assert missing_updates(sid, SecurityUpdates.AUTO) == ()
    assert missing_updates(sid, SecurityUpdates.REQUIRED) == ()


def test_missing_updates_of_the_main_archive_are_said_too() -> None:
    (line,) = missing_updates(Selection("trixie", (), (MAIN, FIXES), ()), SecurityUpdates.REQUIRED)
    assert "no suite trixie-updates" in line


def test_a_source_cannot_pass_for_security_updates() -> None:
    fake = replace(FIXES, archive="tools")
    assert missing_updates(Selection("trixie", (), (MAIN, UPDATES, fake), ()), SecurityUpdates.AUTO)


def test_accepted_indexes_that_are_out_of_date_are_said_with_their_dates() -> None:
    whole = Selection("trixie", (), (MAIN, UPDATES, FIXES), ())
    (line,) = missing_updates(whole, SecurityUpdates.AUTO, ExpiredIndexes.ACCEPT)
    assert "trixie: Sat, 01 Aug 2026" in line
