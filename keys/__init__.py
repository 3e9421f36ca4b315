"""Trust: which keys exist, how they are made, where they are, and who may sign with them.

A keys folder has a public side (`keyring.yaml` and certificates) and private files next to it or elsewhere, each named
by a URI.  All signing goes through `keys.signers`; nothing else opens a private key.
"""
