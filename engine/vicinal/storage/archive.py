"""Plain tar archives of fixed members: what a backup is made of, and how one is read that nobody vouches for.

An archive is POSIX ustar, which every `tar` lists and unpacks: regular files and nothing else, `manifest.json` last. It
has the size and SHA-256 of every other member. A file that was cut has no manifest, so it is no archive.

The reader takes an archive only whole: each member a regular file with a name of a known form, none twice, none beyond
the end of the file, nothing unaccounted for. It follows no links, makes no directories that a member names, and
allocates nothing that a header asks for. Sizes over 8 GiB are written as GNU tar does, in base 256.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from vicinal.errors import CorruptData, FormatTooNew
from vicinal.storage.files import Files, OpenFile

__all__ = ["FORMAT", "MANIFEST", "Archive", "Member", "Source", "pack"]

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
_NAMES: Final = re.compile(
    r"manifest\.json|(0|[1-9][0-9]{0,3})/"
    r"(catalog\.db|[A-Za-z0-9_-]{1,64}-1\.(vec|tok|off|sent)|[+A-Za-z0-9_-]{0,64}@[0-9]{1,10}\.snapshot)"
)
_BLOCK: Final = 512
_PART: Final = 4 << 20  # bytes read, hashed and written at a time
_MEMBERS_MAX: Final = 100_000
_MANIFEST_MAX: Final = 32 << 20
_OCTAL_MAX: Final = 1 << 33  # sizes from here on are in base 256
_BLANK: Final = b" " * 8


class Member(NamedTuple):
    """A regular file in an archive: where its bytes are."""

    name: str
    offset: int
    size: int


class Source(NamedTuple):
    """A file to be archived: its size is known before its bytes are."""

    name: str
    size: int
    chunks: Iterable[bytes | memoryview]


def _header(name: str, size: int, when: int) -> bytes:
    octal = b"%011o\0" % size if size < _OCTAL_MAX else (1 << 95 | size).to_bytes(12, "big")
    head = b"".join(
        (
            name.encode().ljust(100, b"\0"),
            b"0000640\0" + b"0000000\0" * 2,  # mode, owner, group
            octal,
            b"%011o\0" % when,
            _BLANK,
            b"0" + bytes(100),  # a regular file, which links to nothing
            b"ustar\0" + b"00",
        )
    ).ljust(_BLOCK, b"\0")
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def pack(sources: Iterable[Source], about: dict[str, Any]) -> Iterator[bytes | memoryview]:
    """The archive of these files in parts, its manifest last: `about`, and size and SHA-256 of each."""
    when = int(time.time())
    files: dict[str, Any] = {}
    for source in sources:
        if not _NAMES.fullmatch(source.name) or source.name in files:
            raise ValueError(f"{source.name!r} is no member of an archive")
        yield _header(source.name, source.size, when)
        total, digest = 0, hashlib.sha256()
        for chunk in source.chunks:
            digest.update(chunk)
            total += len(chunk)
            yield chunk
        if total != source.size:
            raise CorruptData(f"{source.name} has {total} bytes, {source.size} were expected", field=source.name)
        yield bytes(-total % _BLOCK)
        files[source.name] = {"bytes": total, "sha256": digest.hexdigest()}
    text = orjson.dumps({"format": FORMAT, **about, "files": files}, option=orjson.OPT_INDENT_2)
    yield _header(MANIFEST, len(text), when)
    yield text
    yield bytes(-len(text) % _BLOCK + 2 * _BLOCK)


class Archive:
    """An archive whose members and manifest agree; their bytes are compared with their sums as they are read."""

    def __init__(self, path: Path, file: OpenFile) -> None:
        self._path, self._file = path, file
        self._members = {member.name: member for member in self._listed()}
        self.manifest = self._manifest()

    @classmethod
    def open(cls, files: Files, path: Path) -> Archive:
        """Open an archive; CorruptData, FormatTooNew, when it is not one that `pack` makes."""
        file = files.open(path, read_only=True)
        try:
            return cls(path, file)
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def nbytes(self) -> int:
        """Size of the archive."""
        return self._file.size()

    @property
    def names(self) -> list[str]:
        """The members, the manifest aside."""
        return [name for name in self._members if name != MANIFEST]

    def _refused(self, why: str) -> CorruptData:
        return CorruptData(f"{self._path} is no backup of this engine: {why}", field=str(self._path))

    def _listed(self) -> Iterator[Member]:
        at, end = 0, self._file.size()
        seen: set[str] = set()
        while True:
            head = self._file.pread(_BLOCK, at)
            at += _BLOCK
            if len(head) != _BLOCK:
                raise self._refused("it was cut")
            if not any(head):
                break
            member = self._member(head, at)
            if member.name in seen or len(seen) >= _MEMBERS_MAX:
                raise self._refused(f"{member.name} is there twice" if member.name in seen else "too many members")
            seen.add(member.name)
            at += -(-member.size // _BLOCK) * _BLOCK
            if at > end:
                raise self._refused(f"{member.name} was cut")
            yield member
        if end - at > 20 * _BLOCK or any(self._file.pread(end - at, at)):  # `tar` pads to 20 blocks
            raise self._refused("something follows its end")

    def _member(self, head: bytes, offset: int) -> Member:
        try:
            named = int(head[148:156].rstrip(b"\0 "), 8)
            size = int.from_bytes(head[125:136], "big") if head[124] == 0x80 else int(head[124:136].rstrip(b"\0 "), 8)
            name = head[:100].rstrip(b"\0").decode("ascii")
        except ValueError:
            raise self._refused(f"the header at byte {offset - _BLOCK} is damaged") from None
        if named != sum(head) - sum(head[148:156]) + sum(_BLANK):
            raise self._refused(f"the header at byte {offset - _BLOCK} does not match its checksum")
        if head[156:157] not in (b"0", b"\0") or any(head[157:257]) or any(head[345:500]) or size < 0:
            raise self._refused(f"{name!r} is no regular file")
        if not _NAMES.fullmatch(name):
            raise self._refused(f"no member is called {name!r}")
        return Member(name, offset, size)

    def _manifest(self) -> dict[str, Any]:
        found = self._members.get(MANIFEST)
        if found is None or next(reversed(self._members)) != MANIFEST:
            raise self._refused("its manifest is not its last member")
        if found.size > _MANIFEST_MAX:
            raise self._refused(f"its manifest has {found.size} bytes")
        try:
            manifest = orjson.loads(self._file.pread(found.size, found.offset))
            version, told = manifest["format"], manifest["files"]
            sizes = {name: int(of["bytes"]) for name, of in told.items()}
            sums = all(re.fullmatch("[0-9a-f]{64}", of["sha256"]) for of in told.values())
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._refused(f"its manifest cannot be read ({error})") from error
        if not isinstance(version, int) or version > FORMAT:
            raise FormatTooNew(f"{self._path} has format {version}, this version reads {FORMAT}", value=version)
        if not sums or sizes != {name: self._members[name].size for name in self.names}:
            raise self._refused("its manifest tells of other files")
        checked: dict[str, Any] = manifest
        return checked

    def read(self, name: str) -> Iterator[bytes]:
        """The bytes of a member in parts; CorruptData after the last of them when they are not those archived."""
        member, digest = self._members[name], hashlib.sha256()
        for at in range(0, member.size, _PART):
            part = self._file.pread(min(_PART, member.size - at), member.offset + at)
            digest.update(part)
            yield part
        if digest.hexdigest() != self.manifest["files"][name]["sha256"]:
            raise CorruptData(f"{self._path}: {name} does not match its SHA-256 sum", field=str(self._path))
