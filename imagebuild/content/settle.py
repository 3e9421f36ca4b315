"""The build step that completes the tree and refuses what no host should run.

    facts of the tree → problems of the definition against it → accounts, state, host keys, locale are written
    → the definition's files are read by the programs that will read them on a host → the tree is checked for secrets

All problems of one kind are reported together, and fail the build.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bedrock import strict
from bedrock.errors import TwinhullError
from imagebuild.content import kernel
from imagebuild.content.accounts import SYSUSERS_FILE as ACCOUNTS_FILE
from imagebuild.content.accounts import Ids, SettledAccounts, changed_ids, settle_ids, sysusers_text
from imagebuild.content.effects import unknown_health_units, unread_files
from imagebuild.content.locale import make_locale
from imagebuild.content.overwrites import overwrite_problems
from imagebuild.content.secrets import THROWN_AWAY, WAYS_OUT, allowed_paths, secret_problems, thrown_away_notes
from imagebuild.content.services import UnitFile, disabled_services, read_unit_files, service_problems
from imagebuild.content.sources import DefinitionText, sources_of
from imagebuild.content.sshd import LINKS, SERVER, host_key_files
from imagebuild.content.state import RECORD_FILE, TMPFILES_FILE, FirstBootState, read_record, state_of, tmpfiles_paths
from imagebuild.content.tree import EditableTree, TreeContents, TreeEdit
from imagebuild.content.verify import settings_of, verify
from imagebuild.definition.baked import definition_paths
from imagebuild.definition.host import UTC, ImageUser, Services
from imagebuild.definition.image import ImageDefinition
from imagebuild.errors import BuildError
from imagebuild.inspection.contents import Contents
from imagebuild.paths import DATA, EPOCH
from imagebuild.steps.dpkg import read_database
from imagebuild.steps.leave_out.patterns import merged
from imagebuild.steps.plan import INPUTS_FILE, BuildInputs, BuildPlan
from imagebuild.steps.products import Kernel, PackageTree
from imagebuild.steps.workshop import Workshop

IDS_FILE = "ids.json"
_SETTINGS = (
    "/etc/passwd",
    "/etc/group",
    "/etc/shadow",
    "/usr/lib/sysusers.d/*.conf",
    "/usr/lib/tmpfiles.d/*.conf",
    "/etc/tmpfiles.d/*.conf",
    "/usr/lib/modules/*/modules.dep",
    "/usr/lib/modules/*/modules.builtin",
    "/usr/lib/modules/*/modules.alias",
)
_UNITS = ("/usr/lib/systemd/system/*", "/etc/systemd/system/*")
# Backups that the tools that change accounts leave behind.
_BACKUPS = tuple(f"etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid"))


@dataclass(frozen=True)
class SettleFacts:
    """What a tree holds and where it comes from.

    Attributes:
        found: Settings of the tree.
        packages: Names of the packages it was made of.
        units: Names of unit files that are no mask.
        unit_files: Unit files as systemctl sees them.
        owners: The packages that own a path.
        own: The paths that every Twinhull image has.
        sources: What the definition itself brings.
    """

    found: TreeContents
    packages: frozenset[str]
    units: frozenset[str]
    unit_files: dict[str, UnitFile]
    owners: dict[str, str]
    own: frozenset[str]
    sources: tuple[DefinitionText, ...]


@dataclass(frozen=True)
class SettledTree:
    """A completed tree: its unit files as systemctl sees them, and notes for the person who builds the image."""

    unit_files: dict[str, UnitFile]
    notes: tuple[str, ...]


def settle(shop: Workshop, package_tree: PackageTree) -> SettledTree:
    """Complete the tree and check it (writes into the tree, and `ids.json` into the build's folder).

    Raises:
        BuildError: The definition requests something impossible, a file of it is wrong, or the image holds a secret;
            all problems are listed.
    """
    definition = shop.plan.definition
    tree = EditableTree(package_tree.root, shop.tools, shop.access, shop.work, EPOCH)
    facts = _facts(shop, tree, package_tree)
    problems = _definition_problems(shop, tree, facts, package_tree.kernel)
    _require(shop, "image.yaml requests something that this image cannot have", problems)
    settled = settle_ids(
        facts.found.texts["/etc/passwd"], facts.found.texts["/etc/group"], definition.users, definition.groups
    )
    _require(shop, "ids of users and groups changed", _id_problems(shop.plan, settled.ids))
    _require(
        shop, "users: only ids and groups can be set of a package's user", user_problems(definition.users, settled)
    )
    if definition.ssh.keys and definition.ssh.user not in settled.ids.users:
        message = f"ssh.user: the image has no user {definition.ssh.user}; `users` makes it"
        _require(shop, "image.yaml asks for what this image cannot have", (message,))
    state = _state(package_tree, facts)
    thrown_away = _thrown_away(definition, tree)
    tree.change(_change(shop, tree, facts, settled, state, thrown_away=thrown_away))
    make_locale(tree, definition.locale)
    verdict = verify(tree, facts.sources)
    _require(shop, "files of the definition are wrong", verdict.problems)
    unknown = unknown_health_units(definition, facts.units | facts.unit_files.keys() | verdict.generated)
    _require(shop, "image.yaml asks for what this image cannot have", unknown)
    found = tree.secrets(facts.owners)
    baked = secret_problems(found, definition.secrets, shop.plan.profile)
    _require(shop, "the image holds secrets", baked, hints=WAYS_OUT)
    (shop.out / IDS_FILE).write_bytes(strict.dump_json(settled.ids))
    with shop.log.open("a") as log:
        for path in state.left_behind:
            log.write(f"{path} was written by a maintainer's script and is not in the image\n")
    return SettledTree(
        unit_files=read_unit_files(tree.systemctl("list-unit-files", "--output=json")),
        notes=(*(f"not checked: {line}" for line in verdict.unchecked), *thrown_away_notes(thrown_away)),
    )


def forgotten_services(settled: SettledTree, contents: Contents, services: Services) -> dict[str, tuple[str, ...]]:
    """The packages of the definition whose units do not start and are not named in `services`, with their units."""
    asked = {package for package, chain in contents.reasons.items() if chain[0] == "image.yaml: packages"}
    owners = _unit_owners({entry.path: entry.owner for entry in contents.entries})
    return disabled_services(settled.unit_files, owners, asked, services)


def user_problems(users: Iterable[ImageUser], settled: SettledAccounts) -> tuple[str, ...]:
    """Problems for settings of a package's user that have no effect."""
    rows = {row[0]: row for row in (line.split(":") for line in settled.passwd.splitlines())}
    problems = []
    for index, user in enumerate(users):
        _, _, _, _, comment, home, shell = rows[user.name]
        said = (("home", user.home, home), ("comment", user.comment or None, comment))
        problems += [
            f"users[{index}].{key}: {user.name} is a package's user and has {value!r}, not {str(wanted)!r}"
            for key, wanted, value in said
            if wanted is not None and str(wanted) != value
        ]
        if user.shell != ImageUser.shell and str(user.shell) != shell:
            problems.append(f"users[{index}].shell: {user.name} is a package's user and has {shell!r}")
    return tuple(problems)


def _facts(shop: Workshop, tree: EditableTree, package_tree: PackageTree) -> SettleFacts:
    definition = shop.plan.definition
    units = tree.read(*_UNITS)
    masks = {path for path, target in units.links.items() if target == "/dev/null" and path.startswith("/etc/")}
    installed = read_database(package_tree.record)
    extra = shop.extra
    ours = {f"/{path.relative_to(extra)}" for path in extra.rglob("*") if path.is_symlink() or path.is_file()}
    return SettleFacts(
        found=tree.read(*_SETTINGS),
        packages=frozenset(package.name for package in installed),
        units=frozenset(path.rpartition("/")[2] for path in units.names - masks),
        unit_files=read_unit_files(tree.systemctl("list-unit-files", "--output=json")),
        owners={merged(path): package.name for package in installed for path in package.files},
        own=frozenset(ours - definition_paths(definition)) | _data_paths(),
        sources=sources_of(definition, shop.definition),
    )


def _data_paths() -> frozenset[str]:
    """The files that every Twinhull image has, also where a definition's file took their place."""
    tree = DATA / "tree"
    return frozenset(f"/{path.relative_to(tree)}" for path in tree.rglob("*") if path.is_file())


def _definition_problems(shop: Workshop, tree: EditableTree, facts: SettleFacts, image: Kernel) -> list[str]:
    definition = shop.plan.definition
    problems = [*overwrite_problems(definition, facts.owners, facts.own)]
    problems += unread_files(definition, facts.packages)
    problems += service_problems(definition.services, facts.unit_files, facts.units)
    texts = facts.found.texts
    dep, builtin, aliases = (
        "".join(text for path, text in texts.items() if path.endswith(f"/modules.{name}"))
        for name in ("dep", "builtin", "alias")
    )
    problems += kernel.module_problems(definition.modules, dep=dep, builtin=builtin, aliases=aliases)
    problems += _setting_problems(definition.sysctl, tree, facts.sources, image)
    # The C library knows UTC without a file.
    if definition.timezone != UTC and not tree.read(f"/usr/share/zoneinfo/{definition.timezone}").names:
        problems.append(f"timezone: the image has no zone {definition.timezone} in /usr/share/zoneinfo")
    return problems


def _setting_problems(
    said: Mapping[str, str], tree: EditableTree, sources: Iterable[DefinitionText], image: Kernel
) -> Iterable[str]:
    """Kernel settings that the image's kernel does not know, of `sysctl` and of the definition's own files."""
    places = settings_of(sources)
    names = (*said, *places)
    content = kernel.unpacked_kernel(image.file.read_bytes()) if names else None
    if content is None:
        return
    unknown = kernel.unknown_settings(names, content)
    in_modules = tree.strings_of_modules(set(unknown.values())) if unknown else frozenset()
    for name, last in unknown.items():
        if last in in_modules:
            continue
        message = f"neither the image's kernel nor a module of it knows the setting {name}"
        if name in said:
            yield f"sysctl.{name}: {message}"
        for source, line in places.get(name, ()):
            yield source.at(line, message)


def _id_problems(plan: BuildPlan, ids: Ids) -> tuple[str, ...]:
    """Problems for accounts whose id differs from the newest earlier version next to this build."""
    earlier: list[tuple[BuildInputs, Path]] = []
    for path in sorted(plan.out.parent.glob(f"*/{INPUTS_FILE}")):
        try:
            found = strict.read_json(BuildInputs, path.read_bytes(), source=str(path))
        except (TwinhullError, OSError):
            # A folder that is not a build of this program; the budget names it, where there is one.
            continue
        if found.image == plan.definition.id and found.version < plan.version and (path.parent / IDS_FILE).is_file():
            earlier.append((found, path.parent / IDS_FILE))
    if not earlier:
        return ()
    inputs, path = max(earlier, key=lambda each: each[0].version)
    return changed_ids(strict.read_json(Ids, path.read_bytes(), source=str(path)), ids, str(inputs.version))


def _state(package_tree: PackageTree, facts: SettleFacts) -> FirstBootState:
    path = package_tree.record / RECORD_FILE
    texts = (text for name, text in facts.found.texts.items() if "tmpfiles.d/" in name)
    return state_of(read_record(path.read_bytes(), source=str(path)), tmpfiles_paths(texts))


def _thrown_away(definition: ImageDefinition, tree: EditableTree) -> frozenset[str]:
    """Keys that packages made during installation, and that the definition neither sets nor allows."""
    return tree.read(*THROWN_AWAY).names - {*definition_paths(definition), *allowed_paths(definition.secrets)}


def _change(
    shop: Workshop,
    tree: EditableTree,
    facts: SettleFacts,
    settled: SettledAccounts,
    state: FirstBootState,
    *,
    thrown_away: Iterable[str],
) -> TreeEdit:
    """All changes to make in the tree."""
    texts = facts.found.texts
    shadow = texts.get("/etc/shadow", "")
    write = {
        "/etc/passwd": (0o644, settled.passwd),
        "/etc/group": (0o644, settled.group),
        ACCOUNTS_FILE: (0o644, sysusers_text(settled.passwd, settled.group, shadow)),
        **state.factory,
    }
    if state.text:
        write[TMPFILES_FILE] = (0o644, state.text)
    links = _zone(shop.plan.definition.timezone)
    if tree.read(SERVER).names:
        write |= {path: (0o644, text) for path, text in host_key_files().items()}
        # The definition may have put another generator there.
        links |= {path: target for path, target in LINKS.items() if not tree.read(path).names}
    replaced = tuple(path.lstrip("/") for path in texts if path.startswith("/usr/lib/sysusers.d/"))
    return TreeEdit(
        remove=(*replaced, *_BACKUPS, *(_escaped(path) for path in sorted(thrown_away))),
        write=write,
        copy=_missing(shop, tree),
        link=links,
        users=settled.users,
        groups=settled.groups,
    )


def _zone(name: str) -> dict[str, str]:
    """The link that sets the time zone; mkosi, which could make it, ends with one that it does not know."""
    return {} if name == UTC else {"/etc/localtime": f"../usr/share/zoneinfo/{name}"}


def _missing(shop: Workshop, tree: EditableTree) -> dict[str, tuple[int, Path]]:
    """Files of the definition that are missing in the tree although nothing removed them on purpose."""
    definition = shop.plan.definition
    wanted = definition_paths(definition)
    there = tree.read(*sorted(_escaped(path) for path in wanted)).names if wanted else frozenset()
    missing: dict[str, tuple[int, Path]] = {}
    for path in sorted(wanted - there - {"/usr/lib/sysusers.d/10-image.conf"}):
        source = shop.extra / path.lstrip("/")
        if source.is_file() and not source.is_symlink():
            missing[path] = (source.stat().st_mode & 0o7777, source)
    return missing


def _escaped(path: str) -> str:
    """A path as a pattern that matches it alone."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in path)


def _unit_owners(owners: Mapping[str, str]) -> dict[str, str]:
    folder = "/usr/lib/systemd/system/"
    return {path.removeprefix(folder): owner for path, owner in owners.items() if path.startswith(folder)}


def _require(shop: Workshop, what: str, problems: Iterable[str], hints: Iterable[str] = ()) -> None:
    if found := tuple(problems):
        lines = (f"{what} ({shop.plan.folder / 'image.yaml'})", *(f"  {line}" for line in found))
        error = BuildError("\n".join(lines))
        for hint in hints:
            error.add_note(hint)
        raise error
