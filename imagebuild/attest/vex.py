"""VEX: statements of an image's makers about vulnerabilities it seems to have.

OpenVEX was chosen over CycloneDX VEX: its statements name products by purl, so that one file, kept next to the image
definition, serves every build; CycloneDX's name the `bom-ref`s of one bill of materials by its serial number, so each
build would need new ones.
Source: OpenVEX 0.2.0.
Pure.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from packageurl import PackageURL

from bedrock import strict
from bedrock.errors import DocumentError, Problem

_CONTEXT = r"https://openvex\.dev/ns(/v0\.2\.\d+)?"


class VexStatus(enum.Enum):
    """What is said of a vulnerability in a product."""

    NOT_AFFECTED = "not_affected"
    AFFECTED = "affected"
    FIXED = "fixed"
    UNDER_INVESTIGATION = "under_investigation"


class Justification(enum.Enum):
    """Why a product is not affected."""

    COMPONENT_NOT_PRESENT = "component_not_present"
    CODE_NOT_PRESENT = "vulnerable_code_not_present"
    CODE_NOT_IN_EXECUTE_PATH = "vulnerable_code_not_in_execute_path"
    CODE_NOT_CONTROLLABLE = "vulnerable_code_cannot_be_controlled_by_adversary"
    INLINE_MITIGATIONS = "inline_mitigations_already_exist"


@dataclass(frozen=True)
class Moment:
    """A moment as OpenVEX writes it: RFC 3339."""

    when: datetime

    @classmethod
    def from_text(cls, text: str) -> Moment:
        """Read one; without a zone it is UTC."""
        when = datetime.fromisoformat(text)
        return cls(when if when.tzinfo else when.replace(tzinfo=UTC))


@dataclass(frozen=True)
class Product:
    """A product, or a part of one; the purl is its `id` or its identifier."""

    id: str | None = None
    identifiers: dict[str, str] | None = None
    hashes: dict[str, str] | None = None
    subcomponents: tuple[Subcomponent, ...] = ()

    def __post_init__(self) -> None:
        _purl(self)


@dataclass(frozen=True)
class Subcomponent:
    """A component of a product, named like a product."""

    id: str | None = None
    identifiers: dict[str, str] | None = None
    hashes: dict[str, str] | None = None

    def __post_init__(self) -> None:
        _purl(self)


@dataclass(frozen=True)
class VexVulnerability:
    """A vulnerability by its names."""

    name: Annotated[str, strict.Pattern(r"\S+", "a vulnerability's name")]
    id: str | None = None
    description: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class VexStatement:
    """What is said of one vulnerability in some products."""

    vulnerability: VexVulnerability
    products: tuple[Product, ...]
    status: VexStatus
    id: str | None = None
    version: int | None = None
    timestamp: Moment | None = None
    last_updated: Moment | None = None
    supplier: str | None = None
    status_notes: str | None = None
    justification: Justification | None = None
    impact_statement: str | None = None
    action_statement: str | None = None
    action_statement_timestamp: Moment | None = None

    def __post_init__(self) -> None:
        if self.status is VexStatus.NOT_AFFECTED and not (self.justification or self.impact_statement):
            raise ValueError("not_affected needs a justification or an impact_statement")
        if not self.products:
            raise ValueError("products must name at least one product")

    def speaks_of(self, names: Iterable[str], component: PackageURL, image: PackageURL | None) -> bool:
        """Whether this is about a vulnerability in a component of an image."""
        known = {self.vulnerability.name, *self.vulnerability.aliases}
        return not known.isdisjoint(names) and any(_covers(product, component, image) for product in self.products)

    @property
    def reason(self) -> str:
        """Why, in the words of the file."""
        return (
            (self.justification.value if self.justification else "") or self.impact_statement or self.status_notes or ""
        )


@dataclass(frozen=True)
class VexDocument:
    """An OpenVEX document."""

    context: Annotated[str, strict.Pattern(_CONTEXT, "OpenVEX 0.2 (https://openvex.dev/ns/v0.2.0)")]
    id: str
    author: str
    timestamp: Moment
    version: int
    statements: tuple[VexStatement, ...]
    role: str | None = None
    last_updated: Moment | None = None
    tooling: str | None = None

    def verdict(self, names: Iterable[str], component: PackageURL, image: PackageURL | None) -> VexStatement | None:
        """The newest statement about a vulnerability in a component; of equal age the last in the file."""
        found = [each for each in self.statements if each.speaks_of(names, component, image)]
        # max() keeps the first of equals.
        return max(reversed(found), key=lambda each: (each.timestamp or self.timestamp).when, default=None)


def parse_vex(data: bytes, *, source: str) -> VexDocument:
    """Read an OpenVEX document strictly.

    Raises:
        DocumentError: Not JSON, unknown keys, wrong types; every error is listed.
    """
    document = strict.parse_json(data, source=source)
    if not isinstance(document, dict):
        raise DocumentError(source, (Problem("", "must be a mapping"),))
    return strict.read(VexDocument, _plain_names(document), source=source)


def _plain_names(value: Any) -> Any:
    """The same without the `@` that JSON-LD puts before `id` and `context`."""
    if isinstance(value, dict):
        return {
            (f"{key}"[1:] if key in ("@id", "@context") else key): _plain_names(each) for key, each in value.items()
        }
    return [_plain_names(each) for each in value] if isinstance(value, list) else value


def _purl(product: Product | Subcomponent) -> PackageURL:
    named = (product.identifiers or {}).get("purl") or product.id or ""
    if not named.startswith("pkg:"):
        raise ValueError("@id or identifiers.purl must be a purl (pkg:…)")
    return PackageURL.from_string(named)


def _covers(product: Product, component: PackageURL, image: PackageURL | None) -> bool:
    if _matches(product, component):
        return True
    if image is None or not _matches(product, image):
        return False
    return not product.subcomponents or any(_matches(each, component) for each in product.subcomponents)


def _matches(stated: Product | Subcomponent, actual: PackageURL) -> bool:
    """Whether a purl covers another: what it leaves open (version, qualifiers) may be anything."""
    wanted = _purl(stated)
    same = (wanted.type, wanted.namespace, wanted.name) == (actual.type, actual.namespace, actual.name)
    asked, given = (dict(each.qualifiers or {}) for each in (wanted, actual))
    return same and wanted.version in (None, actual.version) and asked.items() <= given.items()
