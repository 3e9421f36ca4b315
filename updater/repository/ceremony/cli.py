"""`twinhull root`: root and targets are renewed and keys exchanged, signature by signature."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from bedrock.cli import emit_json, json_option
from bedrock.clock import SYSTEM_CLOCK
from bedrock.errors import EXIT_DONE, EXIT_DUE, EXIT_NOTHING_TO_DO
from bedrock.persist import write_atomic
from keys.ceremony.request import request_bytes
from keys.ceremony.signing import read_request
from updater.repository.arguments.cli import FILE, FOLDER, SPAN, WritingOptions, keep_newest_root, writing_options
from updater.repository.ceremony.pending import CeremonyStep, apply, make_request
from updater.repository.upkeep.refresh import DEFAULT_WITHIN


@click.group("root")
def root() -> None:
    """Renew root and targets, and exchange keys, where no machine has all the keys.

    `sign-request` writes what is to be signed to a file, `twinhull sign` signs it wherever a key is, and
    `apply` brings the signatures back. Where all keys are at hand, `twinhull repo refresh` does it at once.

    \b
    Example:
      twinhull root sign-request repo --out root.json
      twinhull sign root.json --key file:/media/usb/root-1.pem
      twinhull root apply repo root.json
    """


@root.command("sign-request")
@click.argument("base", metavar="REPO", type=FOLDER)
@click.option("--out", required=True, metavar="FILE", type=FILE, help="Where to write the request.")
@writing_options
@click.option("--within", type=SPAN, help="Renew what expires within this time (default 30d).")
@click.option("--renew", is_flag=True, help="Renew root and targets whenever they expire.")
@json_option
def sign_request_command(
    *, base: Path, out: Path, given: WritingOptions, within: timedelta | None, renew: bool, as_json: bool
) -> int:
    """Write to FILE what must be signed for REPO to have the keys of keyring.yaml, and what expires soon.

    Needs no private keys. The same request is written again, with its signatures so far, until it ends
    or other changes are asked for. Exit code 4: there is nothing to sign.

    \b
    Example:
      twinhull root sign-request repo --out root.json --renew
    """
    step = make_request(
        base,
        keyring=given.access.keyring,
        lifetimes=given.lifetimes,
        now=SYSTEM_CLOCK.now(),
        within=DEFAULT_WITHIN if within is None else within,
        renew=renew,
        wait_s=given.wait_s,
    )
    if step.request is not None:
        write_atomic(out, request_bytes(step.request))
    return _report(base, step, nothing="nothing is to be signed", as_json=as_json)


@root.command("apply")
@click.argument("base", metavar="REPO", type=FOLDER)
@click.argument("files", metavar="FILE...", type=FILE, nargs=-1)
@writing_options
@json_option
def apply_command(*, base: Path, files: tuple[Path, ...], given: WritingOptions, as_json: bool) -> int:
    """Bring the signatures in FILEs to REPO, and say which are missing.

    When none is missing, the new documents become valid at once if the keys of snapshot and timestamp are
    here, else with the next `twinhull repo sign-online`. A new root is also written next to the keys as
    root.json. Exit code 5: signatures are missing. Exit code 4: these documents are valid already.

    \b
    Example:
      twinhull root apply repo from-anna.json from-ben.json
    """
    step = apply(
        base,
        [read_request(file) for file in files],
        access=given.access,
        lifetimes=given.lifetimes,
        now=SYSTEM_CLOCK.now(),
        wait_s=given.wait_s,
    )
    if step.finished:
        keep_newest_root(base, given.access.keyring)
    return _report(base, step, nothing="these documents are valid already", as_json=as_json)


def _report(base: Path, step: CeremonyStep, *, nothing: str, as_json: bool) -> int:
    names = [entry.name for entry in step.request.entries] if step.request else []
    if as_json:
        emit_json({"documents": names, "missing": step.missing, "finished": step.finished})
    elif not names:
        click.echo(f"{base}: {nothing}")
    elif step.finished:
        click.echo(f"{base}: {', '.join(names)}: valid now")
    elif not step.missing:
        click.echo(f"{base}: {', '.join(names)}: signed; waits for the online keys (twinhull repo sign-online)")
    for line in step.missing if not as_json else ():
        click.echo(f"missing: {line}")
    if not names:
        return EXIT_NOTHING_TO_DO
    return EXIT_DUE if step.missing else EXIT_DONE
