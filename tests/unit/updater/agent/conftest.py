"""Fixtures of the agent's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.story import Story, make_story


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return make_story(tmp_path)
