"""Plays a release over many hosts, with the engine that a server asks.

`world` moves hosts from event to event, `scenario` says how well they do, `watch` looks on from outside and counts what
must never happen, by its own arithmetic, and `report` says what became of it.  The same seed gives the same play.
"""
