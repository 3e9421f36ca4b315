"""`twinhull lock` and `twinhull bundle`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from bedrock.cli import emit_json, json_option
from bedrock.errors import EXIT_DONE, EXIT_NOTHING_TO_DO
from bedrock.persist import write_atomic
from imagebuild.console import open_progress
from imagebuild.definition.image import LOCK_FILE
from imagebuild.errors import LockError
from imagebuild.inputs.bundle import write_bundle
from imagebuild.inputs.lockfile import Lock, VersionChange, changes, read_lock, write_lock
from imagebuild.inputs.mirror import mirrors_for
from imagebuild.inputs.supply import asks_of, load_lock, make_lock, missing_asks
from imagebuild.inputs.tools import cache_folder

_DEFINITION = click.Path(path_type=Path, exists=True, file_okay=False)
_PLACE = click.Path(path_type=Path, exists=True)


class _LockGroup(click.Group):
    """Takes a folder where a subcommand's name may stand, so that `twinhull lock DIR` needs no verb."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A word that is not a subcommand belongs to the hidden `make`."""
        if args and args[0] not in self.commands:
            return super().resolve_command(ctx, ["make", *args])
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Options before the folder belong to it as well."""
        if args and args[0].startswith("-") and args[0] not in {"-h", "--help"}:
            args = ["make", *args]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The usage line after the command's name."""
        return ["DEFINITION [--update] [--json]"]


@click.group(cls=_LockGroup)
def lock() -> None:
    """Lock the inputs of the image in the folder DEFINITION, in DEFINITION/image.lock.

    The lock names every Debian package of the image and of the tools tree, and the agent's Python packages, each with
    size, SHA-256 and origin; `twinhull build --locked` uses nothing else.  With --update an existing lock moves to the
    packages the mirrors offer now, and the changes are printed.  Exit code 4: the lock is already up to date.

    \b
    Example:
      twinhull lock my-host
      twinhull lock diff my-host
      twinhull lock my-host --update
    """


@lock.command("make", hidden=True)
@click.argument("definition", type=_DEFINITION)
@click.option("--update", is_flag=True, help="Move an existing lock to the packages the mirrors offer now.")
@click.option("--quiet", is_flag=True, help="Print no progress.")
@json_option
def make(*, definition: Path, update: bool, quiet: bool, as_json: bool) -> int:
    """Write or renew the lock of DEFINITION."""
    path = definition / LOCK_FILE
    old = load_lock(definition) if path.exists() else None
    with open_progress(quiet=quiet or as_json) as progress:
        mirrors, cache = mirrors_for(definition), cache_folder()
        if old is not None and not update:
            _require_fitting(old, definition, asks_of(definition, mirrors=mirrors, cache=cache, progress=progress))
            new = old
        else:
            new = make_lock(definition, mirrors=mirrors, cache=cache, progress=progress)
    if new != old:
        write_atomic(path, write_lock(new))
    _show(path, old, new, as_json=as_json)
    return EXIT_DONE if new != old else EXIT_NOTHING_TO_DO


@lock.command("diff")
@click.argument("old", type=_PLACE)
@click.argument("new", type=_PLACE, required=False)
@json_option
def diff_locks(*, old: Path, new: Path | None, as_json: bool) -> None:
    """Show what differs between the locks OLD and NEW, or what `--update` would change in OLD.

    OLD and NEW are definitions or lock files.

    \b
    Example:
      twinhull lock diff my-host
      twinhull lock diff before.lock my-host/image.lock
    """
    before = _read(old)
    if new is not None:
        after = _read(new)
    else:
        folder = old if old.is_dir() else old.parent
        with open_progress(quiet=as_json) as progress:
            after = make_lock(folder, mirrors=mirrors_for(folder), cache=cache_folder(), progress=progress)
    _tell(changes(before, after), as_json=as_json)


@click.command("bundle")
@click.argument("definition", type=_DEFINITION)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to create, or a file NAME.tar.")
@json_option
def bundle(*, definition: Path, out: Path, as_json: bool) -> None:
    """Pack everything the locked image in the folder DEFINITION is built from.

    `twinhull build DEFINITION --offline BUNDLE` then needs no network.  The definition must be locked first.

    \b
    Example:
      twinhull lock my-host
      twinhull bundle my-host --out my-host.tar
      twinhull build my-host --version 1.0.0 --offline my-host.tar
    """
    with open_progress(quiet=as_json) as progress:
        lock, mirrors = load_lock(definition), mirrors_for(definition)
        index = write_bundle(definition, lock, out, mirrors=mirrors, cache=cache_folder(), progress=progress)
    size = sum(file.size_bytes for file in index.files)
    if as_json:
        emit_json({"out": str(out), "files": len(index.files), "size_bytes": size})
    else:
        click.echo(f"{out}: {len(index.files)} files, {size / 1e6:.1f} MB")


def _require_fitting(old: Lock, definition: Path, asks: tuple[str, ...]) -> None:
    if different := missing_asks(old, asks):
        message = f"{definition / LOCK_FILE} was made for other packages than the definition asks for:"
        raise LockError("\n".join((message, *different))).with_hint("renew it with --update")


def _read(path: Path) -> Lock:
    if path.is_dir():
        return load_lock(path)
    return read_lock(path.read_bytes(), source=str(path))


def _show(path: Path, old: Lock | None, new: Lock, *, as_json: bool) -> None:
    found = changes(old, new) if old is not None else ()
    counts = {
        "image": len(new.image_packages.packages),
        "tools": len(new.tools_packages.packages),
        "wheels": len(new.wheels),
    }
    if as_json:
        emit_json({"lock": str(path), "new": old is None, "written": new != old, **counts, "changes": found})
        return
    _tell(found, as_json=False, quiet_when_none=True)
    state = "is up to date" if new == old else "written"
    click.echo(f"{path} {state}: {counts['image']} packages, {counts['tools']} of the tools, {counts['wheels']} wheels")


def _tell(found: Sequence[VersionChange], *, as_json: bool, quiet_when_none: bool = False) -> None:
    if as_json:
        emit_json(found)
    elif found:
        for change in found:
            click.echo(f"{change.part}: {change.name}: {change.old or 'new'} -> {change.new or 'gone'}")
    elif not quiet_when_none:
        click.echo("nothing differs")
