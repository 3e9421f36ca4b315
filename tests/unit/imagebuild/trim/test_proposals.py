"""From what was touched to what could be dropped."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from imagebuild.inspection.contents import AGENT, DEFINITION, EntryKind
from imagebuild.trim.keeping import KeepList
from imagebuild.trim.page_cache import Sample
from imagebuild.trim.patterns import matched_by, module_keeper, module_place
from imagebuild.trim.proposals import Proposal, propose, staying, with_users
from imagebuild.trim.tree import ImageTree
from tests.fakes.trees import tree_of

LIB = "/usr/lib/x86_64-linux-gnu"
MODULES = "/usr/lib/modules/6.12/kernel"
NOTHING_KEPT = KeepList()


def proposed(
    tree: ImageTree, *touched: str, keep: KeepList = NOTHING_KEPT, modules: Iterable[str] = ()
) -> list[Proposal]:
    stays = staying(tree, Sample(frozenset(touched), frozenset(modules)), keep)
    return sorted(propose(tree, stays), key=lambda each: each.lines)


def lines(found: list[Proposal]) -> list[tuple[str, ...]]:
    return [each.lines for each in found]


def test_a_touched_file_is_not_proposed() -> None:
    found = proposed(tree_of({"/usr/bin/a": 5, "/usr/bin/b": 7}), "/usr/bin/a")
    assert lines(found) == [("/usr/bin/b",)]
    assert found[0].raw_bytes == 7
    assert found[0].packages == ("base",)


def test_a_kept_file_is_not_proposed() -> None:
    assert proposed(tree_of({"/usr/bin/a": 5}), keep=KeepList(paths=("/usr/bin/a",))) == []


def test_a_folder_of_which_nothing_stays_goes_whole() -> None:
    tree = tree_of({"/usr/share/x/a": 1, "/usr/share/x/deep/b": 2, "/usr/share/y": 4})
    assert lines(proposed(tree, "/usr/share/y")) == [("/usr/share/x",)]


def test_a_folder_that_holds_something_touched_stays() -> None:
    tree = tree_of({"/usr/share/x/a": 1, "/usr/share/x/deep/b": 2})
    assert lines(proposed(tree, "/usr/share/x/a")) == [("/usr/share/x/deep",)]


def test_the_folders_every_image_has_never_go_whole() -> None:
    assert lines(proposed(tree_of({"/usr/games/a": 1, "/usr/games/b": 1}))) == [("/usr/games/a",), ("/usr/games/b",)]


def test_an_empty_kept_folder_keeps_the_folder_around_it() -> None:
    tree = tree_of({"/usr/share/x/a": 1, "/usr/share/x/sub/b": 2})
    found = proposed(tree, keep=KeepList(paths=("/usr/share/x/sub",)))
    assert lines(found) == [("/usr/share/x/a",)]


def test_a_folder_that_a_kept_link_leads_to_does_not_go_whole() -> None:
    tree = tree_of({"/usr/share/x/a": 1}, {"/etc/x": "/usr/share/x"})
    assert lines(proposed(tree, keep=KeepList(paths=("/etc",)))) == [("/usr/share/x/a",)]


def test_an_empty_file_wins_nothing() -> None:
    assert proposed(tree_of({"/usr/bin/empty": 0})) == []


def test_what_the_definition_and_the_agent_bring_is_theirs() -> None:
    owners = {"/usr/bin/a": DEFINITION, "/usr/bin/b": AGENT}
    assert proposed(tree_of({"/usr/bin/a": 1, "/usr/bin/b": 1}, owners=owners)) == []


def test_a_program_that_stays_keeps_its_libraries() -> None:
    files = {"/usr/bin/a": 1, f"{LIB}/libb.so.1.2": 2, f"{LIB}/libc.so.6": 3, f"{LIB}/libd.so.1": 4}
    links = {f"{LIB}/libb.so.1": "libb.so.1.2"}
    names = {"/usr/bin/a": ("libb.so.1",), f"{LIB}/libb.so.1.2": ("libc.so.6",)}
    assert lines(proposed(tree_of(files, links, names=names), "/usr/bin/a")) == [(f"{LIB}/libd.so*",)]


def test_a_library_goes_only_together_with_what_is_linked_to_it() -> None:
    files = {"/usr/bin/small": 1, "/usr/bin/stays": 1, f"{LIB}/libc.so.6": 9, f"{LIB}/libx.so.1.2": 9}
    names = {"/usr/bin/small": ("libx.so.1",), "/usr/bin/stays": ("libc.so.6",)}
    tree = tree_of(files, {f"{LIB}/libx.so.1": "libx.so.1.2"}, names=names)
    small, library = proposed(tree, "/usr/bin/stays")
    assert library.needed_by == ("/usr/bin/small",)
    assert small.needed_by == ()
    assert with_users([small, library], [1]) == {0, 1}
    assert with_users([small, library], [0]) == {0}


def test_what_a_file_needs_that_no_line_can_name_stays() -> None:
    files = {"/usr/bin/[": 3, "/usr/bin/w": 3, f"{LIB}/libx.so": 9}
    tree = tree_of(files, names={"/usr/bin/[": ("libx.so",)})
    assert proposed(tree, "/usr/bin/w") == []


def test_a_script_that_is_kept_keeps_its_interpreter() -> None:
    tree = tree_of(
        {"/usr/bin/script": 1, "/usr/bin/mawk": 2}, {"/usr/bin/awk": "mawk"}, names={"/usr/bin/script": ("awk",)}
    )
    assert proposed(tree, keep=KeepList(paths=("/usr/bin/script",))) == []
    assert lines(proposed(tree)) == [("/usr/bin/mawk", "/usr/bin/awk"), ("/usr/bin/script",)]


def test_a_kept_link_keeps_what_it_leads_to() -> None:
    links = {"/usr/sbin/reboot": "../bin/systemctl", "/bin": "usr/bin", "/etc/alternatives/vi": "/bin/vim"}
    tree = tree_of({"/usr/bin/systemctl": 9, "/usr/bin/vim": 8, "/usr/bin/x": 1}, links)
    keep = KeepList(paths=("/usr/sbin/reboot", "/etc"))
    assert lines(proposed(tree, keep=keep)) == [("/usr/bin/x",)]


def test_a_link_goes_with_what_it_leads_to() -> None:
    tree = tree_of({"/usr/bin/vim": 8, "/usr/bin/x": 1}, {"/usr/bin/vi": "vim", "/usr/bin/mask": "/dev/null"})
    assert lines(proposed(tree, "/usr/bin/x")) == [("/usr/bin/vim", "/usr/bin/vi")]


def test_links_in_a_circle_lead_nowhere_and_stay() -> None:
    tree = tree_of({"/usr/share/x/a": 1}, {"/usr/share/x/b": "c", "/usr/share/x/c": "b"})
    assert lines(proposed(tree)) == [("/usr/share/x/a",)]


def test_all_versions_of_a_library_go_with_one_line() -> None:
    tree = tree_of({f"{LIB}/libx.so.1.2": 3, "/usr/bin/a": 1}, {f"{LIB}/libx.so.1": "libx.so.1.2"})
    found = proposed(tree, "/usr/bin/a", keep=KeepList(paths=(f"{LIB}/none",)))
    assert lines(found) == [(LIB,)]
    tree = tree_of({f"{LIB}/libx.so.1.2": 3, f"{LIB}/liby.so.1": 1}, {f"{LIB}/libx.so.1": "libx.so.1.2"})
    assert lines(proposed(tree, f"{LIB}/liby.so.1")) == [(f"{LIB}/libx.so*",)]


def test_a_glob_that_would_remove_what_stays_is_not_used() -> None:
    tree = tree_of({f"{LIB}/libx.so.1": 3, f"{LIB}/libx.so.2": 3})
    assert lines(proposed(tree, f"{LIB}/libx.so.2")) == [(f"{LIB}/libx.so.1",)]


def test_a_name_that_no_line_can_hold_without_hitting_another_is_left_out() -> None:
    tree = tree_of({"/usr/bin/[": 3, "/usr/bin/w": 3})
    assert proposed(tree, "/usr/bin/w") == []
    assert lines(proposed(tree_of({"/usr/bin/[": 3, "/usr/bin/ww": 3}), "/usr/bin/ww")) == [("/usr/bin/?",)]


def test_modules_are_proposed_by_their_folders() -> None:
    files = {
        f"{MODULES}/{place}": 2 for place in ("drivers/isdn/a.ko", "drivers/isdn/x/b.ko", "fs/nfs/c.ko", "fs/d.ko")
    }
    found = proposed(tree_of(files), keep=KeepList(modules=("fs/d.ko",)))
    assert lines(found) == [("drivers/",), ("fs/nfs/",)]
    assert all(each.modules for each in found)


def test_a_loaded_module_and_what_it_needs_stay() -> None:
    paths = [f"{MODULES}/net/{name}.ko" for name in ("a-b", "c", "d")]
    tree = tree_of(dict.fromkeys(paths, 1), modules={paths[0]: (paths[1],)})
    assert lines(proposed(tree, modules=("a_b",))) == [("net/d.ko",)]


SEGMENT = st.sampled_from(["a", "b", "lib.so.1", "lib.so.2", "lib.so", "x y", "["])
PATHS = st.lists(SEGMENT, min_size=1, max_size=4).map(lambda parts: "/usr/" + "/".join(parts))
PLACES = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map(
    lambda parts: f"{MODULES}/{'/'.join(parts)}.ko"
)


@st.composite
def images(draw: st.DrawFn) -> tuple[ImageTree, Sample, KeepList]:
    """An image, what was touched in it, and what is kept; no name is both a file and a folder."""
    names = sorted(draw(st.sets(PATHS | PLACES, max_size=14)))
    names = [name for name in names if not any(other.startswith(f"{name}/") for other in names)]
    files = {name: draw(st.integers(0, 9)) for name in names}
    targets = st.sampled_from(names) if names else st.nothing()
    links = {f"/usr/links/{index}": draw(targets) for index in range(draw(st.integers(0, 3)) if names else 0)}
    needs = {name: (draw(targets).rsplit("/", 1)[-1],) for name in names if draw(st.booleans())}
    touched = frozenset(draw(st.sets(targets, max_size=3)) if names else ())
    keep = KeepList(paths=tuple(draw(st.sets(PATHS.filter(lambda path: " " not in path), max_size=2))))
    return tree_of(files, links, names=needs), Sample(touched, frozenset()), keep


@given(images())
def test_no_line_removes_anything_that_stays_and_no_two_the_same(image: tuple[ImageTree, Sample, KeepList]) -> None:
    tree, touched, keep = image
    stays = staying(tree, touched, keep)
    found = propose(tree, stays)
    there = {path for path, entry in tree.entries.items() if entry.kind is EntryKind.FILE}
    removed: list[str] = []
    for each in found:
        if each.modules:
            (line,) = each.lines
            gone = {path for path in there if (place := module_place(path)) and module_keeper((line,))(place)}
        else:
            gone = {path for line in each.lines for path in matched_by(line, there)}
        assert gone == {entry.path for entry in each.files}
        removed += gone
    assert len(removed) == len(set(removed))
    assert not stays.intersection(removed)
    assert not touched.files.intersection(removed)
    assert not any(keep.keeps(path) for path in removed)
    assert sum(each.raw_bytes for each in found) == sum(tree.entries[path].size_bytes for path in removed)
    assert all(each.raw_bytes for each in found)


@given(images())
def test_what_stays_has_everything_it_needs(image: tuple[ImageTree, Sample, KeepList]) -> None:
    tree, touched, keep = image
    stays = staying(tree, touched, keep)
    for path in stays:
        for name in tree.needs.names.get(path, ()):
            assert set(tree.by_name.get(name, ())) <= stays
        if tree.entries[path].kind is EntryKind.LINK:
            assert tree.resolve(path) in stays


@given(images(), st.integers(0, 9))
def test_whatever_is_taken_leaves_nothing_behind_that_misses_something(
    image: tuple[ImageTree, Sample, KeepList], least_bytes: int
) -> None:
    tree, touched, keep = image
    found = propose(tree, staying(tree, touched, keep))
    taken = with_users(found, [place for place, each in enumerate(found) if each.raw_bytes >= least_bytes])
    gone = {entry.path for place in taken for entry in found[place].files}
    for path in tree.entries.keys() - gone:
        if tree.entries[path].kind is EntryKind.FILE:
            assert not gone.intersection(tree.resolve(needed) or needed for needed in tree.needed(path))
