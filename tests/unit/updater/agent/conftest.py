"""Fixtures of the agent's tests: a host that lives through updates, and a site with signed metadata."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.http_server import Site, serving
from tests.fakes.metadata_client import CHANNEL, RELEASE
from tests.fakes.story import Story, make_story
from tests.fakes.tuf_site import SignedSite


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return make_story(tmp_path)


@pytest.fixture
def signed() -> Iterator[SignedSite]:
    with serving(Site()) as site:
        made = SignedSite(site)
        made.put(RELEASE.target_path, RELEASE)
        made.put(CHANNEL.target_path, CHANNEL)
        made.write()
        yield made
