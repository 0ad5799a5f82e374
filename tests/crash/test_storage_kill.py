"""The writing process is killed at any moment; what it had acknowledged is there, and nothing half done."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from tests.support.own_process import run_alone, scratch_folder
from tests.support.storage_script import Step, Writer, read_state, states_of, write_script

from vicinal.storage.files import Files


def _write_until_killed(root: Path, script: list[Step], pipe: int) -> None:
    """Go on with the script where the directory stands, telling each acknowledged seq as four bytes."""
    writer = Writer.open(Files(), root)
    os.write(pipe, writer.catalog.last.seq.to_bytes(4, "little"))
    for step in script[writer.catalog.last.seq :]:
        writer.apply(step)
        os.write(pipe, writer.catalog.last.seq.to_bytes(4, "little"))
        if writer.catalog.last.seq % 20 == 0:
            writer.catalog.checkpoint()
    signal.pause()  # a fast machine may reach the script's end before the kill


def _kill_one(root: Path, script: list[Step], rng: random.Random) -> int:
    """Let a child write for up to 25 ms after it opened; return the last seq it acknowledged."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _write_until_killed(root, script, writing)
        finally:
            os._exit(1)
    os.close(writing)
    told = os.read(reading, 4)
    assert told, "the child could not open the directory"
    time.sleep(rng.random() * 0.025)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the child ended by itself"
    while part := os.read(reading, 1 << 16):
        told += part
    os.close(reading)
    return int.from_bytes(told[-4:], "little")


def kill_again_and_again(cycles: int, seed: int) -> None:
    """Kill, reopen, compare; the directory lives through all cycles."""
    rng = random.Random(seed)
    script = write_script(seed, cycles * 40)
    states = states_of(script)
    with scratch_folder() as scratch:
        root = Path(scratch)
        Writer.create(Files(), root).close()
        for cycle in range(cycles):
            acknowledged = _kill_one(root, script, rng)
            writer = Writer.open(Files(), root)
            seq = writer.catalog.last.seq
            assert acknowledged <= seq <= acknowledged + 1, f"cycle {cycle}: {acknowledged} acknowledged, {seq} there"
            assert read_state(writer) == states[seq], f"cycle {cycle}: commit {seq} is not whole"
            writer.close()
        assert seq > cycles // 10  # on a busy machine few of those milliseconds are the child's
        print(f"{cycles} cycles, {seq} commits")


def test_kill_while_writing() -> None:
    print(run_alone(kill_again_and_again, 50, 1))


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_kill_while_writing_a_thousand_times() -> None:
    print(run_alone(kill_again_and_again, 1000, 2, timeout=1700))
