"""`sources:` and packages of the definition's own folder, read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedrock.errors import DocumentError
from imagebuild.definition.sources import DebianComponent, archive_url
from tests.fakes.definitions import definition_of, write_definition

KEY = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n"
SOURCE = "{name: tools, uris: ['http://tools.test/apt/'], suites: [stable], components: [main], signed_by: tools.asc"


def with_key(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tools.asc").write_bytes(KEY)
    return folder


def test_a_source_has_an_archive_for_each_of_its_uris(tmp_path: Path) -> None:
    two = SOURCE.replace("'http://tools.test/apt/'", "'http://tools.test/apt/', 'https://more.test/apt'")
    source = definition_of(with_key(tmp_path), f"id: host\nsources: [{two}}}]\n").sources[0]
    assert source.archives == (("tools", "http://tools.test/apt"), ("tools.2", "https://more.test/apt"))


def test_a_flat_repository_needs_no_components(tmp_path: Path) -> None:
    flat = "{name: tools, uris: ['file:/srv/debs'], suites: [./], signed_by: tools.asc}"
    assert definition_of(with_key(tmp_path), f"id: host\nsources: [{flat}]\n").sources[0].suites == ("./",)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (SOURCE.replace("components: [main], ", "") + "}", "components is missing"),
        (SOURCE.replace("[stable]", "[./]") + "}", "flat repository"),
        (SOURCE.replace("[stable]", "[]") + "}", "must each name at least one"),
        (SOURCE.replace("[stable]", "['../x']") + "}", "is not a suite"),
        (SOURCE.replace("tools.asc", "../tools.asc") + "}", "inside the definition's folder"),
        (SOURCE.replace("tools.asc", "absent.asc") + "}", "absent.asc is not a file"),
        (SOURCE.replace("name: tools", "name: debian") + "}", "taken by an archive"),
        (SOURCE.replace("http:", "gopher:") + "}", "URL of a mirror"),
        (SOURCE + "}, " + SOURCE + "}", "the source tools is named twice"),
        (
            f"{SOURCE}, packages: [jq]}}, {SOURCE.replace('name: tools', 'name: other')}, packages: [jq]}}",
            "only one can bring it",
        ),
    ],
)
def test_a_wrong_source_is_refused_with_the_reason(tmp_path: Path, source: str, said: str) -> None:
    with pytest.raises(DocumentError, match=r"sources|image\.yaml") as caught:
        definition_of(with_key(tmp_path), f"id: host\nsources: [{source}]\n")
    assert said in str(caught.value)


def test_the_components_of_debian_hold_main(tmp_path: Path) -> None:
    found = definition_of(tmp_path, "id: host\ncomponents: [main, contrib, non-free-firmware, non-free]\n")
    assert found.components == tuple(DebianComponent)
    with pytest.raises(DocumentError, match="must hold main"):
        definition_of(tmp_path, "id: host\ncomponents: [contrib]\n")
    with pytest.raises(DocumentError, match="must be one of"):
        definition_of(tmp_path, "id: host\ncomponents: [universe]\n")


def test_a_package_of_the_folder_is_an_entry_that_begins_with_a_dot(tmp_path: Path) -> None:
    (tmp_path / "debs").mkdir()
    (tmp_path / "debs/probe_1.0~a+b_amd64.deb").write_bytes(b"x")
    found = definition_of(tmp_path, "id: host\npackages: [curl, ./debs/probe_1.0~a+b_amd64.deb]\n")
    assert found.local_packages == ("debs/probe_1.0~a+b_amd64.deb",)


@pytest.mark.parametrize("entry", ["./../probe.deb", "./a/../../probe.deb", "/etc/probe.deb", "probe.deb/", "./probe"])
def test_a_package_outside_the_folder_is_refused(tmp_path: Path, entry: str) -> None:
    with pytest.raises(DocumentError, match=r"a Debian package name, or a \.deb file"):
        definition_of(tmp_path, f"id: host\npackages: ['{entry}']\n")


def test_a_package_that_is_not_in_the_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"packages\[0\].*probe\.deb is not a file"):
        definition_of(tmp_path, "id: host\npackages: [./probe.deb]\n")


@pytest.mark.parametrize(("name", "said"), [("mkosi.sandbox", "name the repository"), ("mkosi.packages", "as ./NAME")])
def test_folders_of_mkosi_that_would_bring_packages_past_the_lock_are_refused(
    tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / name).mkdir()
    write_definition(tmp_path)
    with pytest.raises(DocumentError, match="has no effect") as caught:
        definition_of(tmp_path, "id: host\n")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("file:///srv/debian/", "file:/srv/debian"),
        ("copy:/srv/debian", "copy:/srv/debian"),
        ("https://mirror.test/debian//", "https://mirror.test/debian"),
    ],
)
def test_an_archive_has_one_spelling_which_is_that_of_apt(text: str, url: str) -> None:
    assert archive_url(text) == url
