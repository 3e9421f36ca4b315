"""What a built tree must be before it becomes a root filesystem: whole, startable, without secrets, with stable ids.

tree.py           reading and changing the tree (tree_program.py, which runs where its files belong to root)
accounts.py       ids of users and groups that are the same in every version
state.py          what packages ship below /var, which the first boot makes
overwrites.py     files of a definition that would take the place of a package's
services.py       units of packages: enabled, disabled, masked, forgotten
kernel.py         modules and settings that the image's kernel knows
secrets.py        private keys, machine identities and passwords that nobody asked for
sshd.py           host keys that are made on the host
locale.py         the locale's own data
verify.py         units, Quadlets and other files of a definition, checked by the programs that will read them
settle.py         the step of a build that does all of it
Not here: which packages the tree holds and what is left out of it (`imagebuild.steps`).
"""
