"""Plays a scenario: hosts ask, stage, reboot and come back, or do not; a server decides by the engine.

A host that waits for its wave or for a slot is asked about again when that may have changed, as if it had polled right
then.  So each host costs a handful of events, and the engine that is played is the real one.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

from bedrock.digest import bytes_sha256
from partitions.version import Version
from updater.fleet.engine import Advice, HostDecision
from updater.fleet.model import FleetRelease, Host, HostProgress, Rollout, Stratum, Tally
from updater.fleet.rollouts import Happened, Verb, act
from updater.fleet.rules import View, WaitReason
from updater.fleet.simulation.scenario import HourSample, Played, PlayedEngine, Scenario
from updater.fleet.simulation.watch import ViolationWatch
from updater.fleet.slots import Granted, Refusal, Returned, SlotRequest, SlotTable

OLD, NEW = Version.from_text("1.0.0"), Version.from_text("1.1.0")
TICK_S = 60.0
_HOUR_S = 3600.0

Event = tuple[float, int, Callable[[int], None], int]


def play(scenario: Scenario, engine: PlayedEngine | None = None) -> Played:
    """Play a scenario to its end."""
    return _World(scenario, engine or PlayedEngine()).run()


class _World:
    def __init__(self, scenario: Scenario, engine: PlayedEngine) -> None:
        self._scenario, self._engine, self._policy = scenario, engine, scenario.policy
        self._random = Random(scenario.seed)  # noqa: S311 - a play, not a secret
        self._watch = ViolationWatch(scenario.policy)
        self._events: list[Event] = []
        self._sequence = 0
        self._now_s = 0.0
        self._names: list[str] = []
        self._strata: list[Stratum] = []
        self._progress: list[HostProgress] = []
        self._by_stratum: dict[Stratum, list[int]] = {}
        self._slots: dict[str, SlotTable] = {}
        self._queues: dict[str, deque[int]] = {}
        self._for_a_wave: list[int] = []
        self._told: Counter[Stratum] = Counter()
        self._counts = Counter[str]()
        self._samples: list[HourSample] = []
        release = FleetRelease(NEW, bytes_sha256(str(scenario.seed).encode()))
        self._rollout = act(Rollout(release, self._policy.rollouts), Verb.APPROVE, tally=Tally(), now=scenario.begins)

    def run(self) -> Played:
        self._people()
        self._at(0.0, self._tick, 0)
        end = self._scenario.hours * _HOUR_S
        for number in range(self._scenario.restarts):
            self._at(end * (number + 1) / (self._scenario.restarts + 1), self._restart, 0)
        while self._events and self._events[0][0] <= end:
            self._now_s, _, happens, who = heapq.heappop(self._events)
            happens(who)
        self._now_s = end
        if not self._samples or self._samples[-1].at < self._now:
            self._sample()
        return Played(
            self._scenario,
            len(self._names),
            self._rollout,
            self._tally,
            tuple(self._samples),
            self._watch.most_away,
            self._counts["decisions"],
            self._counts["grants"],
            {violation.name.lower(): count for violation, count in self._watch.found.items()},
        )

    @property
    def _now(self) -> datetime:
        return self._scenario.begins + timedelta(seconds=self._now_s)

    @property
    def _tally(self) -> Tally:
        counts = self._counts
        return Tally(counts["told"], counts["healthy"], counts["failed"], counts["silent"])

    def _people(self) -> None:
        """Create the hosts: some exist from the start, others join later."""
        scenario = self._scenario
        groups = sorted(self._policy.groups) or ["default"]
        later = int(scenario.hosts * scenario.joining)
        for number in range(scenario.hosts):
            group = groups[number % len(groups)]
            zone = f"z{(number // len(groups)) % scenario.zones}"
            self._names.append(f"{number:032x}")
            self._strata.append(Stratum(group, zone))
            self._progress.append(HostProgress.WAITING)
            if number < scenario.hosts - later:
                self._join(number)
            else:
                self._at(self._random.uniform(0, scenario.hours * _HOUR_S), self._join, number)

    def _join(self, who: int) -> None:
        self._by_stratum.setdefault(self._strata[who], []).append(who)
        self._at(self._now_s + self._random.uniform(0, self._policy.rollouts.poll), self._ask, who)

    def _ask(self, who: int) -> None:
        stratum, progress, now = self._strata[who], self._progress[who], self._now
        host = Host(self._names[who], stratum, OLD, progress, now, self._rollout.release.root_hash)
        group, poll_s = self._policy.group(stratum.group), self._policy.rollouts.poll
        view = View(self._rollout, group, self._told[stratum], freezes=self._policy.freezes, poll_s=poll_s)
        self._counts["decisions"] += 1
        decision = self._engine.decide(host, view, now)
        if decision.kind is Advice.UPDATE:
            self._reboot(who, decision) if progress is HostProgress.STAGED else self._tell(who)
        elif decision.reason is WaitReason.WAVE:
            self._for_a_wave.append(who)
        elif decision.not_before is not None:
            # Those that wait for the same moment do not all come in the same second.
            late = self._random.uniform(0, self._policy.rollouts.poll)
            self._at((decision.not_before - self._scenario.begins).total_seconds() + late, self._ask, who)

    def _tell(self, who: int) -> None:
        stratum = self._strata[who]
        self._told[stratum] += 1
        self._counts["told"] += 1
        self._watch.told(self._names[who], stratum, self._now)
        self._progress[who] = HostProgress.OFFERED
        self._later(self._scenario.stage_s, self._stage, who)

    def _stage(self, who: int) -> None:
        self._progress[who] = HostProgress.STAGED
        self._ask(who)

    def _reboot(self, who: int, decision: HostDecision) -> None:
        stratum = self._strata[who]
        group = self._policy.group(stratum.group)
        asked = SlotRequest(self._names[who], stratum.zone, self._rollout.release.root_hash)
        table = self._slots.get(stratum.group, SlotTable())
        self._slots[stratum.group], found = self._engine.grant(
            table, asked, group.slots, decision=decision, now=self._now, epoch=1
        )
        if isinstance(found, Granted):
            self._counts["grants"] += 1
            self._watch.granted(stratum.group, stratum.zone, found.fence, self._now)
            self._progress[who] = HostProgress.REBOOTING
            if self._random.random() < self._scenario.silent:
                self._at(self._now_s + self._policy.rollouts.silent_after, self._miss, who)
            else:
                self._later(self._scenario.away_s, self._come_back, who)
        elif found.not_before is not None:
            self._at((found.not_before - self._scenario.begins).total_seconds(), self._ask, who)
        elif found.refusal in (Refusal.FULL, Refusal.ZONE_FULL):
            self._queues.setdefault(stratum.group, deque()).append(who)

    def _come_back(self, who: int) -> None:
        failed = self._random.random() < self._scenario.failing
        self._progress[who] = HostProgress.OLD_VERSION if failed else HostProgress.HEALTHY
        self._counts["failed" if failed else "healthy"] += 1
        returned = Returned.OLD_VERSION if failed else Returned.HEALTHY
        stratum = self._strata[who]
        self._slots[stratum.group] = self._engine.give_back(
            self._slots[stratum.group], self._names[who], returned, now=self._now, epoch=1
        )
        self._watch.came_back(stratum.group, stratum.zone)
        if failed:
            self._lose(silent=False)
        self._wake(stratum.group)

    def _miss(self, who: int) -> None:
        """A host has been silent for too long; it keeps its slot."""
        self._counts["silent"] += 1
        group = self._strata[who].group
        self._slots[group] = self._engine.give_back(
            self._slots[group], self._names[who], Returned.SILENT, now=self._now, epoch=1
        )
        self._lose(silent=True)

    def _lose(self, *, silent: bool) -> None:
        self._watch.lost(silent=silent)
        # A server looks after each report, not only now and then.
        self._look_after()

    def _wake(self, group: str) -> None:
        """Let those ask again that wait for a slot: as many as there are zones, for a zone may be full."""
        queue = self._queues.get(group)
        for _ in range(min(len(queue), self._scenario.zones) if queue else 0):
            if queue:
                self._at(self._now_s + 1.0, self._ask, queue.popleft())

    def _tick(self, _: int) -> None:
        if self._now_s % _HOUR_S < TICK_S:
            self._sample()
        self._look_after()
        self._at(self._now_s + TICK_S, self._tick, 0)

    def _look_after(self) -> None:
        self._rollout, happened = self._engine.advance(self._rollout, self._tally, self._now)
        if Happened.WAVE_DUE in happened:
            hosts = {stratum: [self._names[who] for who in people] for stratum, people in self._by_stratum.items()}
            number = self._rollout.wave + 1
            self._rollout = self._engine.open_wave(self._rollout, number, hosts, tally=self._tally, now=self._now)
            self._watch.wave_opened(self._rollout.wave, {stratum: len(ids) for stratum, ids in hosts.items()})
            waiting, self._for_a_wave = self._for_a_wave, []
            for who in waiting:
                self._at(self._now_s + self._random.uniform(0, self._policy.rollouts.poll), self._ask, who)

    def _restart(self, _: int) -> None:
        """A server that starts anew knows what it stored, and hosts ask when they ask: nothing else may count."""
        self._rollout = replace(self._rollout)
        self._slots = {group: replace(table, slots=dict(table.slots)) for group, table in self._slots.items()}
        for group, queue in self._queues.items():
            people, self._queues[group] = list(queue), deque()
            for who in people:
                self._at(self._now_s + self._random.uniform(0, self._policy.rollouts.poll), self._ask, who)

    def _sample(self) -> None:
        away = sum(len(table.slots) for table in self._slots.values())
        self._samples.append(HourSample(self._now, self._rollout.wave, self._rollout.state, self._tally, away))

    def _later(self, mean_s: float, happens: Callable[[int], None], who: int) -> None:
        self._at(self._now_s + mean_s * self._random.uniform(0.5, 1.5), happens, who)

    def _at(self, when_s: float, happens: Callable[[int], None], who: int) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (when_s, self._sequence, happens, who))
