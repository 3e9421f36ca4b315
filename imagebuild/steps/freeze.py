"""Turns a folder of Python packages into a program with its own, small standard library.

Rules: it runs as a script on the very interpreter that is shipped (Debian 13's, inside the tools tree), with that
interpreter's standard library and nothing else; it reads one JSON request from the file it is given and
prints one JSON answer; the same input gives the same bytes.
Not here: where the packages come from and what else belongs to the program.

The needed modules are read from the syntax trees: every import, including those inside functions, so that code that
runs only after a failure still finds its module.  Unneeded modules among them are named in the request's `drop`.
"""

from __future__ import annotations

import ast
import json
import py_compile
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_EXTENSIONS = (".cpython-313-x86_64-linux-gnu.so", ".cpython-313-aarch64-linux-gnu.so", ".abi3.so", ".so")


@dataclass(frozen=True)
class FreezeRequest:
    """What to freeze.

    `app` holds the packages (host paths); `stdlib` is where this interpreter's library is; `library` and `code` are
    the folders to fill; `shown_library` and `shown_code` are what tracebacks call them.  `roots` are the modules the
    program starts from, and those that are imported by name where no syntax tree shows it.  `with_source` names the
    packages whose sources are kept next to the byte code.
    """

    app: str
    stdlib: str
    library: str
    code: str
    shown_library: str
    shown_code: str
    roots: tuple[str, ...]
    drop: tuple[str, ...]
    with_source: tuple[str, ...]


def module_imports(source: str, name: str, *, is_package: bool) -> set[str]:
    """Every dotted name a module may import at run time, relative ones resolved, submodules guessed."""
    found: set[str] = set()
    for node in _runtime_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, name, is_package=is_package)
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return {part for dotted in found for part in _with_parents(dotted)}


def dropped(name: str, drop: Iterable[str]) -> bool:
    """Whether a module or one of its parents is named in `drop`."""
    unwanted = frozenset(drop)
    return any(part in unwanted for part in _with_parents(name))


def closure(roots: Iterable[str], folders: Sequence[Path], drop: Iterable[str]) -> dict[str, Path]:
    """The modules reachable from `roots`, with their files; what is not in `folders` (built in, absent) is left out."""
    unwanted = frozenset(drop)
    waiting = {part for root in roots for part in _with_parents(root)}
    done: dict[str, Path] = {}
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        path = None if dropped(name, unwanted) else find(name, folders)
        if path is None:
            continue
        done[name] = path
        if path.suffix == ".py":
            imported = module_imports(path.read_text("utf-8"), name, is_package=path.name == "__init__.py")
            waiting |= imported - seen
    return done


def find(name: str, folders: Sequence[Path]) -> Path | None:
    """The file of a module: a package, a source file or an extension; None when no folder has it."""
    relative = name.replace(".", "/")
    for folder in folders:
        candidates = (folder / relative / "__init__.py", folder / f"{relative}.py")
        extensions = tuple(folder / f"{relative}{suffix}" for suffix in _EXTENSIONS)
        for candidate in (*candidates, *extensions):
            if candidate.is_file():
                return candidate
    return None


def freeze(request: FreezeRequest) -> tuple[str, ...]:
    """Write the byte code of every module the program can reach, of packages and library; return their names."""
    app, stdlib = Path(request.app), Path(request.stdlib)
    modules = closure(request.roots, (stdlib, stdlib / "lib-dynload", app), request.drop)
    for path in sorted(set(modules.values())):
        if path.is_relative_to(app):
            relative = path.relative_to(app)
            keep = relative.parts[0] in request.with_source
            _place(path, relative, Path(request.code), request.shown_code, keep_source=keep)
        else:
            _place(path, path.relative_to(stdlib), Path(request.library), request.shown_library, keep_source=False)
    return tuple(sorted(modules))


def _place(path: Path, relative: Path, folder: Path, shown: str, *, keep_source: bool) -> None:
    target = folder / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix != ".py":
        shutil.copyfile(path, target)
        return
    compiled = target.with_suffix(".pyc")
    if keep_source:
        shutil.copyfile(path, target)
        compiled = target.parent / "__pycache__" / f"{target.stem}.{sys.implementation.cache_tag}.pyc"
    py_compile.compile(
        str(path),
        cfile=str(compiled),
        dfile=f"{shown}/{relative.as_posix()}",
        doraise=True,
        optimize=0,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def _runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING` and `if __name__ == "__main__"`, which never run here."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and _never(node.test):
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))


def _never(test: ast.expr) -> bool:
    if isinstance(test, ast.Compare):
        return isinstance(test.left, ast.Name) and test.left.id == "__name__"
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def _absolute(node: ast.ImportFrom, name: str, *, is_package: bool) -> str:
    if node.level == 0:
        return node.module or ""
    parts = name.split(".")
    kept = parts[: len(parts) - node.level + is_package]
    return ".".join((*kept, node.module) if node.module else kept)


def _with_parents(dotted: str) -> tuple[str, ...]:
    parts = dotted.split(".")
    return tuple(".".join(parts[: count + 1]) for count in range(len(parts)))


def main() -> None:
    """Read the request in the file named on the command line, freeze, answer on stdout."""
    raw = json.loads(Path(sys.argv[1]).read_text())
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
    request = FreezeRequest(**fields)
    json.dump({"modules": freeze(request)}, sys.stdout)


if __name__ == "__main__":
    main()
