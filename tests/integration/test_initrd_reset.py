"""Resets that the initrd carries out: once, whole, and whatever is cut in between."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from imagebuild.definition.reset import RESET_ARGUMENT, ResetPolicy
from imagebuild.definition.storage import OnDamage, VarPolicy, baked_storage
from tests.fakes.played_initrd import CUT, ROOT_HASH, STATE, VAR, PlayedInitrd
from updater.agent.ground.reset import DONE, DONE_ON_VAR, REQUEST, ResetRequest, Scope
from updater.etc_policy import EtcMode, EtcPolicy

PLACE = "sysroot/var/lib/twinhull"
ON_VAR = f"sysroot/var/lib/{DONE_ON_VAR}"
KEY = "sysroot/var/lib/ssh/ssh_host_ed25519_key"
IDENTITY = {
    f"{PLACE}/etc/upper/machine-id": "m1",
    f"{PLACE}/etc/upper/hostname": "web-1",
    f"{PLACE}/provision.json": "provisioned",
    f"{PLACE}/provision-document": "signed",
    KEY: "key",
}
OTHERS = {
    f"{PLACE}/etc/upper/app.conf": "edited",
    f"{PLACE}/state.json": "hints",
    f"{PLACE}/tuf/timestamp.json": "metadata",
    f"{PLACE}/.hidden": "x",
    "sysroot/var/lib/containers/image": "large",
}
NOT_ETC = {name: text for name, text in OTHERS.items() if "/etc/" not in name}
ALL_KEPT, ALL_NEW = ResetRequest(Scope.ALL, keep_identity=True), ResetRequest(Scope.ALL, keep_identity=False)
ETC_KEPT, ETC_NEW = ResetRequest(Scope.ETC, keep_identity=True), ResetRequest(Scope.ETC, keep_identity=False)
AFTER = {ALL_KEPT: IDENTITY, ALL_NEW: {}, ETC_KEPT: IDENTITY | NOT_ETC, ETC_NEW: NOT_ETC}
MOST_CUTS = 20


def lived_in(machine: PlayedInitrd, request: ResetRequest | None) -> None:
    """A host with an identity, edits, state and containers; making a file system removes what it holds."""
    for name, text in (IDENTITY | OTHERS).items():
        path = machine.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    machine.record = None
    machine.etc = EtcPolicy(EtcMode.OVERLAY).text()
    if request is not None:
        (machine.root / PLACE / REQUEST).write_text(request.line)
    machine.plays["mkfs.ext4"] = f"""case "$*" in
*{machine.device(VAR)}) rm -rf /sysroot/var/lib/ssh /sysroot/var/lib/containers /sysroot/var/lib/{DONE_ON_VAR} ;;
*{machine.device(STATE)}) echo nobody makes the state anew >/sysroot/wrong ;;
esac"""


def found(machine: PlayedInitrd) -> dict[str, str]:
    """What is left of it."""
    names = {*IDENTITY, *OTHERS, f"{PLACE}/{REQUEST}", f"{PLACE}/{DONE}", ON_VAR, f"{PLACE}/kept/whole"}
    return {name: (machine.root / name).read_text() for name in names if (machine.root / name).exists()}


def boot_again(machine: PlayedInitrd) -> None:
    """The next boot of the same host: what was in memory is gone."""
    for path in machine.root.iterdir():
        if path.name == "sysroot":
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    machine.boot()


def named(request: ResetRequest) -> str:
    return request.line.strip()


@pytest.mark.parametrize("wanted", AFTER, ids=named)
def test_a_reset_removes_what_was_asked_for_and_nothing_else(machine: PlayedInitrd, wanted: ResetRequest) -> None:
    lived_in(machine, wanted)
    machine.boot()
    assert found(machine) == AFTER[wanted]
    assert "switch_root" in machine.calls[-1]
    assert not (machine.root / "sysroot/wrong").exists()
    done = machine.text("run/twinhull/storage").splitlines()
    how = f"reset as requested, {wanted.line.split()[1]}"
    assert done == (["var reset as requested", f"state {how}"] if wanted.scope is Scope.ALL else [f"/etc {how}"])


@pytest.mark.parametrize("wanted", AFTER, ids=named)
def test_a_reset_is_finished_after_a_cut_anywhere(machine: PlayedInitrd, tmp_path: Path, wanted: ResetRequest) -> None:
    for cut_at in range(1, MOST_CUTS):
        host = PlayedInitrd(tmp_path / f"cut-{cut_at}", machine.tools)
        lived_in(host, wanted)
        usual = host.plays["mkfs.ext4"]
        cut = f"echo x >>/steps; [ $(wc -l </steps) -ne {cut_at} ] || exit {CUT}"
        host.plays |= {"sync": cut, "umount": cut, "mount": f'case "$*" in "-t ext4 "*) {cut} ;; esac'}
        host.boot()
        was_cut = "switch_root" not in host.calls[-1]
        host.plays = {"mkfs.ext4": usual}
        boot_again(host)
        assert found(host) == AFTER[wanted], cut_at
        assert "switch_root" in host.calls[-1]
        if not was_cut:
            break
    assert 4 < cut_at < MOST_CUTS - 1


def test_nothing_is_reset_without_a_request(machine: PlayedInitrd) -> None:
    lived_in(machine, None)
    machine.boot()
    assert found(machine) == IDENTITY | OTHERS
    assert machine.calls_of("mkfs.ext4") == []


@pytest.mark.parametrize("text", ["", "everything\n", "all\n", "all new-identity-please\n", "\0\0\0"])
def test_a_request_that_cannot_be_read_resets_nothing_and_is_removed(machine: PlayedInitrd, text: str) -> None:
    lived_in(machine, None)
    (machine.root / PLACE / REQUEST).write_text(text)
    machine.boot()
    assert found(machine) == IDENTITY | OTHERS
    assert "twinhull: the request to reset this host cannot be read and is removed" in machine.said
    assert "switch_root" in machine.calls[-1]


def test_a_link_in_the_place_of_the_request_is_not_read(machine: PlayedInitrd) -> None:
    lived_in(machine, None)
    (machine.root / "sysroot/elsewhere").write_text(ALL_NEW.line)
    (machine.root / PLACE / REQUEST).symlink_to("/sysroot/elsewhere")
    machine.boot()
    assert machine.calls_of("mkfs.ext4") == []
    assert (machine.root / KEY).exists()


def test_what_a_credential_asked_for_is_remembered(machine: PlayedInitrd) -> None:
    lived_in(machine, ResetRequest(Scope.ALL, keep_identity=False, mark="audit-7"))
    machine.boot()
    assert found(machine) == {f"{PLACE}/{DONE}": "audit-7\n", ON_VAR: "audit-7\n"}


@pytest.mark.parametrize("later", AFTER, ids=named)
def test_it_is_remembered_over_resets_that_somebody_else_asks_for(machine: PlayedInitrd, later: ResetRequest) -> None:
    lived_in(machine, later)
    (machine.root / PLACE / DONE).write_text("audit-7\n")
    (machine.root / ON_VAR).write_text("audit-7\n")
    machine.boot()
    assert found(machine) == {**AFTER[later], f"{PLACE}/{DONE}": "audit-7\n", ON_VAR: "audit-7\n"}


@pytest.mark.parametrize("allowed", [True, False])
def test_the_boot_menu_resets_only_where_the_image_says_so(machine: PlayedInitrd, *, allowed: bool) -> None:
    lived_in(machine, None)
    machine.storage = baked_storage(VarPolicy(), ResetPolicy(boot_menu=allowed)).decode()
    machine.boot(f"roothash={ROOT_HASH} {RESET_ARGUMENT} --")
    assert found(machine) == ({} if allowed else IDENTITY | OTHERS)


def test_a_kernel_argument_from_outside_resets_nothing(machine: PlayedInitrd) -> None:
    lived_in(machine, None)
    machine.storage = baked_storage(VarPolicy(), ResetPolicy(boot_menu=True)).decode()
    machine.boot(f"roothash={ROOT_HASH} -- {RESET_ARGUMENT}")
    assert found(machine) == IDENTITY | OTHERS


def test_a_reset_also_cures_a_damaged_var(machine: PlayedInitrd) -> None:
    lived_in(machine, ALL_NEW)
    machine.storage = baked_storage(VarPolicy(OnDamage.VOLATILE), ResetPolicy()).decode()
    var = machine.device(VAR)
    machine.plays["e2fsck"] = f'case "$*" in *{var}) [ -e /made ] || exit 8 ;; esac'
    machine.plays["mkfs.ext4"] += "\ntouch /made"
    machine.boot()
    assert machine.calls_of("mount").count(f"-t ext4 -o nodev,nosuid {var} /sysroot/var") == 1
    assert found(machine) == {}


def test_a_reset_that_cannot_be_done_stops_no_boot(machine: PlayedInitrd) -> None:
    lived_in(machine, ALL_NEW)
    machine.plays["mkfs.ext4"] = "exit 1"
    machine.boot()
    assert "twinhull: /var could not be made anew" in machine.said
    assert f"{PLACE}/{REQUEST}" not in found(machine)
    assert "switch_root" in machine.calls[-1]
