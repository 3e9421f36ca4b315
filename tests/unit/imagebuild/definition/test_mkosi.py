"""Settings in a definition's own mkosi files: taken over, or refused with what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedrock.errors import DocumentError
from imagebuild.definition.mkosi import HONOURED, refused_settings
from tests.fakes.definitions import definition_of

KEYS = {
    "Architecture": "architecture",
    "Hostname": "hostname",
    "ImageId": "id",
    "KernelCommandLine": "kernel_arguments",
    "KernelModulesIncludeHost": "keep_modules",
    "KernelModulesInitrdInclude": "drivers",
    "Keymap": "files",
    "Locale": "locale",
    "Mirror": "mirror",
    "PackageDirectories": "packages",
    "Release": "release",
    "RepartDirectories": "slots",
    "Repositories": "components",
    "RepositoryKeyCheck": "sources",
    "RootPassword": "ssh",
    "SandboxTrees": "sources",
    "Ssh": "ssh",
    "Timezone": "timezone",
    "WithDocs": "keep",
    "WithRecommends": "packages",
}


def refused(**changed: object) -> dict[str, str]:
    before: dict[str, object] = {"Packages": ["systemd"], "Files": ["a"], "Locale": None}
    return {problem.path: problem.message for problem in refused_settings(before, before | changed)}


@pytest.mark.parametrize(("setting", "key"), KEYS.items())
def test_a_setting_that_a_key_says_is_refused_with_that_key(setting: str, key: str) -> None:
    found = refused(**{setting: "something"})
    assert set(found) == {setting}
    assert f"`{key}`" in found[setting]


@pytest.mark.parametrize("setting", ["Format", "RAM", "Seed", "ImageVersion", "SomethingOfANewerMkosi"])
def test_a_setting_that_no_key_says_is_refused_too(setting: str) -> None:
    assert set(refused(**{setting: "something"})) == {setting}


@pytest.mark.parametrize("setting", sorted(HONOURED))
def test_a_setting_that_is_taken_over_is_no_problem(setting: str) -> None:
    assert refused(**{setting: ["something"], "Files": ["a", "b"]}) == {}


def test_a_setting_that_is_gone_counts_as_well() -> None:
    assert [problem.path for problem in refused_settings({"Locale": "C.UTF-8"}, {})] == ["Locale"]


def test_what_mkosi_makes_of_a_setting_is_not_reported_with_it() -> None:
    assert set(refused(Mirror="http://m.test", ToolsTreeMirror="http://m.test")) == {"Mirror"}
    assert set(refused(ToolsTreeMirror="http://m.test")) == {"ToolsTreeMirror"}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("mkosi.sandbox", "sources"),
        ("mkosi.packages", "packages"),
        ("mkosi.images", ""),
        ("mkosi.profiles", ""),
        ("mkosi.local.conf", ""),
    ],
)
def test_files_that_an_included_folder_gives_no_effect_are_refused(tmp_path: Path, name: str, key: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(DocumentError) as caught:
        definition_of(tmp_path, "id: host\n")
    (problem,) = caught.value.problems
    assert problem.path == key
    assert str(tmp_path / name) in problem.message
