"""Power fails after every I/O call of a run of the whole engine: every image opens, with all that was acknowledged."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from tests.support.crash_images import Image, Recorder, images, materialise
from tests.support.engine_script import Script, create, make_script, observed, play, read_state
from tests.support.own_process import run_alone, scratch_folder

from vicinal.database import Database
from vicinal.storage import vfs


def _check(where: Path, script: Script, acknowledged: int, tried: int, *, more: bool) -> None:
    with Database(where) as opened:
        if "c" not in opened.list_collections():
            assert acknowledged < 0, "the collection is gone"
            return
        state = read_state(opened.collection("c"))
        allowed = script.states[max(acknowledged, 0) : max(tried, acknowledged, 0) + 1]
        assert state in allowed, f"of {acknowledged} operations acknowledged, {tried} tried, the state is of neither"
        if more:
            opened.collection("c").upsert([5], {"v": [[1, 2, 3, 4]], "t": [[[1, 2, 3, 4]]]})
            assert len(opened.collection("c").get([5])) == 1


def power_loss(script_seed: int, operations: int, seeds: int, part: int, parts: int) -> None:
    """Run a script under the recorder, then open every image of one part."""
    script = make_script(script_seed, operations)
    with scratch_folder() as scratch:
        root, where = Path(scratch).resolve() / "run", Path(scratch) / "image"
        recorder = Recorder()
        vfs.register()
        with observed(recorder):
            root.mkdir()
            session = create(root)
            recorder.note("acknowledged", 0)
            play(session, script, 0, recorder.note)
            session.close()
        opened = 0
        with observed(None, often=1000):
            for number, (at, seed, mode, image) in enumerate(images(recorder, root, seeds)):
                if number % parts != part:
                    continue
                materialise(image, where)
                before = recorder.last("acknowledged", at), recorder.last("tried", at)
                try:
                    _check(where, script, *before, more=number % 8 == 0)
                except Exception as error:
                    call = recorder.calls[at - 1] if at else None
                    raise AssertionError(
                        f"script {script_seed}, {mode} image {seed} after call {at} ({call}), kept in {_kept(image)}"
                    ) from error
                opened += 1
                shutil.rmtree(where)
        print(f"{len(recorder.calls)} calls, {opened} images opened")
        assert opened > len(recorder.calls) // parts // 2


def _kept(image: Image) -> Path:
    """A failing image, for looking into."""
    kept = Path(tempfile.mkdtemp(prefix="vicinal-image-"))
    materialise(image, kept / "db")
    return kept


def test_power_loss_at_every_call_of_the_engine() -> None:
    print(run_alone(power_loss, 1, 8, 1, 0, 2))


@pytest.mark.full
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("part", range(2))
def test_power_loss_at_every_call_of_two_hundred_operations(part: int) -> None:
    print(run_alone(power_loss, 7, 200, 8, part, 2, timeout=1450))
