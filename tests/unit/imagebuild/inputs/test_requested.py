"""The packages that a definition requests, as mkosi reads it; a fake plays mkosi."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bedrock.errors import DocumentError, ProcessError
from bedrock.process import Finished
from imagebuild.definition.image import BuildProfile
from imagebuild.definition.initrd import load_content
from imagebuild.errors import BuildError
from imagebuild.inputs.requested import RequestedPackages, asked_packages
from tests.fakes.definitions import definition_of
from tests.fakes.played_tools import Call, PlayedTools


@dataclass(frozen=True)
class PlayedMkosi(PlayedTools):
    """Reads the packages of the configuration itself; of one that is included, only whether it is.

    Attributes:
        included: The settings that a configuration which is included makes.
        fails: How it ends when it does not accept the configuration.
        debug: What it finds more with the debug profile.
        texts: The configurations it was given.
        meeting: Where those that run at the same time wait for each other.
    """

    included: Mapping[str, object] = field(default_factory=dict)
    fails: ProcessError | None = None
    debug: tuple[str, ...] = ()
    texts: list[str] = field(default_factory=list)
    meeting: list[threading.Barrier] = field(default_factory=list)

    def play(self, call: Call) -> Finished:
        cwd = call.cwd
        assert cwd is not None
        assert call.words == ["mkosi", "--directory", str(cwd), "--json", "summary"]
        if self.fails is not None:
            raise self.fails
        text = (cwd / "mkosi.conf").read_text()
        self.texts.append(text)
        for each in self.meeting:
            each.wait(timeout=60)
        names = [
            name for found in re.findall(r"^Packages=(.*(?:\n +\S+)*)", text, re.MULTILINE) for name in found.split()
        ]
        packages = [*names, *(self.debug if "Packages=login" in text else ())]
        image: dict[str, object] = {"Packages": packages, "VolatilePackages": ["late"]}
        if "[Include]" in text:
            image |= self.included
        return call.end(json.dumps({"Images": [{"Packages": ["other"]}, {**image, "BuildPackages": None}]}))


def asked_of(folder: Path, tools: PlayedMkosi) -> RequestedPackages:
    definition = definition_of(folder / "host", "id: host\npackages: [zsh, curl]\n")
    return asked_packages(folder / "host", definition, tools=tools)


def test_all_lists_of_the_image_are_taken_together(tmp_path: Path) -> None:
    asked = asked_of(tmp_path, PlayedMkosi(tmp_path))
    assert {"curl", "zsh", "late", "linux-image-cloud-amd64"} <= set(asked.root[None])
    assert "other" not in asked.root[None]
    assert list(asked.root[None]) == sorted(set(asked.root[None]))


def test_every_profile_is_asked_for(tmp_path: Path) -> None:
    tools = PlayedMkosi(tmp_path, debug=("strace",))
    asked = asked_of(tmp_path, tools)
    assert set(asked.root) == {None, *BuildProfile}
    assert "strace" in asked.root[BuildProfile.DEBUG]
    assert "strace" not in asked.root[None]
    assert asked.lists == (asked.root[None], asked.root[BuildProfile.DEBUG], asked.initrd)
    assert len(tools.texts) == len(set(tools.texts))


def test_profiles_are_asked_for_at_the_same_time(tmp_path: Path) -> None:
    # Whoever came alone would be thrown out.
    tools = PlayedMkosi(tmp_path, meeting=[threading.Barrier(1 + len(BuildProfile))])
    assert asked_of(tmp_path, tools).root[None]


def test_a_profile_that_adds_no_package_gives_no_list_of_its_own() -> None:
    asked = RequestedPackages({None: ("curl",), BuildProfile.DEBUG: ("curl",)}, ("busybox",))
    assert asked.lists == (("curl",), ("busybox",))


def test_the_initrd_asks_for_the_packages_of_its_programs(tmp_path: Path) -> None:
    asked = asked_of(tmp_path, PlayedMkosi(tmp_path))
    assert asked.initrd == load_content().packages
    assert {f"initrd: {name}" for name in asked.initrd} <= set(asked.lines)


def test_the_lines_of_a_lock_hold_every_name_once(tmp_path: Path) -> None:
    lines = asked_of(tmp_path, PlayedMkosi(tmp_path, debug=("strace",))).lines
    assert "root: strace" in lines
    assert list(lines) == sorted(set(lines))


def test_the_definitions_own_mkosi_files_are_asked_too(tmp_path: Path) -> None:
    alone = PlayedMkosi(tmp_path)
    asked_of(tmp_path, alone)
    assert not any("[Include]" in text for text in alone.texts)
    (tmp_path / "host/mkosi.conf").write_text("[Content]\nPackages=jq\n")
    tools = PlayedMkosi(tmp_path)
    asked_of(tmp_path, tools)
    # The one without them is what the others are compared with.
    including = [text for text in tools.texts if f"Include={tmp_path / 'host'}\n" in text]
    assert len(including) == len({None, *BuildProfile}) == len(tools.texts) - 1
    assert all(tmp_path / "host" in call.access.read for call in tools.calls)


def test_a_configuration_that_mkosi_does_not_accept_is_told_with_what_it_said(tmp_path: Path) -> None:
    tools = PlayedMkosi(tmp_path, fails=ProcessError("mkosi failed", returncode=1, tail="Unknown setting Foo"))
    with pytest.raises(BuildError, match=r"(?s)next to .*image\.yaml\nUnknown setting Foo"):
        asked_of(tmp_path, tools)


def test_what_a_build_does_not_take_from_mkosi_files_is_refused_with_the_file_that_says_it(tmp_path: Path) -> None:
    folder = tmp_path / "host"
    (folder / "mkosi.conf.d").mkdir(parents=True)
    (folder / "mkosi.conf").write_text("[Content]\n# Timezone=UTC\nPackages=jq\n")
    (folder / "mkosi.conf.d/10-time.conf").write_text("[Content]\nTimezone = Europe/Berlin\n")
    files = [str(folder / "mkosi.conf"), str(folder / "mkosi.conf.d/10-time.conf"), "/elsewhere/mkosi.conf"]
    settings = {"Timezone": "Europe/Berlin", "ImageVersion": "7", "RemoveFiles": ["/usr/x"], "Files": files}
    with pytest.raises(DocumentError) as caught:
        asked_of(tmp_path, PlayedMkosi(tmp_path, included=settings))
    assert caught.value.source == str(folder)
    assert [problem.path for problem in caught.value.problems] == [
        "mkosi.*: ImageVersion",
        "mkosi.conf.d/10-time.conf: Timezone",
    ]
    assert "`timezone` in image.yaml" in caught.value.problems[1].message


def test_what_a_build_takes_from_mkosi_files_is_taken(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host/mkosi.postinst").touch()
    settings = {"PostInstallationScripts": ["mkosi.postinst"], "BuildPackages": ["gcc"], "Files": []}
    asked = asked_of(tmp_path, PlayedMkosi(tmp_path, included=settings))
    assert "curl" in asked.root[None]
