"""Links between our pages lead somewhere, and every page can be found from the README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.fenced_blocks import ROOT, pages

_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#]*)(?:#([^)]*))?\)")
_FENCED = re.compile(r"^ *(```+).*?^ *\1", re.MULTILINE | re.DOTALL)


def links(page: str) -> list[tuple[Path, str]]:
    """The files and headings that a page leads to."""
    text = _FENCED.sub("", (ROOT / page).read_text())
    return [
        ((ROOT / page).parent / path if path else ROOT / page, anchor or "") for path, anchor in _LINK.findall(text)
    ]


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", _FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: str) -> None:
    for path, anchor in links(page):
        assert path.exists(), f"{page}: {path} is not there"
        assert not anchor or anchor in anchors(path), f"{page}: {path.name} has no heading {anchor}"


def test_every_page_is_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    left = [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page not in seen and page.suffix == ".md":
            seen.add(page)
            left += [path.resolve() for path, _ in links(page.relative_to(ROOT).as_posix())]
    assert {ROOT / page for page in pages()} <= seen
