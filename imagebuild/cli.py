"""The `twinhull` program: keys, images, repositories, channels, the server and virtual machines.

Only the names of commands and the printing of their results are here.
"""

from __future__ import annotations

from pathlib import Path

import click

from bedrock.cli import completion_command, emit_json, json_option, run_command
from bedrock.errors import EXIT_DONE, EXIT_NOTHING_TO_DO
from bedrock.progress import Progress
from imagebuild.attest.cli import scan
from imagebuild.console import open_progress
from imagebuild.definition.image import BuildProfile, load_definition
from imagebuild.definition.schemas import image_schema, provision_schema, settings_schema
from imagebuild.definition.starting import write_starting_definition
from imagebuild.inputs.bundle import open_bundle
from imagebuild.inputs.cli import bundle, lock
from imagebuild.inputs.supply import Supply, load_lock
from imagebuild.inputs.tools import cache_folder
from imagebuild.inspection.cli import diff, inspect
from imagebuild.inspection.render import show_summary
from imagebuild.inspection.summary import Summary
from imagebuild.pipeline.chain import BuildChain
from imagebuild.pipeline.cli import finish_command
from imagebuild.provision.cli import provision
from imagebuild.reproduction.cli import reproduce_command
from imagebuild.steps.signing import KeySource
from imagebuild.trim.cli import trim_command
from imagebuild.vm.cli import vm
from keys.ceremony.cli import sign_command
from keys.ceremony.request import PayloadKind
from keys.cli import keys, keys_option, passphrase_option, passphrase_source
from keys.keyring import Keyring
from keys.secureboot.requests import boot_words
from partitions.cli import VERSION
from partitions.version import Version
from updater.fleet.cli import fleet
from updater.repository.ceremony.cli import root
from updater.repository.ceremony.words import tuf_words
from updater.repository.cli import channel, repo
from updater.repository.revocation.cli import revoke_boot, trust_boot
from updater.server.cli import server

# How `twinhull sign` puts into words what it signs.
WORDS = {PayloadKind.TUF: tuf_words, PayloadKind.SECURE_BOOT: boot_words}
SCHEMAS = {"image": image_schema, "provision": provision_schema, "updater": settings_schema}
_OFFLINE_HELP = "Use what `twinhull bundle` packed; the network is not touched."


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="twinhull", prog_name="twinhull")
def twinhull() -> None:
    """Build signed, immutable container hosts and keep fleets of them up to date.

    From keys to a running host:

    \b
      twinhull keys init my-keys --profile dev
      twinhull repo init repo
      twinhull init my-host
      twinhull build my-host --version 1.0.0
      twinhull inspect out/my-host/1.0.0
      twinhull repo publish repo out/my-host/1.0.0
      twinhull channel set repo stable --release my-host/1.0.0
      twinhull server repo
      twinhull vm run out/my-host/1.0.0 --credential 'twinhull.updater=url: http://10.0.2.2:8080'

    Keys are read from my-keys, unless --keys or TWINHULL_KEYS names another folder.
    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused because verification failed, 4 nothing to do,
    5 something must be done soon, 6 it is overdue.
    """


@twinhull.command("init")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--id", "chosen_id", metavar="ID", help="The image's id [default: made from DIR's name].")
@json_option
def init_definition(folder: Path, chosen_id: str | None, as_json: bool) -> None:
    """Write a commented DIR/image.yaml to start from, and its schema for editors.

    \b
    Example:
      twinhull init my-host && $EDITOR my-host/image.yaml
    """
    path = write_starting_definition(folder, chosen_id=chosen_id)
    if as_json:
        emit_json({"definition": path, "id": load_definition(folder).id})
    else:
        click.echo(f"wrote {path}")


@twinhull.command("schema")
@click.argument("document", type=click.Choice(sorted(SCHEMAS)), default="image")
def schema(document: str) -> None:
    """Print the JSON Schema of image.yaml, of a provisioning document, or of the settings that `updater` reads.

    Editors with a YAML language server use it to complete and check; `twinhull init` writes it next to image.yaml.

    \b
    Example:
      twinhull schema > my-host/image.schema.json
      twinhull schema provision
      twinhull schema updater
    """
    emit_json(SCHEMAS[document]())


@twinhull.command("build")
@click.argument("definition", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--version", type=VERSION, required=True, metavar="V", help="The version to build; it never changes.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write the build to [default: out/ID/V].")
@keys_option
@click.option(
    "--root-of-trust",
    type=click.Path(path_type=Path),
    help="TUF root document that hosts will trust [default: KEYS/root.json].",
)
@click.option(
    "--profile",
    type=click.Choice([p.value for p in BuildProfile]),
    help="debug: root is logged in on every console, without a password.",
)
@click.option("--locked", is_flag=True, help="Use exactly the inputs that DEFINITION/image.lock names.")
@click.option("--offline", type=click.Path(path_type=Path, exists=True), metavar="BUNDLE", help=_OFFLINE_HELP)
@click.option("--quiet", is_flag=True, help="Print no progress.")
@passphrase_option
@json_option
@click.pass_context
def build(
    context: click.Context,
    *,
    definition: Path,
    version: Version,
    out: Path | None,
    keys_folder: Path,
    root_of_trust: Path | None,
    profile: str | None,
    locked: bool,
    offline: Path | None,
    quiet: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> int:
    """Build the image that DEFINITION describes.

    Needs the boot keys db and pcr, and the root of trust that `twinhull repo init` made.  If only the certificate of
    one of them is here, the build stays unsigned and says how to finish it (twinhull finish).  The result is a folder:
    disk.raw and disk.qcow2 to boot, the UKI, the root filesystem and its verity tree to publish, release.json,
    packages.json and contents.json (what the image holds), sbom.cdx.json (the same for scanners), provenance.json (what
    it was built from), layout.json (the partition sizes of its disk), the configuration for mkosi and systemd-repart,
    and the log.  Exit code 4: the same build already exists.

    \b
    Example:
      twinhull build examples/container-host --version 1.0.0
      twinhull build my-host --version 1.0.0 --locked
      twinhull build my-host --version 1.0.0 --offline my-host.tar
    """
    keyring, chain = Keyring.load(keys_folder), context.find_object(BuildChain) or BuildChain()
    with open_progress(quiet=quiet or as_json) as progress:
        plan = chain.plan(
            definition,
            version=version,
            signatures=KeySource(keyring, passphrase_source(passphrase_file), later=True),
            root_of_trust=root_of_trust or keyring.folder / "root.json",
            supply=_supply(chain, definition, locked=locked, packed=offline, progress=progress),
            out=out,
            profile=BuildProfile(profile) if profile else None,
        )
        built = chain.build(plan, progress=progress)
    warnings = plan.supply.warnings
    if as_json:
        emit_json({"out": str(built.out), "fresh": built.fresh, **_fields(built.summary), "warnings": warnings})
    else:
        show_summary(built.summary, out=built.out, fresh=built.fresh)
        for warning in warnings:
            click.secho(f"warning: {warning}", fg="yellow", bold=True, err=True)
    return EXIT_DONE if built.fresh else EXIT_NOTHING_TO_DO


def _supply(chain: BuildChain, definition: Path, *, locked: bool, packed: Path | None, progress: Progress) -> Supply:
    """The packages and tools of a build: the newest, the locked ones, or those of a bundle."""
    cache = cache_folder()
    if packed is not None:
        progress.step("read the bundle")
        lock = open_bundle(packed, definition, cache=cache)
        return chain.locked(definition, lock, mirrors=None, cache=cache, progress=progress)
    mirrors = chain.mirrors(definition)
    if locked:
        return chain.locked(definition, load_lock(definition), mirrors=mirrors, cache=cache, progress=progress)
    return chain.newest(definition, mirrors=mirrors, cache=cache, progress=progress)


def _fields(summary: Summary) -> dict[str, object]:
    return dict(vars(summary))


for command in (
    lock,
    bundle,
    inspect,
    diff,
    trim_command,
    scan,
    reproduce_command,
    finish_command,
    keys,
    sign_command(WORDS),
    root,
    repo,
    channel,
    fleet,
    server,
    provision,
    vm,
):
    twinhull.add_command(command)
# Their repository is above the keys.
for command in (revoke_boot, trust_boot):
    keys.add_command(command)
twinhull.add_command(completion_command(twinhull, "twinhull"))


def main() -> None:
    """Entry point of the program `twinhull`."""
    run_command(twinhull, prog_name="twinhull")


if __name__ == "__main__":
    main()
