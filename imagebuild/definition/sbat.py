"""The SBAT entries of a UKI: the generation by which a boot loader can refuse all UKIs with a known hole at once.

Raise GENERATION when a UKI of Twinhull, the initrd in it included, turns out to start what it should not and the fix is
in; a line per generation says why.  Firmware itself does not read SBAT, shim does; hosts that enrolled an image's own
keys boot without shim, and there a single UKI is refused through dbx (`twinhull keys revoke-boot`).
The entries are short and the same for every image: ukify puts them, and those of the kernel, into the section that the
stub has for its own, which is 512 bytes long.
Source: SBAT.md of shim; the first line is the format's own.
Pure.
"""

from __future__ import annotations

COMPONENT = "twinhull"
# 1: the first.
GENERATION = 1
# Component, generation, vendor, package, version, address; the second is ukify's own, which ours would replace.
SBAT_TEXT = f"""\
sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md
uki,1,UKI,uki,1,https://uapi-group.org/specifications/specs/unified_kernel_image/
{COMPONENT},{GENERATION},Twinhull,{COMPONENT},{GENERATION},urn:twinhull
"""
