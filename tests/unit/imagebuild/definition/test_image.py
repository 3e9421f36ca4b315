from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock import strict
from bedrock.errors import DocumentError
from imagebuild.definition.image import (
    Budget,
    ExtraUnit,
    ImageDefinition,
    Slots,
    definition_digest,
    load_definition,
)
from imagebuild.definition.paths import AbsolutePath
from partitions.layout import MIB, verity_size_for
from tests.fakes.definitions import definition_of, write_definition
from updater.etc_policy import EtcMode

EVERYTHING_WRONG = """
id: My Host
relase: trixie
architecture: sparc
mirror: nowhere
packages: curl
drop: [relative, "/a,b"]
drop_modules: [/lib/x.ko, fs, "a b/", fs/nfs/nfs.ko]
trim: {keep: [usr], keep_modules: [nvme], keeps: []}
kernel_arguments: [root=/dev/sda, two words, quiet]
slots: {root: big, swap: 1G}
updater: {channel: 5, reboot: {policy: soon}}
files:
- {path: /etc/x}
- {path: ../etc, content: "", mode: "999"}
units:
- {name: web, content: ""}
"""


def problems_of(folder: Path, text: str) -> dict[str, str]:
    with pytest.raises(DocumentError) as caught:
        definition_of(folder, text)
    assert caught.value.source == str(folder / "image.yaml")
    return {problem.path: problem.message for problem in caught.value.problems}


def test_every_error_is_told_at_once_with_its_path(tmp_path: Path) -> None:
    assert set(problems_of(tmp_path, EVERYTHING_WRONG)) == {
        "relase",
        "id",
        "architecture",
        "mirror",
        "packages",
        "drop[0]",
        "drop[1]",
        "drop_modules[0]",
        "drop_modules[1]",
        "drop_modules[2]",
        "trim.keep[0]",
        "trim.keep_modules[0]",
        "trim.keeps",
        "kernel_arguments[0]",
        "kernel_arguments[1]",
        "slots.root",
        "slots.swap",
        "updater.channel",
        "updater.reboot.policy",
        "files[0]",
        "files[1].path",
        "files[1].mode",
        "units[0].name",
    }


@pytest.mark.parametrize(
    "argument", ["roothash=0", "root=/dev/sda1", "init=/bin/sh", "rdinit=/bin/sh", "systemd.verity=no", "root", "--"]
)
def test_kernel_arguments_that_would_undo_verity_are_refused(tmp_path: Path, argument: str) -> None:
    problems = problems_of(tmp_path, f"id: host\nkernel_arguments: [{argument}]\n")
    assert "the build sets it" in problems["kernel_arguments[0]"]


@pytest.mark.parametrize("pattern", ["*/", "../x/", "drivers/../x.ko", "*/*.ko"])
def test_a_module_pattern_that_is_none_or_all_is_refused(tmp_path: Path, pattern: str) -> None:
    assert "names no module of its own" in problems_of(tmp_path, f"id: host\ndrop_modules: ['{pattern}']\n")[""]


@pytest.mark.parametrize("argument", ["rootwait", "initcall_debug", "systemd.show_status=yes", "console=ttyS1", "--x"])
def test_other_kernel_arguments_are_taken(tmp_path: Path, argument: str) -> None:
    assert definition_of(tmp_path, f"id: host\nkernel_arguments: [{argument}]\n").kernel_arguments == (argument,)


@pytest.mark.parametrize("path", ["/usr/share/x#y", "/a b", "/a:b", "/a%v", "/a,b", '/a"', "usr", "/"])
def test_drop_takes_no_path_that_mkosi_would_read_otherwise(tmp_path: Path, path: str) -> None:
    assert set(problems_of(tmp_path, f"id: host\ndrop: ['{path}']\n")) == {"drop[0]"}


def test_drop_does_not_leave_the_image(tmp_path: Path) -> None:
    assert "leaves the image" in problems_of(tmp_path, "id: host\ndrop: [/../etc]\n")[""]


def test_arm64_is_known_but_not_built(tmp_path: Path) -> None:
    assert "cannot be built yet" in problems_of(tmp_path, "id: host\narchitecture: arm64\n")[""]


def test_sizes_that_are_too_small_are_told_together(tmp_path: Path) -> None:
    message = problems_of(tmp_path, "id: host\nslots: {root: 1M, boot: 10M}\n")["slots"]
    assert all(name in message for name in ("root must", "boot must"))
    assert "esp" not in message


def test_a_budget_is_read_strictly(tmp_path: Path) -> None:
    text = "id: host\nbudget: {wire: 80M, root: 0, uki: -1, initrd: big, packages: 1.5, rot: 1}\n"
    names = {"budget.root", "budget.uki", "budget.initrd", "budget.packages", "budget.rot"}
    assert set(problems_of(tmp_path, text)) == names


def test_a_budget_takes_bytes_and_text(tmp_path: Path) -> None:
    budget = definition_of(tmp_path, "id: host\nbudget: {wire: 80M, root: 4096, packages: 120}\n").budget
    assert budget == Budget(wire=80 * MIB, root=4096, packages=120)
    assert definition_of(tmp_path, "id: host\n").budget == Budget()


def test_one_path_given_twice_is_refused(tmp_path: Path) -> None:
    text = """
id: host
files: [{path: /usr/lib/systemd/system/a.service, content: ""}]
units: [{name: a.service, content: ""}]
"""
    assert "given twice" in problems_of(tmp_path, text)[""]


def test_a_source_must_be_there_and_inside(tmp_path: Path) -> None:
    missing = problems_of(tmp_path, "id: host\nfiles: [{path: /etc/x, source: nothing}]\n")
    assert "is not a file" in missing["files[0].source"]
    outside = problems_of(tmp_path, "id: host\nfiles: [{path: /etc/x, source: ../x}]\n")
    assert "inside the definition's folder" in outside["files[0]"]


def test_a_folder_without_image_yaml_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="not an image definition") as caught:
        load_definition(tmp_path)
    assert "twinhull init" in caught.value.hints[0]


def test_the_defaults_are_enough(tmp_path: Path) -> None:
    assert definition_of(tmp_path, "id: host\n") == ImageDefinition(id="host")


def test_quadlets_go_to_podman_and_are_not_enabled_by_presets() -> None:
    quadlet, service = ExtraUnit("web.container", ""), ExtraUnit("web.service", "", enabled=True)
    assert quadlet.path == "/usr/share/containers/systemd/web.container"
    assert not quadlet.presettable
    assert service.path == "/usr/lib/systemd/system/web.service"
    assert service.presettable


def test_the_verity_partition_holds_the_tree_of_a_full_slot() -> None:
    slots = Slots(root=1024 * MIB)
    assert slots.verity == verity_size_for(1024 * MIB)


@given(st.text(max_size=40))
def test_a_path_that_is_taken_stays_inside_the_image(text: str) -> None:
    try:
        path = AbsolutePath.from_text(text)
    except ValueError:
        return
    inside = os.path.normpath(f"/image/{path}")
    assert inside.startswith("/image/")
    assert str(path).isprintable()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["id", "drop", "slots", "root", "files", "path", "units", "updater"]), inner
            )
        ),
    )
)
def test_any_document_is_read_or_refused(value: object) -> None:
    with suppress(DocumentError):
        assert isinstance(strict.read(ImageDefinition, value, source="image.yaml"), ImageDefinition)


def test_the_digest_sees_names_contents_modes_and_links(tmp_path: Path) -> None:
    folder = write_definition(tmp_path / "host")
    (folder / "mkosi.extra").mkdir()
    file = folder / "mkosi.extra/a"
    seen = {definition_digest(folder)}
    file.write_text("1")
    seen.add(definition_digest(folder))
    file.write_text("2")
    seen.add(definition_digest(folder))
    file.chmod(0o755)
    seen.add(definition_digest(folder))
    file.rename(folder / "mkosi.extra/b")
    seen.add(definition_digest(folder))
    (folder / "link").symlink_to("b")
    seen.add(definition_digest(folder))
    assert len(seen) == 6


def test_the_digest_leaves_git_and_read_rights_aside(tmp_path: Path) -> None:
    folder = write_definition(tmp_path / "host")
    before = definition_digest(folder)
    (folder / ".git").mkdir()
    (folder / ".git/HEAD").write_text("main")
    (folder / "image.yaml").chmod(0o600)
    assert definition_digest(folder) == before


def test_of_etc_a_list_is_the_default_and_an_image_may_add_to_it(tmp_path: Path) -> None:
    assert definition_of(tmp_path, "id: a\n").etc is EtcMode.ALLOWLIST
    policy = definition_of(tmp_path, "id: a\netc_keep: [hosts, app/]\n").etc_policy
    assert policy.text().endswith("file hosts\nfolder app\n")
    assert definition_of(tmp_path, "id: a\netc: volatile\n").etc_policy.text().startswith("mode volatile\n")


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        ("etc: everything", "etc", "overlay, allowlist, volatile"),
        ("etc: {mode: overlay}", "etc", "must be one of"),
        ("etc_keep: [hosts, ld.so.preload]", "etc_keep[1]", "cannot persist"),
        ("etc_keep: [/etc/hosts]", "etc_keep[0]", "not a name below /etc"),
        ("etc: overlay\netc_keep: [hosts]", "", "no effect with etc: overlay"),
        ("services: {enable: [systemd-confext.service]}", "", "unsigned extensions"),
        ("etc: volatile\nservices: {enable: [systemd-sysext.service]}", "", "needs etc: overlay"),
    ],
)
def test_what_would_bring_code_into_etc_is_refused(tmp_path: Path, text: str, path: str, said: str) -> None:
    problems = problems_of(tmp_path, f"id: a\n{text}\n")
    assert said in problems[path]


def test_extensions_may_be_merged_where_everything_persists(tmp_path: Path) -> None:
    text = "id: a\netc: overlay\nservices: {enable: [systemd-confext.service]}\n"
    assert definition_of(tmp_path, text).etc is EtcMode.OVERLAY
