"""What of a host's /etc outlives a boot: names that an image may list, and what they stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.etc_policy import BASE, MAX_NAMES, EtcMode, EtcPolicy, KeptName, parse_policy

NAMES = [
    "app/settings",
    "app/*.conf",
    "app/",
    "hosts",
    "motd",
    "containers/registries.conf.d/",
    "nftables.conf",
    ".hid",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_an_operators_own_files_can_be_listed(name: str) -> None:
    assert str(KeptName.from_text(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        *("ld.so.preload", "ld.so.conf", "ld.so.conf.d/", "ld.so.cache", "systemd/", "systemd/system/x.service"),
        *("systemd/network/", "udev/rules.d/x.rules", "tmpfiles.d/", "sysusers.d/", "modprobe.d/", "modules-load.d/"),
        *("sysctl.d/", "sysctl.conf", "pam.d/sshd", "security/", "sudoers", "sudoers.d/", "profile", "profile.d/x.sh"),
        *(
            "cron.d/",
            "crontab",
            "containers/systemd/",
            "containers/systemd/web.container",
            "passwd",
            "shadow",
            "userdb/",
        ),
        *("fstab", "nsswitch.conf", "ssh/sshd_config.d/", "twinhull/health.d/", "environment", "verity.d/x.crt"),
        *("credstore/", "docker/daemon.json", "cdi/", "bash.bashrc", "extensions/", "polkit-1/rules.d/"),
    ],
)
def test_names_by_which_code_could_be_brought_are_refused_with_a_way_out(name: str) -> None:
    with pytest.raises(ValueError, match="cannot persist") as refused:
        KeptName.from_text(name)
    assert "signed provisioning document" in str(refused.value)


@pytest.mark.parametrize(
    "name", ["*", "s*", "*.d", "ld*", "containers/", "containers/*", "ssl/", "prof*", "containers/s*"]
)
def test_names_that_cover_such_a_name_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot persist"):
        KeptName.from_text(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/etc/hosts",
        "../x",
        "app/../x",
        "app/./x",
        ".",
        "a//b",
        "a b",
        "a\nb",
        "*/x",
        "é",
        "/".join("abcdefghi"),
    ],
)
def test_what_is_no_name_below_etc_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a name below /etc"):
        KeptName.from_text(name)


def test_a_folder_stands_for_what_is_in_it_and_a_file_for_itself() -> None:
    folder, file, several = (KeptName.from_text(text) for text in ("app/", "app/x", "app/*.conf"))
    assert folder.matches("app/x")
    assert folder.matches("app/y/z")
    assert not folder.matches("application")
    assert not folder.matches("app/" + "/".join("abcdefghi"))
    assert file.matches("app/x")
    assert not file.matches("app/x/y")
    assert several.matches("app/a.conf")
    assert not several.matches("app/b/a.conf")


def test_accounts_persist_in_no_mode() -> None:
    for mode in EtcMode:
        assert not EtcPolicy(mode).persists("passwd")


def test_each_mode_keeps_what_it_says() -> None:
    overlay, allowlist, volatile = (EtcPolicy(mode) for mode in EtcMode)
    assert overlay.persists("systemd/system/x.service")
    assert allowlist.persists("systemd/network/lan.network")
    assert not allowlist.persists("systemd/network/lan.link")
    assert not allowlist.persists("systemd/system/x.service")
    assert allowlist.persists("twinhull/updater.d/50-provision.yaml")
    assert volatile.persists("machine-id")
    assert not volatile.persists("hostname")
    assert allowlist.passing(["/etc/hostname", "/etc/ld.so.preload", "/var/lib/x"]) == ("/etc/ld.so.preload",)


def test_a_list_without_an_allowlist_is_an_error() -> None:
    with pytest.raises(ValueError, match="no effect with etc: volatile"):
        EtcPolicy(EtcMode.VOLATILE, (KeptName("app/"),))


def test_too_long_a_list_is_an_error() -> None:
    with pytest.raises(ValueError, match=f"{MAX_NAMES} is the most"):
        EtcPolicy(keep=tuple(KeptName(f"a{number}") for number in range(MAX_NAMES + 1)))


@given(st.lists(st.sampled_from(NAMES), unique=True, max_size=5))
def test_a_policy_is_read_as_it_was_written(names: list[str]) -> None:
    policy = EtcPolicy(keep=tuple(map(KeptName, names)))
    assert parse_policy(policy.text()) == policy


@pytest.mark.parametrize("text", ["", "mode x\n", "mode allowlist\nlink a\n", "mode allowlist\nfile\n", "hostname\n"])
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_policy(text)


def test_the_base_comes_first() -> None:
    lines = EtcPolicy(keep=(KeptName("app/"),)).text().splitlines()
    assert lines[0] == "mode allowlist"
    assert lines[1:] == [*(f"file {name}" for name in BASE[EtcMode.ALLOWLIST]), "folder app"]
