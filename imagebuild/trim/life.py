"""The sequence in which a host is recorded: first boot, containers, an update, the boot after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bedrock.clock import SYSTEM_CLOCK, Clock
from imagebuild.errors import TrimError, VmError
from imagebuild.inspection.contents import Contents
from imagebuild.rehearsal.guest import UPDATE_S, Guest
from imagebuild.trim import workload
from imagebuild.trim.keeping import KeepList
from imagebuild.trim.page_cache import Sample
from imagebuild.trim.recording import Recorder

FIRST, SECOND = "1.0.0", "1.0.1"
_SETTLED_S = 300.0


@dataclass(frozen=True)
class RecordedLife:
    """One recorded host.

    Attributes:
        recorder: Runs the workload and records.
        contents: What the first image holds.
        keep: What is kept in any case.
        reference: The container image, as the host reaches it.
        own: The text of the user's shell script.
        offer_update: Called when the channel is to name the second version.
        clock: Time.
    """

    recorder: Recorder
    contents: Contents
    keep: KeepList
    reference: str
    own: str | None
    offer_update: Callable[[], None]
    clock: Clock = SYSTEM_CLOCK

    def lead(self) -> Sample:
        """Run the sequence; returns what was touched.

        Raises:
            VmError: The host does not boot, or is not healthy.
            TrimError: A step of the workload failed, or the record cannot be trusted.
        """
        recorder = self.recorder
        guest = Guest(recorder.shell, self.clock)
        recorder.progress.step("first boot")
        self._blessed(guest, FIRST)
        recorder.prove(self.contents, self.keep)
        recorder.progress.step("a container")
        self._require(guest.first_container(self.reference), "the first container did not run")
        recorder.do(workload.agent(), workload.engine(self.reference), workload.operator())
        self._own_workload(0)
        self.offer_update()
        recorder.do(workload.WorkloadStep("an update", "updater update --no-reboot"))
        recorder.sample()
        recorder.progress.step("the boot after the update")
        recorder.shell.reboot(timeout_s=UPDATE_S)
        self._blessed(guest, SECOND)
        self._require(guest.same_container(), "the first container did not run after the update")
        recorder.do(workload.quadlet_runs(), workload.agent())
        self._own_workload(1)
        recorder.progress.step("what was touched")
        recorder.sample()
        return recorder.touched

    def _own_workload(self, stage: int) -> None:
        if self.own is not None:
            self.recorder.do(workload.own(self.own, workload.WORKLOAD_STAGES[stage]))

    def _blessed(self, guest: Guest, version: str) -> None:
        try:
            guest.wait_blessed(version)
        except VmError as error:
            error.add_note("the needs of an image that does not boot properly cannot be found: fix the image first")
            error.add_note("an image that drops systemd-debug-generator has no guest shell")
            raise
        # Units that nothing waits for come last.
        self.recorder.shell.run("systemctl is-system-running --wait", timeout_s=_SETTLED_S)

    @staticmethod
    def _require(ran: bool, otherwise: str) -> None:  # noqa: FBT001 - a verdict
        if not ran:
            raise TrimError(otherwise)
