"""Virtual machines that boot built images the way real machines do: UEFI firmware, Secure Boot, the image's own keys.

`VmConfig` says what machine is wanted, `arguments` turns it into QEMU's words (pure), `Machine` starts and ends it,
`GuestShell` runs commands inside it.  `twinhull vm run` and the whole-machine tests stand on the same code.
"""
