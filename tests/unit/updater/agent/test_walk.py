"""The agent's states, walked in any order with a fault at any step: whatever happened, the host boots and goes on.

After each step a copy of the machine is switched off and on again, as often as a host may need to come back: it must
come up on a slot that is whole.  A fault is a power cut (with what was pending kept, lost or torn), a write that fails
(EIO, ENOSPC), hints that are lost or cannot be written, a clock that jumps, a UKI that is damaged, a name that is lost.
"""

from __future__ import annotations

import copy
import errno
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bedrock.errors import TwinhullError
from bedrock.progress import Silent
from partitions.entries import parse_entry
from partitions.version import Version
from tests.fakes.clock import START
from tests.fakes.documents import channel_at, reference_to
from tests.fakes.machine import FakeMachine, FakeServer
from tests.fakes.memory_disk import PowerCut
from tests.fakes.twin_host import TwinHost, built
from updater.agent.agent import Agent
from updater.agent.config import Config
from updater.agent.plan import UpdateOptions
from updater.agent.store import HintStore
from updater.documents.channel import Instant

RELEASES = {text: built(text, blocks=3) for text in ("1.0.0", "1.0.1", "1.0.2", "1.0.3")}
# Three boots of what is bad, one of the other slot, and as many again.
MOST_BOOTS = 10
STEPS = st.integers(min_value=0, max_value=60)
ERRORS = st.sampled_from([errno.EIO, errno.ENOSPC])


class Walk(RuleBasedStateMachine):
    """A host whose agent is asked for things, and to which things happen."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="walk-"))
        self.host = TwinHost(RELEASES["1.0.0"])
        for one in RELEASES.values():
            self.host.know(one)
        self.machine = FakeMachine(self.host)
        channel = channel_at(reference_to(RELEASES["1.0.1"].release), Instant(START))
        self.server = FakeServer(channel, dict(RELEASES))
        store = HintStore(self.folder / "lib/state.json", self.folder / "run/state.json", clock=self.machine.clock)
        config = Config(url="http://server", channel="stable")
        self.agent = Agent(self.machine, config, store, self.folder / "run/lock", self.server)

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _do(self, act: Callable[[], object]) -> None:
        """Let the agent do something; a power cut in it is followed by a boot."""
        try:
            with suppress(TwinhullError, OSError):
                act()
        except PowerCut:
            self.host.cut(keep=self.kept)
            self._boot()
        finally:
            self.host.power.restore()

    def _boot(self) -> None:
        version = self.machine.power_cycle()
        if version is not None:
            with suppress(TwinhullError, OSError):
                self.agent.book_boot()

    @initialize()
    def first_boot(self) -> None:
        self.kept = False
        self._boot()
        self.agent.bless()

    @rule(version=st.sampled_from(["1.0.1", "1.0.2", "1.0.3"]))
    def promote(self, version: str) -> None:
        self.server.point_to(version)

    @rule(steps=STEPS, keep=st.booleans(), torn=st.booleans())
    def update_without_power(self, steps: int, *, keep: bool, torn: bool) -> None:
        self.kept, self.host.disk.torn = keep, torn
        self.host.power.cut_after(steps)
        self._do(lambda: self.agent.update(UpdateOptions(), Silent()))
        self.host.disk.torn = False

    @rule(steps=STEPS, number=ERRORS)
    def update_with_a_failing_write(self, steps: int, number: int) -> None:
        self.host.power.fail_after(steps, OSError(number, "a fault"))
        self._do(lambda: self.agent.update(UpdateOptions(), Silent()))

    @rule()
    def update(self) -> None:
        self._do(lambda: self.agent.update(UpdateOptions(), Silent()))

    @rule()
    def reboot(self) -> None:
        self._boot()

    @rule(steps=st.integers(min_value=0, max_value=6), keep=st.booleans())
    def bless_without_power(self, steps: int, *, keep: bool) -> None:
        self.kept = keep
        self.host.power.cut_after(steps)
        self._do(self.agent.bless)

    @rule()
    def bless(self) -> None:
        self._do(self.agent.bless)

    @rule()
    def fail_its_checks(self) -> None:
        self._do(lambda: self.agent.unhealthy("a service is failed", force=False))
        if self.machine.reboots:
            self.machine.reboots.clear()
            self._boot()

    @rule()
    def roll_back(self) -> None:
        self._do(self.agent.rollback)

    @rule()
    def forgive(self) -> None:
        self._do(lambda: self.agent.forgive(Version("1.0.2"), ""))

    @rule()
    def lose_the_hints(self) -> None:
        for folder in ("lib", "run"):
            for path in (self.folder / folder).glob("*.json*"):
                path.unlink()

    @rule(hours=st.integers(min_value=-50_000, max_value=50_000))
    def jump(self, hours: int) -> None:
        self.machine.clock._now = START + timedelta(hours=hours)

    @precondition(lambda self: self.whole_ways() > 1)
    @rule(which=st.integers(min_value=0, max_value=1))
    def damage_a_uki(self, which: int) -> None:
        names = [name for name in self.host.folder.names() if parse_entry(name)]
        if len(names) > which:
            self.host.damage_uki(names[which])

    @precondition(lambda self: self.whole_ways() > 1)
    @rule(which=st.integers(min_value=0, max_value=1))
    def lose_a_name(self, which: int) -> None:
        names = [name for name in self.host.folder.names() if parse_entry(name)]
        if len(names) > which and "LOST.EFI" not in self.host.folder.names():
            for files in (self.host.folder.durable, self.host.folder.current):
                files["LOST.EFI"] = files.pop(names[which])

    def whole_ways(self) -> int:
        """How many entries boot a slot that is whole: damage is done only where another way is left."""
        signed = {one.content(one.release.artifacts.uki): one.release.root_hash for one in RELEASES.values()}
        ways = 0
        for name in self.host.folder.names():
            root_hash = signed.get(self.host.folder.durable.get(name, b""))
            ways += bool(parse_entry(name) and root_hash and self.host.verified(root_hash))
        return ways

    @invariant()
    def it_comes_back_by_itself(self) -> None:
        twin = copy.deepcopy(self.host)
        twin.power.restore()
        twin.cut(keep=False)
        came = [twin.boot() for _ in range(MOST_BOOTS)]
        assert any(version is not None for version in came), (came, self.host.folder.names(), self.host.esp.names())

    @invariant()
    def what_is_called_proven_is_whole_or_was_damaged_on_purpose(self) -> None:
        facts = self.host.facts()
        assert facts.running_version == self.host.running.release.version
        assert self.host.verified(self.host.running.release.root_hash), "the running slot was written to"


Walk.TestCase.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestWalk = Walk.TestCase
