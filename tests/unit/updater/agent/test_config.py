"""The layers of the configuration and the mistakes in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedrock.errors import DocumentError
from updater.agent.config import Config, RebootPolicy, Sources, TimeOfDay, load, merge, sources


@pytest.fixture
def layers(tmp_path: Path) -> Sources:
    (tmp_path / "drop").mkdir()
    return Sources(tmp_path / "baked.yaml", tmp_path / "host.yaml", tmp_path / "drop", (tmp_path / "credential",))


def test_without_any_file_everything_has_a_default(layers: Sources) -> None:
    config = load(layers)
    assert config == Config()
    assert config.url is None
    assert config.reboot.policy is RebootPolicy.IMMEDIATE


def test_later_layers_override_key_by_key(layers: Sources) -> None:
    layers.baked.write_text("url: http://a\nchannel: stable\nhealth: {units: [a.service], timeout: 30s}\n")
    layers.host.write_text("health: {timeout: 40s}\n")
    (layers.drop_ins / "20-b.yaml").write_text("channel: beta\n")
    (layers.drop_ins / "10-a.yaml").write_text("channel: alpha\npoll_interval: 10s\n")
    layers.credentials[0].write_text("url: https://b/x\n")
    config = load(layers)
    assert (config.url, config.channel, config.poll_interval) == ("https://b/x", "beta", 10.0)
    assert (config.health.units, config.health.timeout) == (("a.service",), 40.0)


def test_a_mistake_names_the_file_that_made_it_and_the_key(layers: Sources) -> None:
    layers.baked.write_text("url: http://a\nchannel: stable\n")
    layers.host.write_text("reboot: {policy: sometimes, window: {start: '25:00'}}\npoll: 5\ntries: 0\n")
    with pytest.raises(DocumentError) as caught:
        load(layers)
    assert caught.value.source == str(layers.host)
    assert {problem.path for problem in caught.value.problems} == {
        "reboot.policy",
        "reboot.window.start",
        "poll",
        "tries",
    }


@pytest.mark.parametrize("text", ["- a\n", "just text\n"])
def test_a_layer_that_is_no_mapping_is_refused(layers: Sources, text: str) -> None:
    layers.host.write_text(text)
    with pytest.raises(DocumentError, match="mapping"):
        load(layers)


@pytest.mark.parametrize("url", ["ftp://a", "http://a/?x", "file:///etc", "http://a b"])
def test_a_url_of_another_kind_is_refused(layers: Sources, url: str) -> None:
    layers.host.write_text(f"url: {url!r}\n")
    with pytest.raises(DocumentError, match="url"):
        load(layers)


def test_a_units_own_credentials_come_before_the_systems() -> None:
    found = sources("/run/credentials/twinhull-updater.service").credentials
    assert [str(path) for path in found] == [
        "/run/credentials/twinhull-updater.service/twinhull.updater",
        "/run/credentials/@system/twinhull.updater",
    ]
    assert len(sources(None).credentials) == 1


def test_merging_does_not_change_what_lies_below() -> None:
    below = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert merge(below, {"a": {"b": 3}, "d": [2]}) == {"a": {"b": 3, "c": 2}, "d": [2]}
    assert below == {"a": {"b": 1, "c": 2}, "d": [1]}


@pytest.mark.parametrize("text", ["3:00", "24:00", "03:60", "0300", "", "aa:bb", "03:00:00"])
def test_a_time_of_day_has_one_form(text: str) -> None:
    with pytest.raises(ValueError, match="00:00 to 23:59"):
        TimeOfDay.from_text(text)
