"""Which modules the agent's program gets, and what its byte code looks like."""

from __future__ import annotations

import marshal
import os
import sys
from pathlib import Path
from types import CodeType

import pytest

from imagebuild.steps import freeze


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import a.b.c", {"a", "a.b", "a.b.c"}),
        ("from a import b", {"a", "a.b"}),
        ("from . import x", {"pkg", "pkg.x"}),
        ("from .x import y", {"pkg", "pkg.x", "pkg.x.y"}),
        ("def f():\n import late", {"late"}),
        ("try:\n import fast\nexcept ImportError:\n import slow", {"fast", "slow"}),
        ("if TYPE_CHECKING:\n import never\nelse:\n import always", {"always"}),
        ("import typing as t\nif t.TYPE_CHECKING:\n import never", {"typing"}),
        ("if __name__ == '__main__':\n import never", set()),
    ],
)
def test_imports_are_read_wherever_they_stand(source: str, expected: set[str]) -> None:
    assert freeze.module_imports(source, "pkg.mod", is_package=False) == expected


def test_a_package_resolves_its_own_level() -> None:
    assert freeze.module_imports("from .x import y", "pkg", is_package=True) == {"pkg", "pkg.x", "pkg.x.y"}


def write(folder: Path, **modules: str) -> None:
    for name, text in modules.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_closure_follows_imports_and_stops_at_what_is_dropped(tmp_path: Path) -> None:
    write(tmp_path, a="import b, gone, builtin_thing", b="def f():\n import c", c="", gone="import behind", behind="")
    found = freeze.closure(["a"], [tmp_path], ["gone"])
    assert sorted(found) == ["a", "b", "c"]


def test_a_circle_of_imports_ends(tmp_path: Path) -> None:
    write(tmp_path, a="import b", b="import a")
    assert sorted(freeze.closure(["a"], [tmp_path], [])) == ["a", "b"]


def test_dropping_a_package_drops_what_is_in_it() -> None:
    assert freeze.dropped("asyncio.events", ["asyncio"])
    assert not freeze.dropped("asyncio_other", ["asyncio"])


def frozen(tmp_path: Path, name: str) -> Path:
    app, stdlib, out = tmp_path / f"app-{name}", tmp_path / f"std-{name}", tmp_path / name
    (app / "ours").mkdir(parents=True)
    (app / "ours/__init__.py").write_text("import needed\nimport theirs\n")
    (app / "theirs.py").write_text("NAMES = frozenset({'a', 'b', 'c'})\n")
    (app / "unreached.py").write_text("import idle\n")
    write(stdlib, needed="X = 1", idle="")
    request = freeze.FreezeRequest(
        app=str(app),
        stdlib=str(stdlib),
        library=str(out / "lib"),
        code=str(out / "app"),
        shown_library="/usr/lib/x/lib",
        shown_code="/usr/lib/x/app",
        roots=("ours",),
        drop=(),
        with_source=("ours",),
    )
    assert freeze.freeze(request) == ("needed", "ours", "theirs")
    return out


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_what_is_needed_is_placed_and_only_our_sources_stay(tmp_path: Path) -> None:
    tag = sys.implementation.cache_tag
    assert sorted(listing(frozen(tmp_path, "one"))) == [
        "app/ours/__init__.py",
        f"app/ours/__pycache__/__init__.{tag}.pyc",
        "app/theirs.pyc",
        "lib/needed.pyc",
    ]


def test_the_same_input_gives_the_same_bytes_wherever_it_is_built(tmp_path: Path) -> None:
    first, second = frozen(tmp_path, "one"), frozen(tmp_path, "two")
    assert listing(first) == listing(second)
    assert not any(os.fsencode(tmp_path) in raw for raw in listing(first).values())


def test_byte_code_is_never_checked_against_sources(tmp_path: Path) -> None:
    raw = (frozen(tmp_path, "one") / "app/theirs.pyc").read_bytes()
    assert int.from_bytes(raw[4:8], "little") == 0b01, "PEP 552: hash based, not checked"
    code = marshal.loads(raw[16:])  # noqa: S302 - our own bytes
    assert isinstance(code, CodeType)
    assert code.co_filename == "/usr/lib/x/app/theirs.py"
