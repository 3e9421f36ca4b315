"""Virtual machines that boot built images like real machines: UEFI firmware, Secure Boot, the image's own keys.

`VmConfig` describes a machine, `arguments` turns it into QEMU's arguments (pure), `VirtualMachine` starts and ends it,
`GuestShell` runs commands inside it.  `twinhull vm run` and the whole-machine tests use the same code.
"""
