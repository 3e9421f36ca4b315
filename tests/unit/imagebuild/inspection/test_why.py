"""Why a path is in an image, or is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bedrock import strict
from imagebuild.inspection.cli import inspect
from imagebuild.inspection.contents import CONTENTS_FILE, FORMAT, Contents, EntryKind, ImageEntry, Package
from imagebuild.inspection.why import PathState, explain
from imagebuild.steps.leave_out.reach import Reason
from imagebuild.steps.leave_out.rules import load_rules
from partitions.version import Version

CONTENTS = Contents(
    format=FORMAT,
    image="host",
    version=Version("1.0.0"),
    asked={"curl": "image.yaml: packages"},
    packages=(Package("curl", "1", "amd64", "curl", "1", "", (), ()),),
    entries=tuple(
        ImageEntry(path, EntryKind.FILE, 0o644, 1, owner)
        for path, owner in (
            ("/usr/bin/curl", "curl"),
            ("/usr/bin/openssl", "openssl"),
            ("/usr/lib/liba.so", "liba"),
            ("/usr/lib/libb.so", "libb"),
            ("/etc/machine-id", "(build)"),
        )
    ),
    stays={
        "/usr/lib/libb.so": Reason("is linked to it", "/usr/lib/liba.so"),
        "/usr/lib/liba.so": Reason("is linked to it", "/usr/bin/curl"),
        "/usr/bin/openssl": Reason("image.yaml: keep"),
    },
)


@pytest.mark.parametrize(
    ("path", "state", "chain"),
    [
        (
            "/lib/libb.so",
            PathState.STAYS,
            (
                "/usr/lib/liba.so is linked to it",
                "/usr/bin/curl is linked to it",
                "/usr/bin/curl came with image.yaml: packages → curl",
            ),
        ),
        ("/usr/bin/openssl", PathState.STAYS, ("image.yaml: keep",)),
        ("/usr/bin/curl", PathState.PRESENT, ("/usr/bin/curl came with image.yaml: packages → curl",)),
        ("/etc/machine-id", PathState.PRESENT, ("/etc/machine-id came with (build)",)),
        ("/usr/share/man/man1", PathState.LEFT_OUT, ("documentation and translations: nobody reads it on a host",)),
    ],
)
def test_a_path_is_explained_from_itself_to_its_cause(path: str, state: PathState, chain: tuple[str, ...]) -> None:
    found = explain(CONTENTS, load_rules(), path)
    assert (found.state, found.chain) == (state, chain)


def test_what_nothing_brought_is_absent() -> None:
    assert explain(CONTENTS, load_rules(), "/usr/bin/none").state is PathState.ABSENT


def test_the_command_prints_it_for_people_and_for_programs(tmp_path: Path) -> None:
    (tmp_path / CONTENTS_FILE).write_bytes(strict.dump_json(CONTENTS))
    words = [str(tmp_path), "--why", "/usr/lib/liba.so"]
    shown = CliRunner().invoke(inspect, words)
    assert shown.exit_code == 0
    assert "/usr/bin/curl is linked to it" in shown.stdout
    printed = json.loads(CliRunner().invoke(inspect, [*words, "--json"]).stdout)
    assert printed["state"] == "stays"
    assert printed["owner"] == "liba"
