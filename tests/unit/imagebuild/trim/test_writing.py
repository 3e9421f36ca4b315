"""Proposals as lines of image.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock import strict
from bedrock.errors import DocumentError
from imagebuild.definition.image import ImageDefinition, load_definition
from imagebuild.errors import TrimError
from imagebuild.paths import DATA
from imagebuild.trim.proposals import Proposal
from imagebuild.trim.writing import added_text, lines_of, with_lines, write_lines

TEXT = """# The image of the shop.
id: shop   # never rename

packages: [curl, jq]  # for the probe
# Big and unused.
drop:
- /usr/share/icons   # no screen
# Sizes.
slots: {root: 1G}
files:
- path: /etc/motd
  content: |
    Hello,
      you.
- {path: /usr/bin/x, content: "a\\tb", mode: "0755"}
"""
LINES = {"drop": ("/usr/bin/?", "/usr/share/x"), "drop_modules": ("drivers/isdn/",)}


def test_comments_order_and_everything_else_stay() -> None:
    changed = with_lines(TEXT, LINES, source="image.yaml")
    before, after = TEXT.splitlines(), changed.splitlines()
    assert [line for line in after if line not in before] == [
        "- /usr/bin/?",
        "- /usr/share/x",
        "drop_modules:",
        "- drivers/isdn/",
    ]
    assert [line for line in before if line not in after] == []
    assert after.index("- /usr/share/x") == after.index("- /usr/bin/?") + 1 < after.index("# Sizes.")


def test_the_definition_reads_as_before_with_the_lines_more() -> None:
    after = strict.read_yaml(ImageDefinition, with_lines(TEXT, LINES, source="x"), source="x")
    assert after.drop == ("/usr/share/icons", "/usr/bin/?", "/usr/share/x")
    assert after.drop_modules == ("drivers/isdn/",)


def test_what_is_there_is_not_added_again() -> None:
    once = with_lines(TEXT, LINES, source="x")
    assert with_lines(once, LINES, source="x") == once
    assert with_lines(TEXT, {"drop": ("/usr/share/icons",)}, source="x") == TEXT


def test_the_starting_definition_takes_lines() -> None:
    text = (DATA / "image.yaml").read_text()
    changed = with_lines(text, LINES, source="x")
    assert strict.read_yaml(ImageDefinition, changed, source="x").drop == LINES["drop"]
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert [line for line in changed.splitlines() if line.startswith("#")] == comments


def test_a_definition_with_errors_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "image.yaml"
    path.write_text("id: x\ndorp: []\n")
    with pytest.raises(DocumentError, match="dorp"):
        write_lines(tmp_path, LINES)
    assert path.read_text() == "id: x\ndorp: []\n"


def test_lines_the_strict_reader_refuses_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "image.yaml"
    path.write_text("id: x\n")
    with pytest.raises(DocumentError, match="a path inside the image"):
        write_lines(tmp_path, {"drop": ("/usr/a b",)})
    assert path.read_text() == "id: x\n"


@pytest.mark.parametrize(
    "text",
    [
        "id: x\ndrop: [/usr/a,  # why\n  /usr/b]\n",
        "id: x\ntrim: {keep: &kept [/usr/a]}\ndrop: *kept\n",
        "id: x\ntrim:\n  keep: &kept\n  - /usr/a\ndrop: *kept\n",
    ],
)
def test_what_cannot_be_added_to_without_another_change_is_left_to_the_user(text: str) -> None:
    with pytest.raises(TrimError, match="without changing something else") as caught:
        with_lines(text, {"drop": ("/usr/x",)}, source="x")
    assert caught.value.hints == ("add the lines by hand",)


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("id: x\n", "id: x\ndrop:\n- /usr/c\ndrop_modules:\n- fs/x/\n"),
        ("id: x", "id: x\ndrop:\n- /usr/c\ndrop_modules:\n- fs/x/\n"),
        ("drop: []  # none\nid: x\n", "drop:  # none\n- /usr/c\ndrop_modules:\n- fs/x/\nid: x\n"),
        ("drop: [/usr/a, '/usr/b']\nid: x\n", "drop:\n- /usr/a\n- '/usr/b'\n- /usr/c\ndrop_modules:\n- fs/x/\nid: x\n"),
        (
            "drop:\n  - /usr/a # a\n\n# id\nid: x\n",
            "drop:\n  - /usr/a # a\n  - /usr/c\ndrop_modules:\n- fs/x/\n\n# id\nid: x\n",
        ),
        ("drop:\n- /usr/a\r\nid: x\r\n", "drop:\n- /usr/a\r\n- /usr/c\ndrop_modules:\n- fs/x/\nid: x\r\n"),
    ],
)
def test_every_byte_that_was_there_stays(text: str, changed: str) -> None:
    assert with_lines(text, {"drop": ("/usr/c",), "drop_modules": ("fs/x/",)}, source="x") == changed


def test_the_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "image.yaml"
    path.write_text(TEXT)
    path.chmod(0o600)
    assert write_lines(tmp_path, LINES) == path
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_definition(tmp_path).drop_modules == ("drivers/isdn/",)


def test_lines_go_under_their_keys_once() -> None:
    proposals = [
        Proposal(("/b", "/a"), modules=False, files=()),
        Proposal(("/b",), modules=False, files=()),
        Proposal(("fs/x/",), modules=True, files=()),
    ]
    assert lines_of(proposals) == {"drop": ("/a", "/b"), "drop_modules": ("fs/x/",)}
    assert added_text(lines_of(proposals)) == "drop:\n- /a\n- /b\ndrop_modules:\n- fs/x/\n"
    assert lines_of([]) == {}


@given(st.lists(st.from_regex(r"/[a-zA-Z0-9*?._+@=~!|&{}<>-]{1,30}", fullmatch=True), min_size=1, unique=True))
def test_any_line_that_may_be_written_is_read_back(paths: list[str]) -> None:
    after = with_lines("id: x\ndrop: []\n", {"drop": paths}, source="x")
    assert strict.read_yaml(ImageDefinition, after, source="x").drop == tuple(paths)
