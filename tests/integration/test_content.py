"""A tree's own programs read what a definition brings: the real ones, on a copy of the tools tree for an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedrock import process
from imagebuild.content.accounts import settle_ids, sysusers_text
from imagebuild.content.locale import make_locale
from imagebuild.content.services import read_unit_files
from imagebuild.content.sources import DefinitionText
from imagebuild.content.tree import EditableTree, TreeEdit
from imagebuild.content.verify import TextFindings, verify
from imagebuild.inputs.tools import Access, ToolsTree, inside_user_namespace
from imagebuild.paths import EPOCH

GOOD = {
    "/usr/lib/systemd/system/good.service": (
        "[Unit]\nAfter=nowhere.service\nWants=later.service\n[Service]\nExecStart=/bin/true %i\n"
        "ExecStartPost=/opt/app/after\n[Install]\nWantedBy=multi-user.target\n"
    ),
    "/usr/lib/systemd/system/each@.service": "[Service]\nExecStart=/usr/bin/echo %i\n",
    "/usr/lib/systemd/system/systemd-networkd.service.d/10-image.conf": "[Service]\nNice=5\n",
    "/usr/lib/tmpfiles.d/good.conf": "d /var/lib/good 0750 root adm 10d\n",
    "/usr/lib/sysusers.d/good.conf": 'u good - "x" /var/lib/good\n',
    "/etc/sysctl.d/good.conf": "net.ipv4.ip_forward = 1\n",
    "/etc/udev/rules.d/90-good.rules": 'SUBSYSTEM=="net", ACTION=="add", NAME="x%n"\n',
    "/etc/systemd/network/10-good.network": "[Match]\nName=x*\n[Network]\nDHCP=yes\n",
    "/etc/systemd/network/20-good.netdev": "[NetDev]\nName=br0\nKind=bridge\n",
    "/etc/systemd/network/30-good.link": "[Match]\nOriginalName=x*\n[Link]\nMTUBytes=9000\n",
    "/etc/nftables.conf": 'define port = 22\ninclude "/etc/nftables.d/*.nft"\n',
    "/etc/nftables.d/good.nft": (
        "table inet good {\n chain input {\n  type filter hook input priority 0;\n  tcp dport $port accept\n }\n}\n"
    ),
}
BAD = {
    "/usr/lib/systemd/system/bad.service": "[Service]\nExecStrat=/bin/true\nExecStart=/usr/bin/nothing\n[Instal]\n",
    "/usr/lib/systemd/system/needs.service": "[Unit]\nRequires=nowhere.service\n[Service]\nExecStart=/bin/true\n",
    "/usr/lib/systemd/system/good.service.d/10-bad.conf": "[Service]\nNcie=5\n",
    "/usr/lib/tmpfiles.d/bad.conf": "d /var/x 0755 nobody-knows root -\nz /a 0999\n",
    "/usr/lib/sysusers.d/bad.conf": "u bad 12x\n",
    "/etc/sysctl.d/bad.conf": "net.ipv4.ip_forward\n",
    "/etc/udev/rules.d/90-bad.rules": 'SUBSYTEM=="net"\n',
    "/etc/systemd/network/10-bad.network": "[Match]\nName=x\n[Netwrok]\nDHCP=yes\n",
    "/etc/systemd/network/20-bad.netdev": "[NetDev]\nName=br0\nKnd=bridge\n",
    "/etc/systemd/network/30-bad.link": "[Match]\nOriginalName=x\n[Link]\nMTU=9000\n",
    "/etc/nftables.d/bad.nft": "table inet bad {\n chain input {\n  tcp dpotr 22 accept\n }\n}\n",
}
EXPECTED = (
    "bad.service, line 2: Unknown key 'ExecStrat'",
    "bad.service, line 3: the image has no program /usr/bin/nothing",
    "bad.service, line 4: Unknown section 'Instal'",
    "needs.service, line 2: it requires nowhere.service",
    "10-bad.conf, line 2: Unknown key 'Ncie'",
    "bad.conf, line 1: Failed to resolve user 'nobody-knows'",
    "bad.conf, line 2: Invalid mode '0999'",
    "bad.conf, line 1: Failed to parse UID",
    "bad.conf, line 1: 'net.ipv4.ip_forward' is not a line such as",
    "90-bad.rules, line 1: Invalid key 'SUBSYTEM'",
    "10-bad.network, line 3: Unknown section 'Netwrok'",
    "20-bad.netdev, line 3: Unknown key 'Knd'",
    "30-bad.link, line 4: Unknown key 'MTU'",
    "bad.nft, line 3: Error: syntax error",
)


@pytest.fixture
def tree(tools: ToolsTree, tmp_path: Path) -> EditableTree:
    root = tmp_path / "image"
    root.mkdir()
    for name in ("usr", "etc"):
        process.run([*inside_user_namespace(), "cp", "--archive", tools.root / name, root / name], timeout_s=300)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    return EditableTree(root, tools, Access(write=(tmp_path,)), tmp_path, EPOCH)


def checked(tree: EditableTree, files: dict[str, str]) -> TextFindings:
    tree.change(TreeEdit(write={path: (0o644, text) for path, text in files.items()}))
    return verify(tree, [DefinitionText(path, path.rpartition("/")[2], text) for path, text in files.items()])


def test_what_is_right_passes_also_where_a_host_brings_the_rest(tree: EditableTree) -> None:
    verdict = checked(tree, GOOD)
    assert verdict.problems == ()


def test_each_error_is_named_with_its_file_and_line(tree: EditableTree) -> None:
    verdict = checked(tree, {**GOOD, **BAD})
    missed = [text for text in EXPECTED if not any(text in problem for problem in verdict.problems)]
    if verdict.unchecked:
        missed = [text for text in missed if ".nft" not in text]
    assert missed == [], "\n".join(verdict.problems)
    assert not any("good." in problem for problem in verdict.problems)


def test_programs_that_the_image_lacks_are_lent_to_it(tree: EditableTree) -> None:
    for name in ("systemd-analyze", "systemd-tmpfiles", "udevadm"):
        tree.change(TreeEdit(remove=(f"usr/bin/{name}",)))
    bad = {path: text for path, text in BAD.items() if path.endswith(("bad.service", "bad.conf", "bad.rules"))}
    problems = "\n".join(checked(tree, bad).problems)
    for text in ("Unknown key 'ExecStrat'", "Failed to resolve user", "Invalid key 'SUBSYTEM'"):
        assert text in problems


def test_a_host_with_a_passwd_of_its_own_learns_of_later_users_with_the_images_ids(tree: EditableTree) -> None:
    passwd = "root:x:0:0:root:/root:/bin/bash\nredis:x:100:102::/var/lib/redis:/usr/sbin/nologin\n"
    group = "root:x:0:\nadm:x:4:redis\nredis:x:102:\n"
    settled = settle_ids(passwd, group, (), ())
    number = settled.ids.users["redis"]
    host = "root:x:0:0:root:/root:/bin/bash\nme:x:1000:1000::/home/me:/bin/sh\n"
    tree.change(
        TreeEdit(
            remove=("usr/lib/sysusers.d/*.conf",),
            write={
                "/usr/lib/sysusers.d/twinhull.conf": (0o644, sysusers_text(settled.passwd, settled.group, "")),
                "/etc/passwd": (0o644, host),
                "/etc/group": (0o644, "root:x:0:\nadm:x:4:\nme:x:1000:\n"),
            },
        )
    )
    words = ["systemd-sysusers", f"--root={tree.root}"]
    said = tree.tools.run(words, tree.access, timeout_s=60, env={"SYSTEMD_LOG_TARGET": "console"}).stderr
    found = tree.read("/etc/passwd", "/etc/group").texts
    assert found["/etc/passwd"].startswith(host)
    assert f"redis:x:{number}:{number}::/var/lib/redis:/usr/sbin/nologin\n" in found["/etc/passwd"]
    assert f"redis:x:{number}:\n" in found["/etc/group"]
    assert "adm:x:4:redis\n" in found["/etc/group"]
    assert "conflict" not in said.lower()


def test_a_locale_is_made_from_its_source(tree: EditableTree) -> None:
    make_locale(tree, "de_DE.UTF-8")
    assert tree.read("/usr/lib/locale/de_DE.utf8/*").names
    done = tree.tools.run_in(
        tree.root, ["/usr/bin/locale", "-k", "decimal_point"], shows={}, timeout_s=60, env={"LC_ALL": "de_DE.UTF-8"}
    )
    assert 'decimal_point=","' in done.stdout


def test_nothing_of_the_image_can_be_changed_by_what_reads_it(tree: EditableTree) -> None:
    done = tree.run(["/usr/bin/touch", "/etc/new"], shows={})
    assert done.returncode != 0
    assert not (tree.root / "etc/new").exists()


def test_the_unit_files_of_a_tree_are_systemctls_own_answer(tree: EditableTree) -> None:
    units = read_unit_files(tree.systemctl("list-unit-files", "--output=json"))
    assert units["systemd-networkd.service"].state == "disabled"
    assert units["systemd-journald.service"].state == "static"
