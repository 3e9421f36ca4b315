"""`updater etc-diff`, and the command by which a host's units note edits."""

from __future__ import annotations

import click

from bedrock.cli import emit_json, json_option
from updater.agent.etcdiff.comparing import Wanted, lines
from updater.agent.etcdiff.overview import HostEtc
from updater.agent.host_paths import HostPaths
from updater.agent.machine import parse_os_release
from updater.agent.provisioning.provisioning import RecordStore
from updater.agent.provisioning.this_host import image_root, load_etc_policy

# Names that go into the journal.
_NAMED = 20


@click.command("etc-diff")
@click.option("--content", is_flag=True, help="Show unified diffs.")
@click.option("--private", is_flag=True, help="Show those of files that not everybody may read, too.")
@json_option
def etc_diff(content: bool, private: bool, as_json: bool) -> None:
    """Show what this host changed in /etc, what its image changed since, and what will not persist."""
    paths = _this_host()
    wanted = Wanted(content=content or private, private=private)
    with image_root() as image:
        found = _host_etc(paths).overview(image, RecordStore(paths.state).load(), wanted)
    if as_json:
        emit_json(found)
    else:
        click.echo("".join(f"{line}\n" for line in lines(found)), nl=False)


@click.command("etc-note", hidden=True)
def etc_note() -> None:
    """Remember which edits of /etc there are (twinhull-boot.service, by /usr/lib/twinhull/etc-edited)."""
    paths = _this_host()
    with image_root() as image:
        names = _host_etc(paths).note(image, RecordStore(paths.state).load())
    if names and (paths.runtime / "etc-refused").exists():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        click.echo(f"refused at this boot in /etc: {', '.join(names[:_NAMED])}{more}", err=True)


def _this_host() -> HostPaths:
    paths = click.get_current_context().find_object(HostPaths) or HostPaths()
    if not paths.is_this_host:
        raise click.UsageError("this command works on the running host only, without --root")
    return paths


def _host_etc(paths: HostPaths) -> HostEtc:
    release = parse_os_release((paths.root / "usr/lib/os-release").read_text())
    return HostEtc(paths, release["IMAGE_VERSION"], load_etc_policy(paths.root))
