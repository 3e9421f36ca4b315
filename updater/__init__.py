"""Releases and channels on their way to hosts: the documents, the signed repository, the server, the on-host agent.

`release.py` and `channel.py` are what the three parts share; `repository`, `server` and `agent` never import one
another.
"""
