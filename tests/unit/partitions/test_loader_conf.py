"""What the two boot loaders are told."""

from __future__ import annotations

from partitions.entries import BootEntry
from partitions.loader_conf import SECOND_CONF_BYTES, first_conf, second_conf
from partitions.version import Version


def test_the_loader_shows_no_menu_and_no_editor() -> None:
    assert {"timeout 0", "editor no"} <= set(first_conf().splitlines())


def test_the_second_loader_prefers_one_entry_whatever_its_counter_and_its_file_is_one_sector() -> None:
    entry = BootEntry("host", Version("1.0.0"))
    conf = second_conf(entry)
    assert len(conf) == SECOND_CONF_BYTES
    assert conf == second_conf(entry.as_guarded())
    lines = conf.decode().splitlines()
    assert f"default {entry.loader_pattern}" in lines
    assert set(first_conf().splitlines()) <= set(lines)


def test_the_longest_name_fits() -> None:
    assert len(second_conf(BootEntry("h" * 63, Version("1" * 64)))) == SECOND_CONF_BYTES
