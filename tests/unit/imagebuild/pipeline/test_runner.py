from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from bedrock.errors import ProcessError
from imagebuild.errors import BuildError, SpaceError
from imagebuild.pipeline.runner import StepRunner, both
from tests.fakes.definitions import RecordedProgress

LOG = Path("1.0.0.failed.log")


def raising(error: Exception) -> None:
    raise error


def test_a_step_is_shown_and_timed_and_hands_on_what_it_made() -> None:
    progress = RecordedProgress()
    steps = StepRunner(progress, LOG)
    assert steps.run("package_tree", lambda: 7) == 7
    assert progress.steps == ["package tree"]
    assert steps.seconds.keys() == {"package_tree"}


def test_a_failed_program_is_explained_with_where_the_log_is() -> None:
    steps = StepRunner(RecordedProgress(), LOG)
    error = ProcessError("mkosi failed", returncode=1, tail="E: Unable to locate package nope")
    with pytest.raises(BuildError, match="the step package tree failed: the mirror has no package nope") as caught:
        steps.run("package_tree", lambda: raising(error))
    assert caught.value.hints[-1] == f"the whole log is {LOG}"
    assert steps.seconds == {}


def test_a_full_disk_is_an_error_of_its_own_and_others_pass() -> None:
    steps = StepRunner(RecordedProgress(), LOG)
    with pytest.raises(SpaceError, match="the step disk failed: the disk is full"):
        steps.run("disk", lambda: raising(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(PermissionError):
        steps.run("disk", lambda: raising(PermissionError(errno.EACCES, "Permission denied")))


def test_both_jobs_run_at_the_same_time() -> None:
    meeting = threading.Barrier(2)
    # Whoever came alone would be thrown out.
    assert set(both(lambda: meeting.wait(timeout=60), lambda: meeting.wait(timeout=60))) == {0, 1}


def test_an_error_of_one_job_is_raised_when_both_have_ended() -> None:
    failed, ended = threading.Event(), threading.Event()

    def fail() -> None:
        failed.set()
        raise BuildError("the first")

    def last() -> None:
        failed.wait(timeout=60)
        ended.set()
        raise BuildError("the second")

    with pytest.raises(BuildError, match="the first"):
        both(fail, last)
    assert ended.is_set()
