"""Delivers releases to hosts: the documents, the signed repository, the server, the on-host agent.

The three parts share `release.py` and `channel.py`; `repository`, `server` and `agent` never import one
another.
"""
