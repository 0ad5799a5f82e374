"""Power fails after every single I/O call of a run.

Every image of the disk must open to a state that holds all acknowledged commits and nothing but whole ones.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.support.crash_images import Recorder, images, materialise
from tests.support.own_process import run_alone, scratch_folder
from tests.support.storage_script import State, Writer, read_state, states_of, write_script

from vicinal.errors import CorruptData
from vicinal.storage.database_catalog import DatabaseCatalog
from vicinal.storage.files import Files


def _check_image(where: Path, states: list[State], acknowledged: int, tried: int) -> bool:
    """Open an image, compare, write to it once more; False when nothing was acknowledged and it does not open."""
    try:
        reopened = Writer.open(Files(), where)
    except CorruptData:
        if acknowledged < 0:
            return False
        raise
    seq = reopened.catalog.last.seq
    assert acknowledged <= seq <= max(tried, acknowledged, 0), f"{acknowledged} acknowledged, {seq} there"
    assert read_state(reopened) == states[seq], f"commit {seq} is not whole"
    reopened.apply(write_script(99, 1)[0])
    reopened.close()
    return True


def power_loss(script_seed: int, steps: int, seeds: int) -> None:
    """Run a script under the recorder, then open every image."""
    script = write_script(script_seed, steps)
    states = states_of(script)
    with scratch_folder() as scratch:
        root, where = Path(scratch).resolve() / "run", Path(scratch) / "image"
        root.mkdir()
        recorder = Recorder()
        writer = Writer.create(Files(recorder), root)
        recorder.note("acknowledged", 0)
        writer.run(script, recorder.note, checkpoint_every=3)
        writer.close()
        opened = 0
        for at, seed, mode, image in images(recorder, root, seeds):
            materialise(image, where)
            try:
                opened += _check_image(where, states, recorder.last("acknowledged", at), recorder.last("tried", at))
            except Exception as error:
                call = recorder.calls[at - 1]
                raise AssertionError(
                    f"script {script_seed}, {mode} image {seed} after call {at} ({call.kind} {call.path} {call.offset})"
                ) from error
            shutil.rmtree(where)
        assert opened > len(recorder.calls) // 2
        print(f"{len(recorder.calls)} calls, {opened} images opened")


def _change_names(names: DatabaseCatalog, step: int) -> None:
    if step == 0:
        names.create("a", "u0")
    elif step == 1:
        names.set_alias("x", "a")
    elif step == 2:
        names.create("b", "u1")
    elif step == 3:
        names.set_alias("y", "a")
    elif step == 4:
        names.switch("a", "u2")
    else:
        names.drop("a")


def power_loss_of_names(seeds: int) -> None:
    """The same for the catalogue of a data directory."""
    with scratch_folder() as scratch:
        root, where = Path(scratch).resolve() / "run", Path(scratch) / "image"
        root.mkdir()
        recorder = Recorder()
        names = DatabaseCatalog.open(Files(recorder), root / "database.db")
        recorder.note("acknowledged", 0)
        states: list[tuple[dict[str, str], dict[str, str]]] = [({}, {})]
        for step in range(6):
            _change_names(names, step)
            recorder.note("acknowledged", step + 1)
            states.append((names.list(), names.aliases()))
        names.close()
        for at, seed, mode, image in images(recorder, root, seeds):
            materialise(image, where)
            acknowledged = max(0, recorder.last("acknowledged", at))
            opened = DatabaseCatalog.open(Files(), where / "database.db")
            found = (opened.list(), opened.aliases())
            assert found in states[acknowledged : acknowledged + 2], f"{mode} image {seed} after call {at}: {found}"
            opened.close()
            shutil.rmtree(where)


def test_power_loss_of_names() -> None:
    run_alone(power_loss_of_names, 5)


def test_power_loss_at_every_call() -> None:
    print(run_alone(power_loss, 1, 7, 5))


@pytest.mark.full
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("script_seed", range(4))
def test_power_loss_at_every_call_of_long_scripts(script_seed: int) -> None:
    print(run_alone(power_loss, 100 + script_seed, 50, 8, timeout=2900))
