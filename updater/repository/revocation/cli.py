"""`twinhull keys revoke-boot` and `twinhull keys trust-boot`: what the firmware of hosts starts."""

from __future__ import annotations

from pathlib import Path

import click

from bedrock.cli import emit_json, json_option
from bedrock.clock import SYSTEM_CLOCK
from bedrock.errors import EXIT_DONE, EXIT_NOTHING_TO_DO
from bedrock.persist import write_atomic
from keys.ceremony.request import SigningRequest, request_bytes
from keys.ceremony.signing import read_request
from keys.certificates import read_certificate
from keys.secureboot.requests import addition_lines
from keys.secureboot.variable import Addition
from updater.documents.release import Architecture
from updater.repository.arguments.cli import FILE, FOLDER, RELEASE, WritingOptions, writing_options
from updater.repository.channels import ReleaseChoice
from updater.repository.revocation.revoke import (
    BootChange,
    TrustWriting,
    publish_change,
    request_for,
    revocation_of,
    trusting,
)

_REQUEST = click.option(
    "--request",
    "request",
    type=FILE,
    help="Signing request for KEK: written if FILE is not there, else its signature is taken from it.",
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
    be taken back: a revoked UKI never starts again. Needs KEK (or --request), targets, snapshot and timestamp.
    Exit code 4: it is revoked already.

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
    updates. Needs KEK (or --request), targets, snapshot and timestamp. Exit code 4: it is published already.

    \b
    Example:
      twinhull keys trust-boot repo my-host --certificate db-2027.crt --reason 'db is renewed in 2027'
    """
    change = trusting(image, Architecture(architecture), read_certificate(certificate), reason)
    return _publish(base, change, request, given, as_json=as_json)


def _publish(base: Path, change: BootChange, request: Path | None, given: WritingOptions, *, as_json: bool) -> int:
    now = SYSTEM_CLOCK.now()
    if request is not None and not request.exists():
        asked: SigningRequest = request_for(change, given.access, now=now)
        write_atomic(request, request_bytes(asked))
        if as_json:
            emit_json({"request": request, "published": False})
        else:
            click.echo(f"{request}: take it to KEK (twinhull sign {request}), then run the same command again")
        return EXIT_DONE
    signed = read_request(request) if request is not None else None
    done = publish_change(
        base, change, TrustWriting(given.access, given.lifetimes, now, request=signed, wait_s=given.wait_s)
    )
    lines = list(addition_lines(Addition(change.variable, now, change.lists)))
    if as_json:
        emit_json({"published": done.new, "updates": len(done.trust.updates), "reason": change.reason, "lines": lines})
    else:
        click.echo("published" if done.new else "published before, nothing to do")
        for line in lines:
            click.echo(f"  {line}")
    return EXIT_DONE if done.new else EXIT_NOTHING_TO_DO
