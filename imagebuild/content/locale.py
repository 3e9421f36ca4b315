"""The locale's own data: how numbers and dates are written and words are sorted.

The C library knows C.UTF-8 by itself; any other is made from its source by localedef of the tools tree.
"""

from __future__ import annotations

from imagebuild.content.tree import EditableTree
from imagebuild.errors import BuildError

BUILT_IN = "C.UTF-8"
_FOLDER = "/usr/lib/locale"


def locale_name(locale: str) -> str:
    """The folder of a locale, as the C library looks it up."""
    name, _, modifier = locale.partition("@")
    return name.replace(".UTF-8", ".utf8") + (f"@{modifier}" if modifier else "")


def make_locale(tree: EditableTree, locale: str) -> None:
    """Write the data of a locale into the tree, unless the C library or a package has it.

    Raises:
        BuildError: There is no such locale.
    """
    name = locale_name(locale)
    if locale == BUILT_IN or tree.read(f"{_FOLDER}/{name}").folders:
        return
    if failed := tree.make_locale(source=locale.replace(".UTF-8", ""), name=name):
        raise BuildError(f"locale: {locale} cannot be made: {failed.strip()}").with_hint(
            "the names are those of /usr/share/i18n/locales in Debian's package locales"
        )
