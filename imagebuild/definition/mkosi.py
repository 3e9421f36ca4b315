"""What a definition's own mkosi files may set, and what says the rest of it.

Rule: a setting that a build takes over as mkosi understands it is in `HONOURED`; every other one is refused by name,
for it would change nothing (mkosi makes neither initrd nor disk here, and installs from the lock alone), or would undo
what Twinhull itself sets (the version in `os-release`, the time of files).  `_INSTEAD` says what to write for it.
Pure: mkosi itself says which settings differ with the definition's files and without them (`inputs/requested.py`), so
that its includes, conditions and files such as `mkosi.rootpw` count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from bedrock.errors import Problem

HONOURED = frozenset(
    (
        "BuildPackages",
        "BuildScripts",
        "BuildSources",
        "CleanScripts",
        "ConfigureScripts",
        "Environment",
        "EnvironmentFiles",
        "ExtraTrees",
        "FinalizeScripts",
        "KernelModulesExclude",
        "KernelModulesInclude",
        "MinimumVersion",
        "Packages",
        "PostInstallationScripts",
        "PostOutputScripts",
        "PrepareScripts",
        "RemoveFiles",
        "RemovePackages",
        "SkeletonTrees",
        "SyncScripts",
        "VolatilePackages",
        "WithTests",
    )
)
# Where mkosi read its settings, and what it makes up of others.
_NO_SETTING = frozenset(("Files", "Image"))
_FOLLOWS = {
    "ToolsTreeDistribution": "Distribution",
    "ToolsTreeMirror": "Mirror",
    "ToolsTreeRelease": "Distribution",
    "ToolsTreeRepositories": "Repositories",
}
_KEY = "write `{}` in image.yaml"
_SOURCES = f"packages come from signed archives alone: {_KEY.format('sources')}"
_INITRD = f"the initrd is Twinhull's own: {_KEY.format('drivers')}"
_NO_NETWORK = "what a build fetches is in the lock: name packages in `packages`, files in `files`"
_EACH_HOST = "a host's own part of the configuration is `twinhull provision`'s"
_INSTEAD = {
    "Architecture": _KEY.format("architecture"),
    "Autologin": "build with --profile debug",
    "BaseTrees": _KEY.format("packages"),
    "Bootable": "the kernel is the one of `kernel`, and Twinhull makes the UKI of it",
    "CleanPackageMetadata": "no image has a package manager's data",
    "Credentials": f"`twinhull vm run --credential` hands one to a machine; {_EACH_HOST}",
    "Hostname": _KEY.format("hostname"),
    "ImageId": _KEY.format("id"),
    "ImageVersion": "the version is that of --version",
    "InitrdPackages": _INITRD,
    "InitrdVolatilePackages": _INITRD,
    "Initrds": _INITRD,
    "KernelCommandLine": _KEY.format("kernel_arguments"),
    "KernelModulesIncludeHost": f"an image must not depend on the build host: {_KEY.format('keep_modules')}",
    "KernelModulesInitrd": _INITRD,
    "KernelModulesInitrdExclude": _INITRD,
    "KernelModulesInitrdInclude": _INITRD,
    "KernelModulesInitrdIncludeHost": _INITRD,
    "Keymap": "write /etc/vconsole.conf with `files` in image.yaml",
    "LocalMirror": _KEY.format("mirror"),
    "Locale": _KEY.format("locale"),
    "LocaleMessages": _KEY.format("locale"),
    "MachineId": "each host makes its own",
    "MicrocodeHost": "microcode comes with the packages intel-microcode and amd64-microcode, in `packages`",
    "Mirror": _KEY.format("mirror"),
    "PackageDirectories": "name each .deb file in `packages` in image.yaml, as ./NAME.deb",
    "PassEnvironment": "an image must not depend on who builds it: write Environment=",
    "Release": _KEY.format("release"),
    "RepartDirectories": _KEY.format("slots"),
    "Repositories": f"{_KEY.format('components')}, or `sources` for repositories besides Debian's",
    "RepositoryKeyCheck": _SOURCES,
    "RepositoryKeyFetch": _SOURCES,
    "RootPassword": "an image holds no password: `ssh` in image.yaml lets in by key, --profile debug on the console",
    "RootShell": "an image has nobody who logs in as root: `ssh` lets in by key, `users` makes users with a shell",
    "SandboxTrees": _SOURCES,
    "Ssh": _KEY.format("ssh"),
    "Timezone": _KEY.format("timezone"),
    "VolatilePackageDirectories": "name each .deb file in `packages` in image.yaml, as ./NAME.deb",
    "WithDocs": _KEY.format("keep"),
    "WithNetwork": _NO_NETWORK,
    "WithRecommends": f"name the packages that are only recommended: {_KEY.format('packages')}",
}
_ELSE = "it has no effect on an image, or Twinhull sets it itself"
KNOWN = frozenset(_INSTEAD)
# Files that mkosi does not look for in a folder that is included, or whose packages would not be in the lock.
_NO_EFFECT = (
    ("mkosi.sandbox*", "sources", "because packages come from the lock alone: name the repository here instead"),
    (
        "mkosi.packages*",
        "packages",
        "because packages come from the lock alone: name each .deb file here, as ./NAME.deb, instead",
    ),
    ("mkosi.images", "", "because a definition makes one image"),
    ("mkosi.profiles", "", "because a build's only profile is --profile debug: write another definition"),
    ("mkosi.local*", "", "because an image must not depend on who builds it: write mkosi.conf"),
)


def refused_settings(without: Mapping[str, object], having: Mapping[str, object]) -> Iterator[Problem]:
    """The settings that a definition's own files change and that a build does not take from there.

    Args:
        without: mkosi's settings by name, without those files.
        having: The same with them.
    """
    changed = {name for name in (*without, *having) if without.get(name) != having.get(name)}
    for name in sorted(changed - HONOURED - _NO_SETTING):
        if _FOLLOWS.get(name) not in changed:
            yield Problem(name, f"is not taken from mkosi's files: {_INSTEAD.get(name, _ELSE)}")


def files_without_effect(folder: Path) -> Iterator[Problem]:
    """Files of mkosi in a definition's folder that would change nothing."""
    for pattern, key, why in _NO_EFFECT:
        for found in sorted(folder.glob(pattern)):
            yield Problem(key, f"{found} has no effect, {why}")
