"""`twinhull keys revoke-boot` and `twinhull keys trust-boot`: what the firmware of hosts starts."""

from __future__ import annotations

from pathlib import Path

import click

from bedrock.cli import emit_json, json_option
from bedrock.clock import SYSTEM_CLOCK
from bedrock.errors import EXIT_DONE, EXIT_DUE, EXIT_NOTHING_TO_DO
from bedrock.persist import write_atomic
from keys.ceremony.request import SigningRequest, missing_lines, request_bytes
from keys.ceremony.signing import read_request
from keys.certificates import read_certificate
from keys.secureboot.requests import addition_lines
from keys.secureboot.variable import Addition
from updater.documents.release import Architecture
from updater.repository.arguments.cli import FILE, FOLDER, RELEASE, WritingOptions, writing_options
from updater.repository.channels import ReleaseChoice
from updater.repository.layout import Layout
from updater.repository.revocation.revoke import (
    BootChange,
    BootTrustChanged,
    TrustWriting,
    kek_request,
    publish_change,
    revocation_of,
    trusting,
)

_REQUEST = click.option(
    "--request",
    "request",
    type=FILE,
    help="Signing request: written for KEK if FILE is not there, then for targets if its key is not here.",
)
_REASON = click.option("--reason", required=True, metavar="TEXT", help="Why, in one line; operators of hosts see it.")


@click.command("revoke-boot")
@click.argument("base", metavar="REPO", type=FOLDER)
@click.argument("releases", metavar="RELEASE...", type=RELEASE, nargs=-1, required=True)
@_REASON
@click.option("--force", is_flag=True, help="Revoke even a release that a channel sends hosts to.")
@_REQUEST
@writing_options
@json_option
def revoke_boot(
    *,
    base: Path,
    releases: tuple[ReleaseChoice, ...],
    reason: str,
    force: bool,
    request: Path | None,
    given: WritingOptions,
    as_json: bool,
) -> int:
    """Make firmware refuse the UKIs of published releases, on every host of the image.

    Publishes an addition to the firmware variable dbx, by the Authenticode SHA-256 of each UKI, signed by KEK;
    hosts append it when they look for updates, and not while it is what they run or fall back to. Nothing can
    be taken back: a revoked UKI never starts again. Needs KEK, targets, snapshot and timestamp; those that are
    elsewhere sign through --request and a ceremony (twinhull root).
    Exit code 4: it is revoked already. Exit code 5: signatures are missing.

    \b
    Example:
      twinhull keys revoke-boot repo my-host/1.0.0 --reason 'CVE-2026-1234 in the initrd'
      twinhull keys revoke-boot repo my-host/1.0.0 --reason 'CVE-2026-1234' --request revoke.json
    """
    change = revocation_of(base, releases, reason, force=force)
    return _publish(base, change, request, given, as_json=as_json)


@click.command("trust-boot")
@click.argument("base", metavar="REPO", type=FOLDER)
@click.argument("image", metavar="IMAGE")
@click.option("--certificate", required=True, type=FILE, help="The new certificate of db, in PEM.")
@click.option(
    "--architecture",
    type=click.Choice([each.value for each in Architecture]),
    default=Architecture.X86_64.value,
    show_default=True,
    help="The architecture of its hosts.",
)
@_REASON
@_REQUEST
@writing_options
@json_option
def trust_boot(
    *,
    base: Path,
    image: str,
    certificate: Path,
    architecture: str,
    reason: str,
    request: Path | None,
    given: WritingOptions,
    as_json: bool,
) -> int:
    """Have the firmware of IMAGE's hosts trust another certificate of db, before anything signed with it is published.

    Publishes an addition to the firmware variable db, signed by KEK; hosts append it when they look for
    updates. Keys that are elsewhere sign through --request and a ceremony (twinhull root). Exit code 4: it is
    published already. Exit code 5: signatures are missing.

    \b
    Example:
      twinhull keys trust-boot repo my-host --certificate db-2027.crt --reason 'db is renewed in 2027'
    """
    change = trusting(image, Architecture(architecture), read_certificate(certificate), reason)
    return _publish(base, change, request, given, as_json=as_json)


def _publish(base: Path, change: BootChange, request: Path | None, given: WritingOptions, *, as_json: bool) -> int:
    now = SYSTEM_CLOCK.now()
    if request is not None and not request.exists():
        asked: SigningRequest = kek_request(change, given.access, now=now)
        write_atomic(request, request_bytes(asked))
        if as_json:
            emit_json({"request": request, "published": False})
        else:
            click.echo(f"{request}: take it to KEK (twinhull sign {request}), then run the same command again")
        return EXIT_DUE
    signed = read_request(request) if request is not None else None
    done = publish_change(
        base, change, TrustWriting(given.access, given.lifetimes, now, request=signed, wait_s=given.wait_s)
    )
    if done.ceremony is not None and request is not None:
        write_atomic(request, request_bytes(done.ceremony))
    _report(change, done, base=base, request=request, as_json=as_json)
    if done.ceremony is not None and not done.ceremony.complete:
        return EXIT_DUE
    return EXIT_DONE if done.new else EXIT_NOTHING_TO_DO


def _report(change: BootChange, done: BootTrustChanged, *, base: Path, request: Path | None, as_json: bool) -> None:
    lines = list(addition_lines(Addition(change.variable, SYSTEM_CLOCK.now(), change.lists)))
    missing = list(missing_lines(done.ceremony)) if done.ceremony else []
    if as_json:
        valid = done.new and done.ceremony is None
        emit_json({"published": valid, "missing": missing, "reason": change.reason, "lines": lines})
        return
    if done.ceremony is None:
        click.echo("published" if done.new else "published before, nothing to do")
    elif missing:
        file = request or Layout(base).ceremony_file
        click.echo(f"{file}: take it to the key of targets (twinhull sign), then: twinhull root apply {base} {file}")
    else:
        click.echo("signed; waits for the online keys (twinhull repo sign-online)")
    for line in (*lines, *(f"missing: {each}" for each in missing)):
        click.echo(f"  {line}")
