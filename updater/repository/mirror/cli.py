"""`twinhull repo copy`."""

from __future__ import annotations

from pathlib import Path

import click

from bedrock import strict
from bedrock.cli import emit_json, json_option
from bedrock.clock import SYSTEM_CLOCK
from bedrock.errors import EXIT_DONE, EXIT_NOTHING_TO_DO
from updater.repository.arguments.cli import FOLDER, anchor_of, anchor_options, moment_text, progress_of, wait_option
from updater.repository.mirror.copying import Copied, copy
from updater.repository.mirror.sources import open_source

_MIB = 1 << 20


@click.command("copy")
@click.argument("source", metavar="SOURCE")
@click.argument("base", metavar="DEST", type=FOLDER)
@anchor_options
@click.option("--allow-expired", is_flag=True, help="Copy even a repository that hosts refuse, for it has expired.")
@click.option("--quiet", is_flag=True, help="No progress.")
@wait_option
@json_option
def copy_command(
    *,
    source: str,
    base: Path,
    root: Path | None,
    keys: Path | None,
    allow_expired: bool,
    quiet: bool,
    wait_s: float,
    as_json: bool,
) -> int:
    """Copy a repository, for a mirror or a site without a network; again, only what is new is fetched.

    SOURCE is a folder or an http(s) URL; DEST is new, or an earlier copy. Everything is verified like a host does,
    from the root document (--root) or the public keys (--keys) that you trust, before it becomes visible in DEST.
    An interrupted copy goes on where it stopped. A copy never goes back behind what it has.
    Proxies and certificates are those of the environment (https_proxy, no_proxy, SSL_CERT_FILE, REQUESTS_CA_BUNDLE).
    Exit code 4: DEST has everything already.

    \b
    Example:
      twinhull repo copy https://updates.example.com mirror --root root.json
      twinhull repo copy mirror /mnt/disk/repo --root root.json
    """
    now = SYSTEM_CLOCK.now()
    found = copy(
        open_source(source),
        base,
        anchor_of(root, keys),
        now=now,
        progress=progress_of(quiet=quiet),
        allow_expired=allow_expired,
        wait_s=wait_s,
    )
    for role in found.expired:
        click.echo(f"warning: the {role} metadata expired at {moment_text(found.expires[role])}", err=True)
    if as_json:
        expires = {role: moment_text(when) for role, when in found.expires.items()}
        emit_json({**strict.plain(found), "expires": expires})
    else:
        click.echo(_sentence(base, found))
    return EXIT_DONE if found.new else EXIT_NOTHING_TO_DO


def _sentence(base: Path, found: Copied) -> str:
    there = f"{base}: {found.releases} releases in {found.objects} objects"
    if not found.new:
        return f"{there}, nothing to do"
    return f"{there}, {found.fetched_objects} of them new ({found.fetched_bytes / _MIB:.1f} MiB)"
