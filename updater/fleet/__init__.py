"""Decides which host of a fleet goes on with an update, when, and why not yet.  Pure: no I/O, no clock, no randomness.

Everything is a value: a release spreads as a `Rollout`, a host is a `Host`, a place among those that are away a
`RebootSlot`.
`engine` decides by `rules`, `rollouts` moves from wave to wave, `halt` says when failures are too many, `slots` hands
out reboots.  What keeps a host from going on is one of `WaitReason`; `explain` prints the same ones, in the same order.
The same values give the same answer, so a restart of whoever keeps them changes none.
"""
