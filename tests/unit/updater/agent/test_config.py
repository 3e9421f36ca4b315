"""The layers of the configuration and the errors in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from updater.agent import config as configuration
from updater.agent.config import Config, Sources, merge
from updater.agent.health_settings import CheckSettings, Health, Need
from updater.agent.host_paths import HostPaths
from updater.agent.reboot_settings import RebootPolicy
from updater.week import TimeOfDay


@pytest.fixture
def layers(tmp_path: Path) -> Sources:
    (tmp_path / "drop").mkdir()
    return Sources(tmp_path / "baked.yaml", tmp_path / "host.yaml", tmp_path / "drop", (tmp_path / "credential",))


def load(layers: Sources) -> Config:
    """The settings of layers with nothing wrong in them."""
    loaded = configuration.load(layers)
    assert loaded.problems == ()
    assert loaded.image_is_sound
    return loaded.config


def problem_paths(loaded: configuration.Loaded) -> dict[str, set[str]]:
    return {error.source: {problem.path for problem in error.problems} for error in loaded.problems}


def test_without_any_file_everything_has_a_default(layers: Sources) -> None:
    config = load(layers)
    assert config == Config()
    assert config.url is None
    assert config.reboot.policy is RebootPolicy.IMMEDIATE


def test_later_layers_override_key_by_key(layers: Sources) -> None:
    layers.baked.write_text("url: http://a\nchannel: stable\nhealth: {checks: {a: {unit: a.service}}, timeout: 30s}\n")
    layers.host.write_text("health: {timeout: 40s, checks: {a: {need: wanted}}}\n")
    (layers.drop_ins / "20-b.yaml").write_text("channel: beta\n")
    (layers.drop_ins / "10-a.yaml").write_text("channel: alpha\npoll_interval: 10s\n")
    layers.credentials[0].write_text("url: https://b/x\n")
    config = load(layers)
    assert (config.url, config.channel, config.poll_interval) == ("https://b/x", "beta", 10.0)
    assert config.health.timeout == 40.0
    assert config.health.checks == {"a": CheckSettings(unit="a.service", need=Need.WANTED)}


def test_what_is_wrong_is_ignored_key_by_key_and_reported_with_its_file(layers: Sources) -> None:
    layers.baked.write_text("url: http://a\nchannel: stable\ntries: 2\nreboot: {policy: manual}\n")
    layers.host.write_text(
        "enabled: false\nchannel: beta\npoll: 5\ntries: 0\n"
        "reboot: {policy: sometimes, retry_interval: 0, patience: 2h}\n"
        "health: {checks: {a: {unit: a.service}, b: {unit: 'b b'}}}\n"
    )
    loaded = configuration.load(layers)
    wrong = {"reboot.policy", "reboot.retry_interval", "poll", "tries", "health.checks.b.unit"}
    assert problem_paths(loaded) == {str(layers.host): wrong}
    config = loaded.config
    # Not undone by the errors next to them:
    assert (config.enabled, config.channel, config.reboot.patience) == (False, "beta", 7200.0)
    # As the image says:
    assert (config.url, config.tries, config.reboot.policy) == ("http://a", 2, RebootPolicy.MANUAL)
    assert config.health.checks == {"a": CheckSettings(unit="a.service")}
    assert loaded.image_is_sound


@pytest.mark.parametrize("text", ["- a\n", "just text\n", "a: [\n", "url: x\nurl: y\n", "\x00"])
def test_a_layer_that_is_no_mapping_is_ignored_as_a_whole(layers: Sources, text: str) -> None:
    layers.baked.write_text("channel: stable\n")
    layers.host.write_text(text)
    (layers.drop_ins / "10-a.yaml").write_text("tries: 5\n")
    loaded = configuration.load(layers)
    assert problem_paths(loaded) == {str(layers.host): {""}}
    assert (loaded.config.channel, loaded.config.tries) == ("stable", 5)


def test_an_error_in_one_layer_is_not_blamed_on_the_next(layers: Sources) -> None:
    layers.host.write_text("poll: 5\n")
    (layers.drop_ins / "10-a.yaml").write_text("tries: 5\n")
    (layers.drop_ins / "20-b.yaml").write_text("triez: 5\n")
    assert problem_paths(configuration.load(layers)) == {
        str(layers.host): {"poll"},
        str(layers.drop_ins / "20-b.yaml"): {"triez"},
    }


def test_an_image_with_wrong_settings_of_its_own_is_not_sound(layers: Sources) -> None:
    layers.baked.write_text("channel: stable\npoll: 5\n")
    loaded = configuration.load(layers)
    assert not loaded.image_is_sound
    assert loaded.config.channel == "stable"


@pytest.mark.parametrize("name", ["baked", "host"])
def test_a_layer_that_cannot_be_read_is_ignored_and_reported(layers: Sources, name: str) -> None:
    layers.baked.write_text("channel: stable\n")
    layers.host.write_text("tries: 5\n")
    broken: Path = getattr(layers, name)
    broken.unlink()
    # A file that can be opened, and whose first byte is not there.
    broken.symlink_to("/proc/self/mem")
    loaded = configuration.load(layers)
    assert str(loaded.problems[0]) == f"{broken}: cannot be read: Input/output error"
    assert loaded.image_is_sound is (name != "baked")


@pytest.mark.parametrize("url", ["ftp://a", "http://a/?x", "file:///etc", "http://a b"])
def test_a_url_of_another_kind_is_ignored(layers: Sources, url: str) -> None:
    layers.host.write_text(f"url: {url!r}\n")
    assert problem_paths(configuration.load(layers)) == {str(layers.host): {"url"}}


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("5min", 300), ("90s", 90), ("2h", 7200), ("1h 30m", 5400), ("1d", 86400)]
)
def test_durations_are_written_as_people_write_them(layers: Sources, text: str, seconds: float) -> None:
    layers.host.write_text(f"poll_interval: {text}\n")
    assert load(layers).poll_interval == seconds


@pytest.mark.parametrize(("text", "bytes_per_s"), [("2M", 2 << 20), ("16K", 16 << 10), ("1K", None), ("0", None)])
def test_a_bandwidth_too_narrow_to_get_on_is_ignored(layers: Sources, text: str, bytes_per_s: int | None) -> None:
    layers.host.write_text(f"bandwidth: {text}\n")
    assert configuration.load(layers).config.bandwidth == bytes_per_s


def test_a_units_own_credentials_come_before_the_systems() -> None:
    found = HostPaths().settings("/run/credentials/twinhull-updater.service").credentials
    assert [str(path) for path in found] == [
        "/run/credentials/twinhull-updater.service/twinhull.updater",
        "/run/credentials/@system/twinhull.updater",
    ]
    assert HostPaths().settings(None) == Sources()


def test_a_host_that_is_a_folder_has_its_settings_below_it_and_no_credentials_of_a_unit(tmp_path: Path) -> None:
    found = HostPaths(tmp_path).settings("/run/credentials/twinhull-updater.service")
    assert found.baked == tmp_path / "usr/lib/twinhull/updater.yaml"
    assert found.host == tmp_path / "etc/twinhull/updater.yaml"
    assert found.drop_ins == tmp_path / "etc/twinhull/updater.d"
    assert found.credentials == (tmp_path / "run/credentials/@system/twinhull.updater",)


def test_a_password_in_the_settings_is_never_shown(layers: Sources) -> None:
    layers.host.write_text(
        "url: https://me:hunter2@a/x\nmirrors: ['http://me:hunter2@b']\nproxy: http://me:hunter2@proxy:3128\n"
    )
    config = load(layers)
    assert config.urls == ("https://me:hunter2@a/x", "http://me:hunter2@b")
    shown = config.without_passwords()
    assert (shown.url, shown.mirrors, shown.proxy) == ("https://a/x", ("http://b",), "http://proxy:3128")
    # Nor where a wrong one is reported.
    layers.host.write_text("url: 'https://me:hunter2@a b'\nproxy: 'me:hunter2@proxy'\n")
    problems = configuration.load(layers).problems
    assert problems
    assert "hunter2" not in str(problems)
    assert "hunter2" not in "".join(str(error) for error in problems)


def test_merging_does_not_change_what_lies_below() -> None:
    below = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert merge(below, {"a": {"b": 3}, "d": [2]}) == {"a": {"b": 3, "c": 2}, "d": [2]}
    assert below == {"a": {"b": 1, "c": 2}, "d": [1]}


@pytest.mark.parametrize("text", ["3:00", "24:00", "03:60", "0300", "", "aa:bb", "03:00:00"])
def test_a_time_of_day_has_one_form(text: str) -> None:
    with pytest.raises(ValueError, match="00:00 to 23:59"):
        TimeOfDay.from_text(text)


@pytest.mark.parametrize("path", ["/var/lib/x", "/opt/x", "/root/x", "/run/x", "/etc/../var/x", "/usr/..", "x", "/"])
@pytest.mark.parametrize("key", ["checks_dirs", "program"])
def test_programs_that_a_disk_could_bring_are_ignored(layers: Sources, path: str, key: str) -> None:
    said = f"checks_dirs: ['{path}']" if key == "checks_dirs" else f"checks: {{x: {{program: '{path}'}}}}"
    layers.host.write_text(f"channel: beta\nhealth: {{{said}}}\n")
    loaded = configuration.load(layers)
    assert loaded.config.channel == "beta"
    assert (loaded.config.health.checks, loaded.config.health.checks_dirs) == ({}, Health().checks_dirs)
    (problem,) = loaded.problems
    assert "below /usr or /etc" in str(problem)


@pytest.mark.parametrize("path", ["/usr/lib/twinhull/x", "/etc/twinhull/health.d/x", "/usr/lib/a..b/x", "/bin/true"])
def test_programs_of_the_image_and_of_a_document_count(layers: Sources, path: str) -> None:
    layers.host.write_text(f"health: {{checks: {{x: {{program: {path}}}}}, checks_dirs: [{path}]}}\n")
    health = load(layers).health
    assert health.checks["x"].program == path
    assert health.checks_dirs == (path,)
