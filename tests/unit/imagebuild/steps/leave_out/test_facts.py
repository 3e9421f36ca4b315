"""Which packages were requested, and by whom."""

from __future__ import annotations

from imagebuild.steps.dpkg import InstalledPackage
from imagebuild.steps.leave_out.facts import TreeFacts, TreeItem, owners_of, read_items, requested_packages


def package(
    name: str, *depends: str, files: tuple[str, ...] = ("/usr/bin/x",), provides: tuple[str, ...] = ()
) -> InstalledPackage:
    return InstalledPackage(
        name=name,
        version="1",
        architecture="amd64",
        source=name,
        source_version="1",
        section="misc",
        summary="",
        essential=False,
        depends=tuple((each,) for each in depends),
        provides=provides,
        files=files,
    )


def test_what_came_with_a_package_is_asked_for_and_what_every_image_has_is_not() -> None:
    installed = [
        package("base", "libc"),
        package("libc"),
        package("curl", "libc", "libcurl"),
        package("libcurl", "libssl"),
        package("libssl"),
    ]
    found = requested_packages(installed, asked={"curl": "image.yaml: packages"}, base=("base",))
    assert {name: (str(each), each.by_name) for name, each in found.items()} == {
        "curl": ("image.yaml: packages → curl", True),
        "libcurl": ("image.yaml: packages → curl → libcurl", False),
        "libssl": ("image.yaml: packages → curl → libcurl → libssl", False),
    }


def test_a_package_of_every_image_that_is_named_counts_by_itself() -> None:
    installed = [package("base", "openssl"), package("openssl", "libssl"), package("libssl")]
    found = requested_packages(installed, asked={"openssl": "image.yaml: packages"}, base=("base",))
    assert list(found) == ["openssl"]


def test_an_empty_package_asks_for_what_it_depends_on() -> None:
    empty = ("/usr", "/usr/share", "/usr/share/doc", "/usr/share/doc/gnupg/copyright", "/usr/share/man/man7/gnupg.7.gz")
    installed = [package("base", "gpg"), package("gpg", "libz"), package("libz"), package("gnupg", "gpg", files=empty)]
    found = requested_packages(installed, asked={"gnupg": "image.yaml: packages"}, base=("base",))
    assert found["gpg"].by_name
    assert "libz" not in found


def test_a_virtual_package_stands_for_those_that_provide_it() -> None:
    installed = [package("a", "mta"), package("exim", provides=("mta",))]
    assert "exim" in requested_packages(installed, asked={"a": "x"}, base=())


def test_what_nobody_here_named_came_by_mkosi_s_own_configuration() -> None:
    found = requested_packages([package("base"), package("more")], asked={"gone": "x"}, base=("base",))
    assert {name: str(each) for name, each in found.items()} == {"more": "mkosi.conf → more"}


def test_owners_are_told_by_the_paths_of_the_merged_tree() -> None:
    assert owners_of([package("kmod", files=("/sbin/modprobe",))]) == {"/usr/sbin/modprobe": "kmod"}


def test_rows_become_items() -> None:
    dlopen = [{"names": ["a"], "priority": "required"}, {"names": ["b", "c"], "priority": "suggested"}]
    item = read_items([{"path": "/x", "kind": "f", "executable": True, "needed": ["l"], "dlopen": dlopen}])["/x"]
    assert (item.needed, item.required, item.optional, item.executable) == (("l",), (("a",),), (("b", "c"),), True)


def test_a_way_follows_links_of_folders_too() -> None:
    items = [
        TreeItem("/usr/x", target="y"),
        TreeItem("/usr/y", folder=True),
        TreeItem("/usr/y/a"),
        TreeItem("/usr/b", target="x/a"),
    ]
    tree = TreeFacts({item.path: item for item in items}, {})
    assert tree.way("/usr/b") == ("/usr/b", "/usr/y/a")
    assert tree.through_folders("/usr/x/a") == "/usr/y/a"
    assert tree.way("/none") == ()
