"""Delivers releases to hosts: the documents, the signed repository, the server, the on-host agent.

The three parts share `documents`; `repository`, `server` and `agent` never import one another.
"""
