"""What a disk may hold after power fails: a recorder of I/O calls and every image of a run.

The model is the weakest that file systems promise. A write or truncation is certain after a sync of its
file, a name (create, rename, remove) after a sync of its directory. Anything younger may be there, absent,
torn by 512-byte sectors, or garbage within its own range, each on its own, in any combination; names of one
journal come back in order, so a prefix of the unsynced ones is there. A directory is a name like others: what it holds
is lost with it.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vicinal.storage.files import IoCall

__all__ = ["SECTOR", "Disk", "Recorder", "images", "materialise"]

SECTOR = 512
Image = dict[str, bytes | None]  # path relative to the root → content, None of a directory


class Recorder:
    """An observer that keeps every call of any thread, and what the caller noted between them."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self.calls: list[IoCall] = []
        self.notes: list[tuple[int, str, int]] = []  # calls made before it, what, of which commit

    def before(self, call: IoCall) -> int | None:
        if call.kind != "read":
            with self._turn:
                self.calls.append(call)
        return None

    def note(self, what: str, seq: int) -> None:
        """Remember that commit `seq` was "tried" or "acknowledged" here."""
        self.notes.append((len(self.calls), what, seq))

    def last(self, what: str, at: int) -> int:
        """Return the newest seq of that note when `at` calls had been made, -1 before the first."""
        return max((seq for made, kind, seq in self.notes if made <= at and kind == what), default=-1)


@dataclass
class _File:
    """Content on the device, and changes that no sync covered yet: (offset, data), or (size, None) to cut."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    is_directory: bool = False

    def sync(self) -> None:
        for offset, data in self.pending:
            _apply(self.durable, offset, data)
        self.pending = []

    def after_crash(self, rng: random.Random, mode: str) -> bytes:
        content = bytearray(self.durable)
        for offset, data in self.pending:
            fate = mode if mode != "mixed" else rng.choice(["kept", "dropped", "torn", "garbage"])
            if data is None:
                if fate == "kept" or (fate != "dropped" and rng.random() < 0.5):
                    _apply(content, offset, None)
            elif fate == "kept":
                _apply(content, offset, data)
            elif fate != "dropped":
                _tear(content, offset, data, rng, garbage=fate == "garbage", kept=0 if mode == "garbage" else 0.4)
        return bytes(content)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    size = offset if data is None else max(len(content), offset + len(data))
    if data is None:
        del content[size:]
    content.extend(bytes(size - len(content)))
    if data is not None:
        content[offset : offset + len(data)] = data


def _tear(content: bytearray, offset: int, data: bytes, rng: random.Random, *, garbage: bool, kept: float) -> None:
    start = offset
    while start < offset + len(data):
        stop = min(offset + len(data), (start // SECTOR + 1) * SECTOR)
        if rng.random() < kept:
            _apply(content, start, data[start - offset : stop - offset])
        elif garbage:
            _apply(content, start, rng.randbytes(stop - start))
        start = stop


class Disk:
    """The device below one directory, fed with calls; `image` is what it holds at first, certainly."""

    def __init__(self, root: Path, image: Image | None = None) -> None:
        self._root = str(root)
        self._names = {
            f"{root}/{name}": _File(bytearray(content or b""), is_directory=content is None)
            for name, content in (image or {}).items()
        }
        self._durable_names = dict(self._names)
        self._pending_names: list[tuple[str, str, _File | None]] = []  # directory, name, file (None: removed)

    def apply(self, call: IoCall) -> None:
        """Carry out one call."""
        path = call.path
        if call.kind == "create":
            self._name(path, _File())
        elif call.kind == "mkdir" and path.startswith(self._root + "/"):
            self._name(path, _File(is_directory=True))
        elif call.kind == "remove":
            self._name(path, None)
        elif call.kind == "rename":
            moved = self._names[path]
            self._name(call.target, moved)
            self._name(path, None)
        elif call.kind == "sync_dir":
            self._sync_dir(path)
        elif call.kind == "write":
            self._names[path].pending.append((call.offset, call.data))
        elif call.kind == "truncate":
            self._names[path].pending.append((call.size, None))
        elif call.kind == "sync":
            self._names[path].sync()

    def _name(self, path: str, file: _File | None) -> None:
        if file is None:
            self._names.pop(path, None)
        else:
            self._names[path] = file
        self._pending_names.append((str(Path(path).parent), path, file))

    def _sync_dir(self, directory: str) -> None:
        for parent, path, file in self._pending_names:
            if parent == directory:
                _set(self._durable_names, path, file)
        self._pending_names = [pending for pending in self._pending_names if pending[0] != directory]

    @property
    def settled(self) -> bool:
        """Whether all is certain, and every image alike."""
        return not self._pending_names and not any(file.pending for file in self._names.values())

    def after_crash(self, rng: random.Random, mode: str) -> Image:
        """Return what may be on the device now. `mode`: "dropped", "kept", "torn", "garbage" or "mixed"."""
        names = dict(self._durable_names)
        pending = self._pending_names
        there = {"dropped": 0, "kept": len(pending)}.get(mode, rng.randint(0, len(pending)))
        for _, path, file in pending[:there]:
            _set(names, path, file)
        names = {path: file for path, file in names.items() if self._has_way(path, names)}
        content: dict[int, bytes | None] = {}
        for file in names.values():
            if id(file) not in content:
                content[id(file)] = None if file.is_directory else file.after_crash(rng, mode)
        return {path[len(self._root) + 1 :]: content[id(file)] for path, file in names.items()}

    def _has_way(self, path: str, names: dict[str, _File]) -> bool:
        """Whether the directories that lead to a name are there."""
        parents = itertools.takewhile(lambda parent: parent != self._root, map(str, Path(path).parents))
        return all(parent in names for parent in parents)

    def worst(self) -> Image:
        """Return what is certain: nothing that no sync covered."""
        return self.after_crash(random.Random(0), "dropped")


def _set(names: dict[str, _File], path: str, file: _File | None) -> None:
    if file is None:
        names.pop(path, None)
    else:
        names[path] = file


MODES = ("dropped", "kept", "torn", "garbage", "mixed")


_TRIES = 4  # per image that is to differ from those of the same moment


def images(
    recorder: Recorder, root: Path, seeds: int, first: Image | None = None
) -> Iterator[tuple[int, int, str, Image]]:
    """Yield (calls made, seed, mode, image) for a power failure after each call of the run, and before it.

    `seeds` images of each moment that differ from each other, or as many as there are; `first` is what the disk held
    before. Images that were there before are left out.
    """
    disk = Disk(root, first)
    seen: set[int] = set()
    for at in range(len(recorder.calls) + 1):
        if at:
            disk.apply(recorder.calls[at - 1])
        here: set[int] = set()
        for seed in range(1 if disk.settled else _TRIES * seeds if seeds >= len(MODES) else seeds):
            mode = _mode(at, seed, seeds)
            image = disk.after_crash(random.Random(at * 1_000 + seed), mode)
            mark = hash((recorder.last("acknowledged", at), frozenset(image.items())))
            here.add(mark)
            if len(here) > seeds:
                break
            if mark not in seen:
                seen.add(mark)
                yield at, seed, mode, image


def _mode(at: int, seed: int, seeds: int) -> str:
    """Each once, and then those by turns in which chance plays a part; few take turns from moment to moment."""
    if seeds < len(MODES):
        return MODES[(at + seed) % len(MODES)]
    return MODES[seed] if seed < len(MODES) else MODES[2 + seed % 3]


def materialise(image: Image, root: Path) -> None:
    """Write an image as a new directory; trailing zeros become a hole."""
    root.mkdir(parents=True)
    for name, content in sorted(image.items()):
        path = root / name
        if content is None:
            path.mkdir()
            continue
        with path.open("wb") as file:
            file.write(content.rstrip(b"\0"))
            file.truncate(len(content))
