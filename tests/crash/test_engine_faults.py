"""Any I/O call of the whole engine fails once: never acknowledged, reads go on, a full disk lets writes go on."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.support.engine_script import (
    NAME,
    Script,
    Session,
    State,
    act,
    create,
    make_script,
    observed,
    play,
    read_state,
)
from tests.support.faulty_files import FAULTS, Fault, FaultAt
from tests.support.own_process import run_alone, scratch_folder

from vicinal.collection import Collection
from vicinal.errors import StorageFull, VicinalError
from vicinal.storage import vfs
from vicinal.storage.files import IoCall

LATE = "late"  # an id that no script has


class _InTurns(FaultAt):
    """The n-th call of all threads together; where it is the writer's, something happens before it fails."""

    def __init__(self, at: int, fault: Fault, meanwhile: Callable[[], None]) -> None:
        super().__init__(at, fault)
        self._turn = threading.Lock()
        self._meanwhile = meanwhile

    def before(self, call: IoCall) -> int | None:
        with self._turn:
            try:
                return super().before(call)
            except OSError as error:
                failed = error
        if threading.current_thread().name == "vicinal-writer":
            self._meanwhile()
        raise failed


class _Second:
    """A second caller, who writes when a call of the first is about to fail, and waits behind it."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.acknowledged = False
        self._thread: threading.Thread | None = None

    @property
    def called(self) -> bool:
        return self._thread is not None

    def call(self) -> None:
        """Return when the operation is queued."""
        assert self.session is not None
        assert self.session.database is not None
        collection = self.session.database._open[NAME]
        self._thread = threading.Thread(target=self._write, args=(collection,), daemon=True)
        self._thread.start()
        until = time.monotonic() + 30
        while not collection._generation.writer._queue and time.monotonic() < until:
            time.sleep(0.0005)

    def _write(self, collection: Collection) -> None:
        with suppress(VicinalError):
            collection.upsert([LATE], {"v": [[1, 2, 3, 4]]})
            self.acknowledged = True

    def state(self, session: Session) -> State:
        """What there is besides; it must be there if and only if that was said."""
        if self._thread is not None:
            self._thread.join(60)
            assert not self._thread.is_alive(), "the second caller waits for ever"
        state = read_state(session.collection)
        assert (state.pop(LATE, None) is not None) == self.acknowledged
        return state


def _one_fault(root: Path, at: int, fault: Fault, script: Script) -> tuple[FaultAt, _Second]:
    """Run the script with call `at` failing; reopen and go on after an error. Checks what is left at every step."""
    second = _Second()
    observer = _InTurns(at, fault, second.call)
    done = [0]

    def note(what: str, number: int) -> None:
        if what == "acknowledged":
            done[0] = number

    with observed(observer):
        session = None
        try:
            session = second.session = Session(root)
            play(session, script, 0, note)
        except VicinalError as error:
            assert observer.hit is not None, "nothing failed"
            if session is not None and session.database is not None:
                # what was acknowledged is answered; a collection that could not be opened can be opened now
                assert second.state(session) == script.states[done[0]]
                if isinstance(error, StorageFull):
                    act(session.collection, script.operations[done[0]])
                    done[0] += 1
                    assert second.state(session) == script.states[done[0]]
        finally:
            if session is not None:
                session.close()
    with observed(None):
        _goes_on(root, script, done[0], second)
    return observer, second


def _goes_on(root: Path, script: Script, done: int, second: _Second) -> None:
    """Reopened, the state is the one before or after what failed; from there the rest of the script works."""
    session = Session(root)
    state = second.state(session)
    session.collection.delete([LATE])
    allowed = script.states[done : done + 2]
    assert state in allowed, f"{done} acknowledged, and neither state is there"
    first = done + (state != script.states[done])
    play(session, script, first, lambda *_: None)
    assert read_state(session.collection) == script.states[-1]
    assert session.collection.flush(60)
    assert session.collection.verify().problems == ()
    session.close()


def fail_every_call(script_seed: int, operations: int, stride: int, *faults: Fault) -> None:
    """Fail each `stride`-th call of a script, in every way."""
    vfs.register()
    script = make_script(script_seed, operations)
    with scratch_folder() as scratch:
        template, root = Path(scratch) / "template", Path(scratch) / "run"
        create(template).close()
        for fault in faults or FAULTS:
            at, hits, queued = 0, 0, 0
            while True:
                shutil.copytree(template, root)
                try:
                    observer, second = _one_fault(root, at, fault, script)
                except Exception as error:
                    raise AssertionError(f"script {script_seed}, {fault} at call {at}") from error
                shutil.rmtree(root)
                if at >= observer.calls:
                    break
                hits += observer.hit is not None
                queued += second.called
                at += stride
            print(f"{fault}: {hits} calls failed, {queued} with a write behind them", flush=True)
            assert hits > 2
            assert queued or fault == "short"


def test_every_fault_at_some_calls_of_the_engine() -> None:
    print(run_alone(fail_every_call, 5, 6, 23))


@pytest.mark.full
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_at_every_call_of_the_engine(fault: Fault) -> None:
    print(run_alone(fail_every_call, 6, 12, 1, fault, timeout=1450))
