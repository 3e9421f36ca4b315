from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from imagebuild.content.tree_program import change, everything, inside, main, read

EPOCH = 1_700_000_000
OLD = 1_600_000_000


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    for folder in ("etc", "usr/lib/sysusers.d", "usr/lib/modules/6.12/kernel"):
        (tree / folder).mkdir(parents=True)
    (tree / "lib").symlink_to("usr/lib")
    (tree / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (tree / "usr/lib/sysusers.d/a.conf").write_text("u a\n")
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (OLD, OLD), follow_symlinks=False)
    return tree


def apply(tree: Path, **parts: Any) -> None:
    nothing: dict[str, Any] = {"remove": (), "write": (), "copy": (), "link": (), "owners": {"users": {}, "groups": {}}}
    change(tree, epoch=EPOCH, **{**nothing, **parts})


def test_texts_links_and_folders_are_read_by_patterns(tree: Path) -> None:
    found = read(tree, ("/etc/passwd", "/usr/lib/sysusers.d/*.conf", "/lib", "/usr/lib/modules/*", "/none"))
    assert found["texts"] == {"/etc/passwd": "root:x:0:0::/:/bin/sh\n", "/usr/lib/sysusers.d/a.conf": "u a\n"}
    assert found["links"] == {"/lib": "usr/lib"}
    assert found["folders"] == ["/usr/lib/modules/6.12"]


def test_a_change_gives_what_it_writes_the_time_of_a_build_and_leaves_folders_theirs(
    tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "source").write_bytes(b"\xff\0")
    apply(
        tree,
        remove=("usr/lib/sysusers.d/*.conf", "etc/none"),
        write=[("/etc/passwd", 0o644, "new\n"), ("/usr/share/factory/var/a/b", 0o600, "x")],
        copy=[(str(tmp_path / "source"), "/lib/copied", 0o755)],
        link=[("/etc/systemd/system/a.service", "/dev/null")],
    )
    assert not list((tree / "usr/lib/sysusers.d").iterdir())
    assert (tree / "etc/passwd").read_text() == "new\n"
    assert (tree / "usr/lib/copied").read_bytes() == b"\xff\0"
    assert (tree / "usr/lib/copied").stat().st_mode & 0o7777 == 0o755
    assert (tree / "etc/systemd/system/a.service").readlink() == Path("/dev/null")
    times = {str(path.relative_to(tree)): int(path.lstat().st_mtime) for path in everything(tree)}
    assert {times[name] for name in ("etc", "usr", "usr/lib", "usr/lib/sysusers.d", "lib")} == {OLD}
    made = ("etc/passwd", "usr/share", "usr/share/factory/var/a/b", "usr/lib/copied", "etc/systemd/system/a.service")
    assert {times[name] for name in made} == {EPOCH}


def test_what_has_no_new_owner_is_not_touched(tree: Path) -> None:
    user, group = os.getuid(), os.getgid()
    apply(tree, owners={"users": {str(user + 1): 7}, "groups": {str(group + 1): 7}})
    assert (tree / "etc/passwd").stat().st_uid == user


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away; a build does it in its namespace")
def test_files_follow_their_owners_with_all_that_a_change_of_owner_clears(tree: Path) -> None:
    program, link = tree / "usr/lib/program", tree / "usr/lib/link"
    program.write_text("x")
    os.chown(program, 100, 101)
    program.chmod(0o6755)
    os.setxattr(program, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.link(program, tree / "usr/lib/again")
    link.symlink_to("program")
    os.chown(link, 100, 0, follow_symlinks=False)
    # The new number of one is the old number of another.
    other = tree / "usr/lib/other"
    other.write_text("y")
    os.chown(other, 300, 0)
    apply(tree, owners={"users": {"100": 300, "300": 400}, "groups": {"101": 301}})
    found = program.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (300, 301, 0o6755)
    assert os.getxattr(program, "security.capability").hex() == "0100000200040000000000000000000000000000"
    assert (link.lstat().st_uid, other.stat().st_uid) == (300, 400)


def test_links_of_the_image_lead_nowhere_outside(tree: Path) -> None:
    (tree / "usr/out").symlink_to("/etc")
    (tree / "usr/up").symlink_to("../../../../etc")
    assert inside(tree, "/usr/out/x") == tree / "etc/x"
    assert inside(tree, "/usr/up/x") == tree / "etc/x"
    with pytest.raises(ValueError, match="leaves the image"):
        inside(tree, "/usr/../../x")


def test_words_are_looked_for_in_modules(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "usr/lib/modules/6.12/kernel/a.ko").write_bytes(b"\x7fELF\0bridge-nf-call-iptables\0xx")
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"tree": str(tree), "modules": ["bridge-nf-call-iptables", "bridge"]}))
    main(request)
    assert json.loads(capsys.readouterr().out) == {"found": ["bridge-nf-call-iptables"]}
