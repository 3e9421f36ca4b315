"""A release with a package of a third party, built again: packages are fetched for real, the build itself is played."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bedrock.digest import file_sha256
from bedrock.progress import Silent
from imagebuild.definition.image import definition_digest, load_definition
from imagebuild.errors import MirrorError, NotReproducedError, RefusedInputError
from imagebuild.inputs.archive import ensure_archive
from imagebuild.inputs.archives import archives_of
from imagebuild.inputs.bundle import write_bundle
from imagebuild.inputs.lockfile import FORMAT, Lock, LockedWheel, Selection, write_lock
from imagebuild.inputs.mirror import Mirrors, mirrors_for
from imagebuild.inputs.requested import asked_packages
from imagebuild.inputs.resolve import Resolver
from imagebuild.inputs.store import fetch_packages
from imagebuild.inputs.supply import store_in
from imagebuild.inputs.tools import ToolsTree, cache_folder, locked_tools_folder
from imagebuild.inputs.wheels import agent_wheels
from imagebuild.pipeline.build import Built
from imagebuild.pipeline.chain import BuildChain
from imagebuild.reproduction.rebuild import ReproductionRequest, reproduce
from imagebuild.steps.plan import BuildPlan
from partitions.version import Version
from tests.fakes import attested
from tests.fakes.attested import attested_build, signatures_with
from tests.fakes.builds import Publisher
from tests.fakes.debian_packages import deb
from tests.fakes.definitions import SUMMARY, plan_in, write_definition
from tests.fakes.http_server import Site, serving
from tests.fakes.provisions import CERTIFICATE
from tests.fakes.signed_repository import RepositoryOnDisk, SigningKey, signing_key
from updater.documents.signatures import dump_signatures
from updater.repository.channels import ReleaseChoice

PROBE = "/pool/main/probe_2.0-1_amd64.deb"
SIGNATURES = signatures_with(CERTIFICATE)


@dataclass
class Case:
    """A published release, its definition with a source of its own, and who serves the packages."""

    folder: Path
    tools: ToolsTree
    definition: Path
    debian: Site
    third: Site
    lock: Lock
    workshop: Publisher
    published: Path
    planned: list[BuildPlan] = field(default_factory=list)

    def cache(self, name: str) -> Path:
        """An empty cache, but for the tools of the lock and the agent's wheels, which are no part of these tests."""
        cache = self.folder / name
        cache.mkdir()
        (cache / "wheels").symlink_to(cache_folder() / "wheels")
        store, tools = store_in(cache), self.lock.tools_packages
        fetch_packages(store, tools.packages, {"debian": self.debian.url}, progress=Silent(), offline=False)
        tree = locked_tools_folder(ensure_archive(tools, store, cache=cache), tools.release, cache=cache)
        tree.parent.mkdir(parents=True)
        tree.symlink_to(self.tools.root)
        return cache

    def reproduce(self, *, bundle: Path | None = None) -> list[tuple[str, str]]:
        """Build it again; the packages that the new build was handed, each with where it came from."""
        self.planned.clear()
        cache = self.cache("cache-of-another")

        def plan(_folder: Path, **wanted: object) -> BuildPlan:
            (self.folder / "planned").mkdir()
            changed = {name: wanted[name] for name in ("signatures", "root_of_trust", "out", "supply")}
            self.planned.append(replace(plan_in(self.folder / "planned"), **changed))  # type: ignore[arg-type]
            return self.planned[-1]

        def build(plan: BuildPlan, **_: object) -> Built:
            plan.supply.open_archive(Silent())
            shutil.copytree(self.published, plan.out)
            return Built(plan.out, fresh=True, summary=SUMMARY)

        chain = BuildChain(program=lambda: attested.MATERIALS.own.source_sha256, plan=plan, build=build)
        choice = ReleaseChoice("host", Version("1.0.0"))
        mirrors = None if bundle else mirrors_for(self.definition)
        wanted = ReproductionRequest(self.workshop.base, choice, self.definition, bundle=bundle, mirrors=mirrors)
        done = reproduce(wanted, out=self.folder / "again", cache=cache, progress=Silent(), chain=chain)
        assert done.identical
        packages = self.planned[0].supply.packages.packages
        assert all(file_sha256(store_in(cache).path(each.sha256)) == each.sha256 for each in packages)
        return [(each.name, each.archive) for each in packages]


@pytest.fixture(scope="module")
def keys(tools: ToolsTree) -> Iterator[tuple[SigningKey, SigningKey]]:
    with ExitStack() as stack:
        yield stack.enter_context(signing_key(tools, "debian")), stack.enter_context(signing_key(tools, "owner"))


@pytest.fixture
def case(tools: ToolsTree, tmp_path: Path, keys: tuple[SigningKey, SigningKey]) -> Iterator[Case]:
    base = {
        "base-files_1_amd64.deb": deb("base-files", depends="jq"),
        "jq_1.7_amd64.deb": deb("jq", "1.7", depends="base-files"),
    }
    debian = RepositoryOnDisk(keys[0], base, suite="trixie", origin="Debian", extra={"base-files": ("Essential: yes",)})
    third = RepositoryOnDisk(keys[1], {"probe_2.0-1_amd64.deb": deb("probe", "2.0-1", depends="jq")})
    with serving(Site(debian.files(tmp_path))) as one, serving(Site(third.files(tmp_path))) as two:
        text = f"""
id: host
mirror: {one.url}
security: none
packages: [probe]
sources:
- {{name: tools, uris: ["{two.url}"], suites: [stable], components: [main], signed_by: tools.key}}
"""
        definition = write_definition(tmp_path / "definition", text)
        (definition / "tools.key").write_bytes(keys[1].armored)
        lock = lock_of(definition, tools, keys[0], tmp_path)
        (definition / "image.lock").write_bytes(write_lock(lock))
        workshop = Publisher.make(tmp_path)
        published = published_build(tmp_path / "published", definition, lock, workshop)
        yield Case(tmp_path, tools, definition, one, two, lock, workshop, published)


def lock_of(folder: Path, tools: ToolsTree, debian: SigningKey, scratch: Path) -> Lock:
    """The lock of a definition, of its own packages alone; what every image asks for is none of these repositories'."""
    definition = load_definition(folder)
    key = scratch / "debian.asc"
    key.write_bytes(debian.armored)
    assert definition.mirror is not None
    archives = archives_of(definition, folder, Mirrors(definition.mirror, None))
    suites = tuple(replace(each, key=key) if each.archive == "debian" else each for each in archives.suites)
    resolver = Resolver(tools, replace(archives, suites=suites), "trixie", scratch / "cache")

    def select(name: str) -> Selection:
        return resolver.select((name,))

    found = agent_wheels(tools, cache_folder())
    wheels = tuple(LockedWheel(path.name, path.stat().st_size, file_sha256(path)) for path in found)
    asks = asked_packages(folder, definition, tools=tools).lines
    return Lock(FORMAT, "host", asks, select("probe"), select("jq"), wheels)


def published_build(folder: Path, definition: Path, lock: Lock, workshop: Publisher) -> Path:
    build = attested_build(
        folder,
        lock=write_lock(lock),
        definition_sha256=definition_digest(definition),
        root=workshop.root_sha256,
        signatures=dump_signatures(SIGNATURES),
    )
    workshop.publish_folders(build, now=datetime.now(UTC))
    return build


def asked_for(site: Site) -> list[str]:
    return [path for path, _ in site.requests]


def test_a_package_of_a_third_party_is_fetched_again_from_its_source(case: Case) -> None:
    case.third.requests.clear()
    assert ("probe", "tools") in case.reproduce()
    # The lock names its bytes, so nobody has to sign an index again.
    assert asked_for(case.third) == [PROBE]


def test_it_comes_out_of_a_bundle_where_the_source_is_gone(case: Case) -> None:
    bundle = case.folder / "bundle.tar"
    mirrors, cache = mirrors_for(case.definition), case.cache("cache-of-the-first")
    write_bundle(case.definition, case.lock, bundle, mirrors=mirrors, cache=cache, progress=Silent())
    case.third.requests.clear()
    case.third.files.clear()
    assert ("probe", "tools") in case.reproduce(bundle=bundle)
    assert asked_for(case.third) == []


def test_a_source_that_is_gone_is_named(case: Case) -> None:
    case.third.files.clear()
    with pytest.raises(MirrorError, match=r"probe_2\.0-1_amd64\.deb"):
        case.reproduce()


def test_other_bytes_of_the_same_version_are_refused(case: Case) -> None:
    content = case.third.files[PROBE]
    case.third.files[PROBE] = content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(RefusedInputError, match="probe"):
        case.reproduce()


@pytest.mark.parametrize("change", ["key", "source"])
def test_another_key_or_source_is_another_definition(
    case: Case, change: str, keys: tuple[SigningKey, SigningKey]
) -> None:
    if change == "key":
        (case.definition / "tools.key").write_bytes(keys[0].armored)
    else:
        path = case.definition / "image.yaml"
        path.write_text(path.read_text().replace(case.third.url, case.debian.url))
    case.third.requests.clear()
    with pytest.raises(NotReproducedError, match="the definition is another one"):
        case.reproduce()
    assert asked_for(case.third) == []
