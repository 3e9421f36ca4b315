"""The host's layer of /etc as the initrd lays it: what an edit of the disk of a host that was off can bring."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from tests.fakes.played_initrd import PlayedInitrd
from updater.etc_policy import EtcMode, EtcPolicy, KeptName

APP = EtcPolicy(keep=(KeptName("app/"), KeptName("app.conf"), KeptName("rules/*.nft")))
LEFT_BEHIND = "twinhull: not all edits of /etc persist, see updater etc-diff"
IN_MEMORY = "twinhull: edits of /etc cannot be kept, they last for this boot only"
MACHINE_ID = "0123456789abcdef0123456789abcdef\n"


def layer(machine: PlayedInitrd, name: str = "upper") -> Path:
    return machine.root / "sysroot/var/lib/twinhull/etc" / name


def edit(machine: PlayedInitrd, path: str, text: str = "x\n", *, mode: int = 0o644) -> Path:
    """Write a file into the host's layer, as somebody who has the disk does."""
    place = layer(machine) / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    place.chmod(mode)
    return place


def kept(machine: PlayedInitrd) -> set[str]:
    upper = layer(machine)
    return {str(path.relative_to(upper)) for path in upper.rglob("*") if path.is_symlink() or not path.is_dir()}


def upper_option(machine: PlayedInitrd) -> str:
    (words,) = (words for words in machine.calls_of("mount") if "-t overlay" in words)
    return words.partition("upperdir=")[2].partition(",")[0]


def handed_over(machine: PlayedInitrd) -> bool:
    return machine.calls[-1].startswith("switch_root")


def test_what_the_image_lists_persists_with_content_and_mode(machine: PlayedInitrd) -> None:
    machine.etc = APP.text()
    (machine.root / "sysroot/etc/app").mkdir(parents=True)
    (machine.root / "sysroot/etc/app").chmod(0o750)
    for path in ("hostname", "app.conf", "app/a", "app/b/c/d", "rules/one.nft", "twinhull/updater.d/10-a.yaml"):
        edit(machine, path, f"{path}\n", mode=0o640)
    edit(machine, "machine-id", MACHINE_ID, mode=0o444)
    edit(machine, "systemd/network/lan.network", "[Match]\nName=*\n")
    before = kept(machine)
    machine.boot()
    assert kept(machine) == before
    assert (layer(machine) / "app/b/c/d").read_text() == "app/b/c/d\n"
    assert stat.S_IMODE((layer(machine) / "app/a").stat().st_mode) == 0o640
    # A folder of the image keeps the mode it has there.
    assert stat.S_IMODE((layer(machine) / "app").stat().st_mode) == 0o750
    assert upper_option(machine) == "/sysroot/var/lib/twinhull/etc/upper"
    assert machine.said == []
    assert not layer(machine, "refused").exists()
    assert not (machine.root / "run/twinhull").exists()
    assert handed_over(machine)


@pytest.mark.parametrize(
    "path",
    [
        "ld.so.preload",
        "ld.so.conf.d/x.conf",
        "systemd/system/evil.service",
        "systemd/system/multi-user.target.wants/evil.service",
        "systemd/network/evil.link",
        "systemd/network/lan.network.d/evil.conf",
        "udev/rules.d/99-evil.rules",
        "tmpfiles.d/evil.conf",
        "containers/systemd/evil.container",
        "profile.d/evil.sh",
        "cron.d/evil",
        "fstab",
        "twinhull/health.d/evil",
        "twinhull/updater.d/deeper/x.yaml",
        "app.conf.d/x",
        "rules/deeper/x.nft",
    ],
)
def test_what_the_image_does_not_list_is_set_aside(machine: PlayedInitrd, path: str) -> None:
    machine.etc = APP.text()
    edit(machine, path, "evil\n", mode=0o755)
    edit(machine, "hostname", "mine\n")
    machine.boot()
    assert kept(machine) == {"hostname"}
    assert (layer(machine, "refused") / path).read_text() == "evil\n"
    assert (machine.root / "run/twinhull/etc-refused").exists()
    assert machine.said == [LEFT_BEHIND]
    assert handed_over(machine)


def test_only_plain_files_persist(machine: PlayedInitrd) -> None:
    machine.etc = APP.text()
    edit(machine, "app/plain")
    (machine.root / "outside").mkdir()
    (machine.root / "outside/x.nft").write_text("x")
    (layer(machine) / "app/link").symlink_to("plain")
    (layer(machine) / "app/way-out").symlink_to("/outside")
    (layer(machine) / "app.conf").symlink_to("/outside/x.nft")
    (layer(machine) / "rules").symlink_to("/outside")
    os.mkfifo(layer(machine) / "app/pipe")
    edit(machine, "app/setuid", mode=0o6755)
    edit(machine, "app/huge", "y" * (257 << 10))
    with edit(machine, "app/sparse").open("r+b") as file:
        file.truncate(1 << 40)
    machine.boot()
    assert kept(machine) == {"app/plain", "app/setuid"}
    assert stat.S_IMODE((layer(machine) / "app/setuid").stat().st_mode) == 0o755
    assert handed_over(machine)


def test_no_attribute_of_the_overlay_persists(machine: PlayedInitrd) -> None:
    machine.etc = APP.text()
    place = edit(machine, "app/file")
    for each in (layer(machine), place.parent, place):
        try:
            os.setxattr(each, "trusted.overlay.opaque", b"y")
        except PermissionError:
            pytest.skip("setting trusted attributes takes root")
        os.setxattr(each, "trusted.overlay.redirect", b"/systemd")
    machine.boot()
    for each in (layer(machine), layer(machine) / "app", layer(machine) / "app/file"):
        assert os.listxattr(each) == []


def test_names_that_a_script_could_take_for_something_else_do_not_persist(machine: PlayedInitrd) -> None:
    machine.etc = APP.text()
    edit(machine, "app/good")
    for name in ("two\nlines", "a space", "*", "$(reboot)", "-n", "x;reboot", "\x1b[2J", "é"):
        edit(machine, f"app/{name}")
    edit(machine, "app/bad\nfolder/inside")
    edit(machine, "x \n/*/*/*/*/*/*/y")
    machine.boot()
    assert kept(machine) == {"app/good", "app/-n"}
    assert machine.said == [LEFT_BEHIND]
    assert handed_over(machine)


def test_very_many_files_cost_neither_the_base_nor_much_time(machine: PlayedInitrd) -> None:
    machine.etc = APP.text()
    for number in range(30_000):
        edit(machine, f"app/{number % 100}/{number}", "")
    edit(machine, "machine-id", MACHINE_ID)
    edit(machine, "hostname", "mine\n")
    began = time.monotonic()
    machine.boot()
    assert time.monotonic() - began < 30
    assert {"machine-id", "hostname"} <= kept(machine)
    assert len(kept(machine)) == 512
    assert handed_over(machine)


def test_deep_folders_end_somewhere(machine: PlayedInitrd) -> None:
    machine.etc = APP.text()
    edit(machine, "/".join(["app", *"abcdefg", "last"]))
    edit(machine, "/".join(["app", *"abcdefgh", "too-deep"]))
    place = layer(machine) / "deep"
    for _ in range(300):
        place /= "d"
    place.mkdir(parents=True)
    machine.boot()
    assert kept(machine) == {"app/a/b/c/d/e/f/g/last"}
    assert handed_over(machine)


def test_reading_ends_when_its_time_is_over(machine: PlayedInitrd) -> None:
    machine.etc = APP.text()
    machine.limits["ETC_LIMIT_S"] = -1
    edit(machine, "app/late")
    machine.boot()
    assert kept(machine) == set()
    assert "twinhull: edits of /etc take too long to read, the rest is left out" in machine.said
    assert handed_over(machine)


def test_volatile_keeps_nothing_but_who_the_host_is(machine: PlayedInitrd) -> None:
    machine.etc = EtcPolicy(EtcMode.VOLATILE).text()
    edit(machine, "machine-id", MACHINE_ID)
    edit(machine, "hostname")
    edit(machine, "twinhull/updater.yaml")
    machine.boot()
    assert kept(machine) == {"machine-id"}


def test_an_overlay_keeps_everything_but_whole_files_of_accounts(machine: PlayedInitrd) -> None:
    machine.etc = EtcPolicy(EtcMode.OVERLAY).text()
    for path in ("anything/at/all", "systemd/system/mine.service", "passwd", "group", "shadow", "gshadow", "subuid"):
        edit(machine, path)
    machine.boot()
    assert kept(machine) == {"anything/at/all", "systemd/system/mine.service"}
    assert {path.name for path in layer(machine, "refused").iterdir()} == {
        "passwd",
        "group",
        "shadow",
        "gshadow",
        "subuid",
    }
    assert handed_over(machine)


@pytest.mark.parametrize("text", [None, "", "mode \n", "mode nonsense\n"])
def test_without_a_policy_nothing_persists(machine: PlayedInitrd, text: str | None) -> None:
    machine.etc = text
    edit(machine, "machine-id", MACHINE_ID)
    edit(machine, "ld.so.preload")
    machine.boot()
    assert not (layer(machine) / "ld.so.preload").exists() or upper_option(machine).startswith("/run/")
    assert handed_over(machine)


@pytest.mark.parametrize("name", ["upper", "work", "new", "old", "refused", ""])
@pytest.mark.parametrize("kind", ["link", "file"])
def test_whatever_has_the_names_of_the_layers_leads_nowhere(machine: PlayedInitrd, name: str, kind: str) -> None:
    (machine.root / "sysroot/usr/lib").mkdir(parents=True)
    (machine.root / "sysroot/usr/lib/thing").write_text("of the image")
    place = layer(machine, name)
    if name:
        edit(machine, "hostname")
        edit(machine, "refuse-me")
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        place.rename(place.with_name("elsewhere"))
    if kind == "link":
        place.symlink_to("/sysroot/usr/lib")
    else:
        place.write_text("a file\n")
    machine.boot()
    assert (machine.root / "sysroot/usr/lib/thing").read_text() == "of the image"
    assert sorted(path.name for path in (machine.root / "sysroot/usr/lib").iterdir()) == [
        "systemd",
        "thing",
        "twinhull",
    ]
    assert not layer(machine).is_symlink()
    assert upper_option(machine) == "/sysroot/var/lib/twinhull/etc/upper"
    assert handed_over(machine)


@pytest.mark.parametrize("parent", ["sysroot/var/lib", "sysroot/var/lib/twinhull"])
def test_a_link_in_the_place_of_the_agent_s_folder_leads_nowhere(machine: PlayedInitrd, parent: str) -> None:
    place = machine.root / parent
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to("/sysroot/usr")
    machine.boot()
    assert not place.is_symlink()
    assert not (machine.root / "sysroot/usr/etc").exists()
    assert handed_over(machine)


def test_a_cut_of_power_between_the_two_renames_loses_nothing(machine: PlayedInitrd) -> None:
    edit(machine, "machine-id", MACHINE_ID)
    layer(machine).rename(layer(machine, "new"))
    old = layer(machine, "old")
    old.mkdir()
    (old / "ld.so.preload").write_text("evil")
    machine.boot()
    assert kept(machine) == {"machine-id"}
    assert not old.exists()


def test_a_layer_that_was_half_copied_when_the_power_went_does_not_count(machine: PlayedInitrd) -> None:
    edit(machine, "machine-id", MACHINE_ID)
    half = layer(machine, "new")
    half.mkdir()
    (half / "machine-id").write_text("0123")
    machine.boot()
    assert (layer(machine) / "machine-id").read_text() == MACHINE_ID


def test_a_disk_that_takes_no_writes_gives_the_host_its_settings_all_the_same(machine: PlayedInitrd) -> None:
    edit(machine, "machine-id", MACHINE_ID)
    edit(machine, "hostname", "mine\n")
    edit(machine, "ld.so.preload")
    # Something is in the way that cannot be removed.
    machine.plays["mount"] = (
        'case "$*" in *ext4*) mkdir /sysroot/var/lib/twinhull/etc/work; '
        "/usr/bin/busybox mount -t tmpfs none /sysroot/var/lib/twinhull/etc/work ;; esac"
    )
    machine.boot()
    assert upper_option(machine) == "/run/twinhull/etc/upper"
    assert machine.text("run/twinhull/etc/upper/hostname") == "mine\n"
    assert machine.text("run/twinhull/etc/upper/machine-id") == MACHINE_ID
    assert not (machine.root / "run/twinhull/etc/upper/ld.so.preload").exists()
    assert stat.S_IMODE((machine.root / "run/twinhull/etc").stat().st_mode) == 0o700
    assert IN_MEMORY in machine.said
    assert handed_over(machine)
