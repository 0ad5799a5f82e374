"""Power fails after every I/O call of a run of the whole engine: every image opens, with all that was acknowledged."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from tests.support.crash_images import Image, Recorder, images, materialise
from tests.support.engine_script import Script, State, create, make_script, observed, play, read_state
from tests.support.own_process import run_alone, scratch_folder

from vicinal.database import Database
from vicinal.storage import vfs


def _check(
    where: Path, script: Script, acknowledged: int, tried: int, *, more: bool, known: State | None = None
) -> None:
    with Database(where) as opened:
        if "c" not in opened.list_collections():
            assert acknowledged < 0, "the collection is gone"
            return
        state = read_state(opened.collection("c"))
        allowed = script.states[max(acknowledged, 0) : max(tried, acknowledged, 0) + 1]
        assert known is None or state == known, "what was recovered is gone"
        assert state in allowed, f"of {acknowledged} operations acknowledged, {tried} tried, the state is of neither"
        if more:
            opened.collection("c").upsert([5], {"v": [[1, 2, 3, 4]], "t": [[[1, 2, 3, 4]]]})
            assert len(opened.collection("c").get([5])) == 1
            assert opened.collection("c").flush(60)
            assert opened.collection("c").verify().problems == ()


def _lost_again(image: Image, where: Path, allowed: Script, seeds: int, before: tuple[int, int]) -> int:
    """Power fails again after every call of the recovery from an image: gives how many images of that were opened.

    What was read after the first recovery stays what there is.
    """
    recorder = Recorder()
    materialise(image, where)
    with observed(recorder, often=1000), Database(where) as opened:
        state = read_state(opened.collection("c")) if "c" in opened.list_collections() else None
        told = len(recorder.calls)
    shutil.rmtree(where)
    count = 0
    for at, seed, mode, again in images(recorder, where, seeds, image):
        materialise(again, where)
        try:
            with observed(None, often=1000):
                _check(where, allowed, *before, more=count % 8 == 0, known=state if at >= told else None)
        except Exception as error:
            call = recorder.calls[at - 1] if at else None
            raise AssertionError(f"{mode} image {seed} after call {at} ({call}) of a recovery") from error
        shutil.rmtree(where)
        count += 1
    return count


def power_loss(script_seed: int, operations: int, seeds: int, part: int, parts: int, recoveries: int) -> None:
    """Run a script under the recorder, then open every image of one part.

    From one in `recoveries` images power fails again, at every call of the recovery.
    """
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
        opened = again = 0
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
                if number // parts % recoveries == 0:
                    again += _lost_again(image, where, script, min(seeds, 2), before)
        print(f"{len(recorder.calls)} calls, {opened} images opened, {again} of recoveries")
        assert again > opened // recoveries
        assert opened > len(recorder.calls) // parts // 2


def _kept(image: Image) -> Path:
    """A failing image, for looking into."""
    kept = Path(tempfile.mkdtemp(prefix="vicinal-image-"))
    materialise(image, kept / "db")
    return kept


def test_power_loss_at_every_call_of_the_engine() -> None:
    print(run_alone(power_loss, 1, 8, 1, 0, 2, 60))


@pytest.mark.full
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("part", range(2))
def test_power_loss_at_every_call_of_two_hundred_operations(part: int) -> None:
    print(run_alone(power_loss, 7, 200, 8, part, 2, 500, timeout=2900))
