"""`twinhull finish`: a build whose Secure Boot key was somewhere else."""

from __future__ import annotations

from pathlib import Path

import click

from bedrock.cli import emit_json, json_option
from bedrock.errors import EXIT_DONE, EXIT_NOTHING_TO_DO
from imagebuild.console import open_progress
from imagebuild.inputs.tools import cache_folder
from imagebuild.inspection.render import show_summary
from imagebuild.pipeline.finish import finish_build


@click.command("finish")
@click.argument("build", metavar="BUILD", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("request", metavar="[FILE]", required=False, type=click.Path(path_type=Path, exists=True))
@click.option("--quiet", is_flag=True, help="Print no progress.")
@json_option
def finish_command(build: Path, request: Path | None, quiet: bool, as_json: bool) -> int:
    """Attach Secure Boot signatures that were made elsewhere to an unsigned BUILD.

    `twinhull build` leaves a build unsigned when only the certificate of the key db is here, and writes
    signing-request.json into it. Take that file to the key and bring it back; FILE is the copy that came
    back [default: the one in BUILD]. The finished build has the same bytes as one that was signed while it
    was built. Needs the tools that built it, and no key. Exit code 4: it is signed already.

    When the key pcr is elsewhere as well, its signatures come first: they become part of the UKI, and BUILD gets
    another signing-request.json, for db.

    \b
    Example:
      twinhull build my-host --version 1.0.0 --keys public-keys
      twinhull sign out/my-host/1.0.0/signing-request.json --key 'pkcs11:token=release;object=db'
      twinhull finish out/my-host/1.0.0
    """
    with open_progress(quiet=quiet or as_json) as progress:
        done = finish_build(build, request, cache=cache_folder(), progress=progress)
    if as_json:
        emit_json({"out": str(done.out), "fresh": done.fresh, "next_request": done.next_request, **vars(done.summary)})
    elif done.next_request is not None:
        click.echo(f"the UKI's measured boot is signed; now take {done.next_request} to the key db")
    elif done.fresh:
        show_summary(done.summary, out=done.out, fresh=True)
    else:
        click.echo(f"{done.out} is signed already")
    return EXIT_DONE if done.fresh else EXIT_NOTHING_TO_DO
