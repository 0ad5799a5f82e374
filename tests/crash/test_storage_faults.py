"""Every single I/O call of a run fails once: never acknowledged, and either before or after, never between.

A full disk lets the same directory go on; any other failure of a write makes it read-only until reopened.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.faulty_files import FAULTS, Fault, FaultAt
from tests.support.own_process import run_alone, scratch_folder
from tests.support.storage_script import State, Step, Writer, read_state, states_of, write_script

from vicinal.errors import CorruptData, ReadOnly, StorageFull, VicinalError
from vicinal.storage import vfs
from vicinal.storage.files import Files


def _play(writer: Writer, script: list[Step]) -> VicinalError | None:
    """Apply the steps not yet there; the first error ends it."""
    for step in script[writer.catalog.last.seq :]:
        try:
            writer.apply(step)
            if writer.catalog.last.seq % 3 == 0:
                writer.catalog.checkpoint()
        except VicinalError as error:
            return error
    return None


def _check_after(error: VicinalError, writer: Writer, script: list[Step], states: list[State]) -> None:
    """A full disk can be retried at once; after anything else the same directory refuses writes."""
    assert isinstance(error, StorageFull | ReadOnly | CorruptData), repr(error)
    if isinstance(error, StorageFull):
        writer.rows.rewind(writer.catalog.last.rows)
        assert _play(writer, script) is None
        assert read_state(writer) == states[-1]
    elif isinstance(error, ReadOnly):
        with pytest.raises(ReadOnly):
            writer.apply(([(1, bytes(48), None)], [], []))


def _one_fault(at: int, fault: Fault, script: list[Step], states: list[State]) -> FaultAt:
    """Run the script with call `at` failing, in a directory made without faults; check what is left."""
    with scratch_folder() as scratch:
        root = Path(scratch)
        Writer.create(Files(), root).close()
        observer = FaultAt(at, fault)
        acknowledged = 0
        try:
            writer = Writer.open(Files(observer), root)
        except VicinalError:
            pass
        else:
            error = _play(writer, script)
            acknowledged = writer.catalog.last.seq
            if error is not None:
                _check_after(error, writer, script, states)
                acknowledged = writer.catalog.last.seq
            writer.close()
        reopened = Writer.open(Files(), root)
        seq = reopened.catalog.last.seq
        assert seq in {acknowledged, acknowledged + 1}, f"{acknowledged} acknowledged, {seq} there"
        assert read_state(reopened) == states[seq]
        assert _play(reopened, script) is None
        assert read_state(reopened) == states[-1]
        reopened.close()
    return observer


def fail_every_call(script_seed: int, steps: int, stride: int) -> None:
    """Fail each `stride`-th call of a script, in every way."""
    vfs.register()  # before the first catalogue opens
    script = write_script(script_seed, steps)
    states = states_of(script)
    for fault in FAULTS:
        at, hits = 0, 0
        while True:
            try:
                observer = _one_fault(at, fault, script, states)
            except Exception as error:
                raise AssertionError(f"script {script_seed}, {fault} at call {at}") from error
            if at >= observer.calls:
                break
            hits += observer.hit is not None
            at += stride
        print(f"{fault}: {hits} calls failed")
        assert hits > 5


def test_every_fault_at_some_calls() -> None:
    print(run_alone(fail_every_call, 5, 4, 3))


@pytest.mark.full
@pytest.mark.timeout(3000)
def test_every_fault_at_every_call() -> None:
    print(run_alone(fail_every_call, 6, 12, 1, timeout=2900))
