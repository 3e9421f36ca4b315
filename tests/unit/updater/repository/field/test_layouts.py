"""Layouts on their way through a repository: what is recorded, refused, retired and warned of."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bedrock import strict
from bedrock.cli import run_command
from bedrock.errors import DocumentError
from bedrock.progress import Silent
from keys.roles import TufRole
from tests.fakes.attested import artifact
from tests.fakes.builds import NOW, Publisher, slots_of, snapshot_of, write_build
from tests.fakes.forgery import own_keys, resign
from updater.documents.release import Release, parse_release
from updater.documents.slot_layout import SlotLayout
from updater.errors import BusyError, OutgrownError, RefusedError, RepositoryError
from updater.repository.cli import repo
from updater.repository.field.layouts import list_layouts, retire_layout
from updater.repository.layout import Layout
from updater.repository.lock import writing
from updater.repository.metadata import load_state
from updater.repository.objects import put_object
from updater.repository.releases import read_release
from updater.repository.targets import write_target
from updater.repository.upkeep.verify import verify

SMALL, LARGE = slots_of(root_blocks=30), slots_of(root_blocks=60)
PATH = "releases/host/1.0.0/x86-64.json"


@pytest.fixture
def workshop(tmp_path: Path) -> Publisher:
    return Publisher.make(tmp_path)


def build(workshop: Publisher, version: str, slots: SlotLayout | None, *, blocks: int = 20, **more: Any) -> Path:
    folder = workshop.folder / f"build-{version}-{more.get('architecture', 'x86-64')}-{more.get('image', 'host')}"
    return write_build(folder, version=version, slots=slots, root_blocks=blocks, **more)


def publish(workshop: Publisher, version: str, slots: SlotLayout | None, *, blocks: int = 20, **more: Any) -> Release:
    (done,) = workshop.publish_folders(build(workshop, version, slots, blocks=blocks, **more))
    return done.release


def problems(workshop: Publisher) -> tuple[str, ...]:
    return verify(workshop.base, now=NOW, progress=Silent()).problems


def without_lock(workshop: Publisher) -> dict[str, bytes]:
    return {name: data for name, data in snapshot_of(workshop.base).items() if name != ".lock"}


def state_of(workshop: Publisher) -> dict[str, tuple[list[str], bool]]:
    """Versions and retirement by layout."""
    return {
        each.known.slots.id: ([str(version) for version in each.known.versions], each.known.retired)
        for each in list_layouts(workshop.base)
    }


def replace_layout(workshop: Publisher, content: bytes) -> None:
    """What somebody with the releases key can do: sign a release that carries another layout."""
    layout = Layout(workshop.base)
    source = workshop.folder / "forged"
    source.write_bytes(content)
    stored = put_object(layout, source, artifact(content), level=3, progress=Silent()).stored
    forged = replace(artifact(content), objects=(stored,))
    release = read_release(layout, load_state(layout, None), PATH)
    changed = strict.dump_json(replace(release, attachments={**release.attachments, "layout": forged}))

    def edit(signed: Any) -> None:
        signed.targets[PATH] = write_target(layout, PATH, changed)

    resign(workshop, TufRole.RELEASES, own_keys(workshop, TufRole.RELEASES), change=edit)


def test_the_layout_of_a_build_travels_with_its_release(workshop: Publisher) -> None:
    assert set(publish(workshop, "1.0.0", SMALL).attachments) == {"layout"}
    assert problems(workshop) == ()
    assert state_of(workshop) == {SMALL.id: (["1.0.0"], False)}


def test_a_release_that_outgrew_an_earlier_layout_is_refused_and_nothing_is_written(workshop: Publisher) -> None:
    publish(workshop, "1.0.0", SMALL)
    publish(workshop, "1.0.1", SMALL)
    before = without_lock(workshop)
    with pytest.raises(OutgrownError) as caught:
        publish(workshop, "1.1.0", LARGE, blocks=31)
    assert caught.value.exit_code == 1
    text = str(caught.value)
    assert f"layout {SMALL.id}" in text
    assert "installed with 1.0.0, 1.0.1)" in text
    assert "4096 missing" in text
    assert any(f"--retire {SMALL.id}" in hint for hint in caught.value.hints)
    assert without_lock(workshop) == before


@pytest.mark.parametrize("slots", [slots_of(boot_bytes=1 << 20), slots_of(verity_bytes=4096)])
def test_boot_partition_and_tree_count_too(workshop: Publisher, slots: SlotLayout) -> None:
    with pytest.raises(OutgrownError):
        publish(workshop, "1.0.0", slots)


def test_a_release_must_fit_its_own_layout(workshop: Publisher) -> None:
    with pytest.raises(OutgrownError, match=r"installed with 1\.0\.0") as caught:
        publish(workshop, "1.0.0", SMALL, blocks=31)
    assert not any("--retire" in hint for hint in caught.value.hints)


@pytest.mark.parametrize("versions", [("1.0.0", "1.0.1"), ("1.0.1", "1.0.0")])
def test_builds_published_together_must_fit_each_other(workshop: Publisher, versions: tuple[str, str]) -> None:
    folders = (build(workshop, versions[0], SMALL), build(workshop, versions[1], LARGE, blocks=31))
    with pytest.raises(OutgrownError, match=f"layout {SMALL.id}"):
        workshop.publish_folders(*folders)
    assert list_layouts(workshop.base) == ()


def test_every_misfit_is_listed(workshop: Publisher) -> None:
    publish(workshop, "1.0.0", SMALL)
    folders = [build(workshop, version, LARGE, blocks=31) for version in ("1.0.1", "1.0.2")]
    with pytest.raises(OutgrownError) as caught:
        workshop.publish_folders(*folders)
    assert str(caught.value).count(" missing (layout") == 2


def test_releases_of_before_there_were_layouts_bound_nothing(workshop: Publisher) -> None:
    publish(workshop, "1.0.0", None)
    publish(workshop, "1.0.1", LARGE, blocks=60)
    assert state_of(workshop) == {LARGE.id: (["1.0.1"], False)}


def test_a_build_without_a_layout_must_fit_the_others(workshop: Publisher) -> None:
    publish(workshop, "1.0.0", SMALL)
    with pytest.raises(OutgrownError):
        publish(workshop, "1.0.1", None, blocks=31)


def test_other_images_and_architectures_have_their_own_field(workshop: Publisher) -> None:
    publish(workshop, "1.0.0", SMALL)
    publish(workshop, "1.0.0", slots_of(architecture="arm64"), blocks=40, architecture="arm64")
    publish(workshop, "1.0.0", replace(LARGE, image="other"), blocks=40, image="other")
    assert len(state_of(workshop)) == 3


def test_publishing_the_same_build_again_asks_nothing_of_layouts(workshop: Publisher) -> None:
    publish(workshop, "1.0.0", LARGE, blocks=31)
    publish(workshop, "1.0.1", LARGE)
    (again,) = workshop.publish_folders(workshop.folder / "build-1.0.0-x86-64-host")
    assert not again.new


def test_a_retired_layout_is_out_of_the_way_until_it_is_restored(workshop: Publisher) -> None:
    publish(workshop, "1.0.0", SMALL)
    assert retire_layout(workshop.base, SMALL.id, retired=True)
    assert not retire_layout(workshop.base, SMALL.id, retired=True)
    publish(workshop, "1.0.1", LARGE, blocks=31)
    assert state_of(workshop) == {SMALL.id: (["1.0.0"], True), LARGE.id: (["1.0.1"], False)}
    assert problems(workshop) == ()
    assert retire_layout(workshop.base, SMALL.id, retired=False)
    with pytest.raises(OutgrownError):
        publish(workshop, "1.0.2", LARGE, blocks=31)


def test_publishing_a_retired_layout_brings_it_back(workshop: Publisher) -> None:
    publish(workshop, "1.0.0", SMALL)
    retire_layout(workshop.base, SMALL.id, retired=True)
    publish(workshop, "1.0.1", SMALL)
    assert state_of(workshop) == {SMALL.id: (["1.0.0", "1.0.1"], False)}
    with pytest.raises(OutgrownError):
        publish(workshop, "1.0.2", LARGE, blocks=31)


@pytest.mark.parametrize("layout_id", ["0" * 12, "../../etc", "", "x" * 500])
@pytest.mark.parametrize("retired", [True, False])
def test_a_layout_nobody_recorded_cannot_be_retired(workshop: Publisher, layout_id: str, *, retired: bool) -> None:
    publish(workshop, "1.0.0", SMALL)
    before = without_lock(workshop)
    with pytest.raises(RepositoryError, match="no release in"):
        retire_layout(workshop.base, layout_id, retired=retired)
    assert without_lock(workshop) == before


def test_retiring_waits_for_its_turn(workshop: Publisher) -> None:
    publish(workshop, "1.0.0", SMALL)
    with writing(Layout(workshop.base)), pytest.raises(BusyError):
        retire_layout(workshop.base, SMALL.id, retired=True)


@pytest.mark.parametrize("text", ["no", "[]", '{"format": 1, "layouts": ["x"]}', '{"format": 9, "layouts": []}'])
def test_a_damaged_record_of_retired_layouts_stops_publishing(workshop: Publisher, text: str) -> None:
    publish(workshop, "1.0.0", SMALL)
    (workshop.base / "retired-layouts.json").write_text(text)
    with pytest.raises(DocumentError, match=r"retired-layouts\.json"):
        publish(workshop, "1.0.1", SMALL)


def test_a_malformed_layout_of_a_build_is_refused(workshop: Publisher) -> None:
    folder = build(workshop, "1.0.0", SMALL)
    (folder / "layout.json").write_text('{"root_bytes": -4}')
    with pytest.raises(DocumentError, match=r"layout\.json: root_bytes: must be from 1"):
        workshop.publish_folders(folder)


def test_a_layout_changed_after_the_build_is_refused(workshop: Publisher) -> None:
    folder = build(workshop, "1.0.0", SMALL)
    (folder / "layout.json").write_bytes(strict.dump_json(LARGE))
    with pytest.raises(RefusedError, match=r"layout\.json has the SHA-256"):
        workshop.publish_folders(folder)


def test_a_layout_that_is_named_and_missing_is_refused(workshop: Publisher) -> None:
    folder = build(workshop, "1.0.0", SMALL)
    (folder / "layout.json").unlink()
    with pytest.raises(RefusedError, match=r"layout\.json is missing"):
        workshop.publish_folders(folder)


def test_a_layout_of_another_architecture_is_refused(workshop: Publisher) -> None:
    with pytest.raises(RefusedError, match=r"one of host \(arm64\), and the release is of host \(x86-64\)"):
        publish(workshop, "1.0.0", slots_of(architecture="arm64"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no", "layout.json: not JSON"),
        (strict.dump_json({**strict.plain(SMALL), "boot_bytes": -1}), "boot_bytes: must be from 1"),
        (strict.dump_json(slots_of(architecture="arm64")), "the layout is one of host (arm64)"),
    ],
)
def test_a_published_layout_that_is_none_is_found_and_stops_publishing(
    workshop: Publisher, content: bytes, words: str
) -> None:
    publish(workshop, "1.0.0", SMALL)
    replace_layout(workshop, content)
    (problem,) = problems(workshop)
    assert problem.startswith(f"{PATH}: ")
    assert words in problem
    with pytest.raises((DocumentError, RefusedError), match=PATH):
        publish(workshop, "1.0.1", SMALL)


def test_an_endless_layout_is_not_read(workshop: Publisher) -> None:
    publish(workshop, "1.0.0", SMALL)
    replace_layout(workshop, bytes(1 << 20))
    with pytest.raises(RefusedError, match="1048576 bytes"):
        list_layouts(workshop.base)


def test_a_layout_whose_object_is_damaged_is_refused(workshop: Publisher) -> None:
    stored = publish(workshop, "1.0.0", SMALL).attachments["layout"].objects[0]
    Layout(workshop.base).object_file(stored).write_bytes(b"damaged")
    with pytest.raises(RefusedError, match="objects/"):
        list_layouts(workshop.base)


# The command line.


def ran(*words: str) -> Result:
    return CliRunner().invoke(repo, list(words), catch_exceptions=False)


def published(workshop: Publisher, folder: Path, *words: str) -> Result:
    done = ran("publish", str(workshop.base), str(folder), "--keys", str(workshop.folder / "keys"), "--quiet", *words)
    assert done.exit_code == 0
    return done


@pytest.fixture
def growing(workshop: Publisher) -> Publisher:
    """Two releases, 5 blocks apart, in slots of 30."""
    publish(workshop, "1.0.0", SMALL, blocks=15)
    publish(workshop, "1.0.1", SMALL, blocks=20)
    return workshop


def test_growth_that_reaches_a_layout_soon_is_a_warning(growing: Publisher) -> None:
    done = published(growing, build(growing, "1.0.2", SMALL, blocks=25), "--json")
    assert (
        f"warning: host (x86-64): 2 more releases will outgrow the root partition of layout {SMALL.id}" in done.stderr
    )
    (warning,) = json.loads(done.stdout)["warnings"]
    assert warning == {
        "layout": SMALL.id,
        "image": "host",
        "architecture": "x86-64",
        "part": "root",
        "needed_bytes": 28 * 4096,
        "room_bytes": 33 * 4096,
        "growth_bytes": 5 * 4096,
        "over_releases": 3,
        "releases_left": 2,
    }


@pytest.mark.parametrize("within", ["0", "1"])
def test_growth_beyond_the_asked_span_is_no_warning(growing: Publisher, within: str) -> None:
    done = published(growing, build(growing, "1.0.2", SMALL, blocks=25), "--warn-within", within, "--json")
    assert done.stderr == ""
    assert json.loads(done.stdout)["warnings"] == []


def test_a_warning_comes_again_when_there_is_nothing_to_publish(growing: Publisher) -> None:
    folder = growing.folder / "build-1.0.1-x86-64-host"
    assert "warning: " in published(growing, folder).stderr


def test_layouts_are_listed_with_how_full_they_are(growing: Publisher) -> None:
    retire_layout(growing.base, SMALL.id, retired=True)
    (row,) = json.loads(ran("layouts", str(growing.base), "--json").stdout)["layouts"]
    assert row == {
        "id": SMALL.id,
        "image": "host",
        "architecture": "x86-64",
        "root_bytes": 33 * 4096,
        "verity_bytes": 1 << 20,
        "boot_bytes": 2 << 20,
        "first": "1.0.0",
        "last": "1.0.1",
        "releases": 2,
        "retired": True,
        "newest": "1.0.1",
        "filled": {"root": 0.697, "verity": 0.0078, "boot": 0.5048},
    }
    told = ran("layouts", str(growing.base)).stdout
    assert told.startswith(f"{SMALL.id}: host (x86-64) installed with 1.0.0, 1.0.1: root 0.1 MiB (70 %)")
    assert told.endswith("with 1.0.1, RETIRED\n")


def test_layouts_are_retired_and_restored_by_command(growing: Publisher) -> None:
    base = str(growing.base)
    assert ran("layouts", base, "--retire", SMALL.id).stdout == f"{SMALL.id}: retired\n"
    assert ran("layouts", base, "--retire", SMALL.id).stdout == f"{SMALL.id}: retired (nothing to do)\n"
    answer = json.loads(ran("layouts", base, "--restore", SMALL.id, "--json").stdout)
    assert answer == {"changed": True, "layout": SMALL.id, "retired": False}
    assert exit_code("layouts", base, "--restore", SMALL.id) == 4


def exit_code(*words: str) -> int | str | None:
    with pytest.raises(SystemExit) as caught:
        run_command(repo, prog_name="twinhull", argv=words)
    return caught.value.code


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (lambda base: ("layouts", base, "--retire", "0" * 12), 1),
        (lambda base: ("layouts", base, "--retire", "0" * 12, "--restore", "0" * 12), 2),
        (lambda base: ("layouts", f"{base}-no"), 1),
        (lambda base: ("layouts", f"{base}-no", "--retire", "0" * 12), 1),
        (lambda base: ("publish", base, "out", "--keys", "keys", "--warn-within", "-1"), 2),
    ],
)
def test_wrong_words_have_their_exit_codes(
    growing: Publisher, words: Callable[[str], tuple[str, ...]], code: int
) -> None:
    assert exit_code(*words(str(growing.base))) == code


def test_a_release_read_back_names_the_very_layout(workshop: Publisher) -> None:
    folder = build(workshop, "1.0.0", SMALL)
    workshop.publish_folders(folder)
    written = parse_release((folder / "release.json").read_bytes(), source="release.json")
    read = read_release(Layout(workshop.base), load_state(Layout(workshop.base), None), PATH)
    assert read.attachments["layout"].sha256 == written.attachments["layout"].sha256
