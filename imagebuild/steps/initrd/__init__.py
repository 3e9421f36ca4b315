"""The initrd: a shell script, the few programs it calls, and the drivers that lead to a disk.

    modules.py    chooses the kernel modules
    firmware.py   finds their firmware, and microcode
    programs.py   programs and libraries from Debian's packages, which are unpacked and not installed
    image.py      the whole tree with its kernel modules, packed

`data/initrd/init` describes what it does at boot; `data/initrd.yaml` lists its contents.
"""
