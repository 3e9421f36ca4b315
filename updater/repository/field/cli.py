"""`twinhull repo layouts`: the disks in the field, from the command line."""

from __future__ import annotations

from pathlib import Path

import click

from bedrock import strict
from bedrock.cli import emit_json, json_option
from bedrock.errors import EXIT_DONE, EXIT_NOTHING_TO_DO
from updater.documents.slot_layout import BoundPartition
from updater.repository.field.layouts import Listed, list_layouts, retire_layout
from updater.repository.field.room import fill, in_mib


@click.command("layouts")
@click.argument("base", metavar="REPO", type=click.Path(path_type=Path, file_okay=False))
@click.option("--retire", metavar="ID", help="No host has this layout any more, so releases need not fit it.")
@click.option("--restore", metavar="ID", help="There are hosts with this layout after all.")
@json_option
def layouts(base: Path, retire: str | None, restore: str | None, as_json: bool) -> int:
    """List the disk layouts that hosts were installed with, and how full the newest release makes them.

    Publishing refuses a release that does not fit every layout in the field. Needs no keys.
    Exit code 4: the layout is already retired, or already in use.

    \b
    Example:
      twinhull repo layouts repo
      twinhull repo layouts repo --retire 0123456789ab
    """
    if retire is not None and restore is not None:
        raise click.UsageError("give either --retire or --restore")
    layout_id = retire if retire is not None else restore
    if layout_id is not None:
        changed = retire_layout(base, layout_id, retired=retire is not None)
        if as_json:
            emit_json({"changed": changed, "layout": layout_id, "retired": retire is not None})
        else:
            state = "retired" if retire is not None else "in the field"
            click.echo(f"{layout_id}: {state}" + ("" if changed else " (nothing to do)"))
        return EXIT_DONE if changed else EXIT_NOTHING_TO_DO
    listed = list_layouts(base)
    if as_json:
        emit_json({"layouts": [_fields(each) for each in listed]})
        return EXIT_DONE
    for each in listed:
        click.echo(_sentence(each))
    return EXIT_DONE


def _fields(listed: Listed) -> dict[str, object]:
    known, slots = listed.known, listed.known.slots
    return {
        "id": slots.id,
        **{name: value for name, value in strict.plain(slots).items() if name != "format"},
        "first": known.versions[0],
        "last": known.versions[-1],
        "releases": len(known.versions),
        "retired": known.retired,
        "newest": listed.newest.version,
        "filled": {part.value: round(fill(listed.newest, slots, part), 4) for part in BoundPartition},
    }


def _sentence(listed: Listed) -> str:
    known, slots = listed.known, listed.known.slots
    sizes = (
        f"{part.value} {in_mib(slots.room(part))} ({100 * fill(listed.newest, slots, part):.0f} %)"
        for part in BoundPartition
    )
    retired = ", RETIRED" if known.retired else ""
    return (
        f"{slots.id}: {slots.family} installed with {known.installed_with}: "
        f"{', '.join(sizes)} with {listed.newest.version}{retired}"
    )
