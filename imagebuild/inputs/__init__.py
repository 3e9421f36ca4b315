"""The inputs of a build: packages resolved, locked, fetched by hash, and bundled.

requested.py  the packages an image requests, as mkosi reads its configuration
resolve.py    apt's answer: every package with version, size, SHA-256 and origin, from signed indexes
lockfile.py   the lock: such answers for image and tools, and the agent's wheels, as one document
store.py      files by their SHA-256, fetched from a mirror or taken from a bundle
archive.py    a Debian archive that holds exactly a selection, for mkosi and mmdebstrap to install from
supply.py     the way from a definition, or a lock, to the tools and packages of one build
bundle.py     all of it in one folder or file, for a build without a network
"""
