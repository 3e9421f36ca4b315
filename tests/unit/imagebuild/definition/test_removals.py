"""What must hold of `keep` and `drop` together."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedrock.errors import DocumentError
from tests.fakes.definitions import definition_of


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("keep: [/usr/../etc]", "keep must not hold"),
        ("drop: [/usr/../etc]", "drop must not hold"),
        ("keep_modules: ['*/']", "keep_modules must not hold"),
        ("drop_modules: [a/../b/]", "drop_modules must not hold"),
        ("keep: [/usr/a]\ndrop: [/usr/a]", "/usr/a: under both keep and drop"),
        ("keep_modules: [fs/a/]\ndrop_modules: [fs/a/]", "fs/a/: under both keep_modules and drop_modules"),
    ],
)
def test_lines_that_cannot_be_meant_are_refused(lines: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=message.replace("*", "[*]")):
        definition_of(tmp_path, f"id: host\n{lines}\n")


def test_a_narrow_drop_within_a_wide_keep_is_allowed(tmp_path: Path) -> None:
    assert definition_of(tmp_path, "id: host\nkeep: [/usr/a]\ndrop: [/usr/a/b]\n").keep == ("/usr/a",)
