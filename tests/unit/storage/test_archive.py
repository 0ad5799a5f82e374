"""Archives: what `pack` writes, tar reads; what it did not write is refused whole, and nothing of it is kept."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from vicinal.errors import CorruptData, FormatTooNew, VicinalError
from vicinal.storage.archive import Archive, Source, _header, pack
from vicinal.storage.files import Files

CONTENTS = {"0/catalog.db": b"c" * 5000, "0/vectors-1.vec": b"v" * 512, "1/catalog.db": b"", "1/@9.snapshot": b"s"}


def packed(contents: dict[str, bytes] = CONTENTS, about: dict[str, object] | None = None) -> bytes:
    sources = [Source(name, len(body), [body[:7], body[7:]]) for name, body in contents.items()]
    return b"".join(pack(sources, {"about": 1} if about is None else about))


def opened(folder: Path, content: bytes) -> Archive:
    (folder / "a.tar").write_bytes(content)
    return Archive.open(Files(), folder / "a.tar")


def test_what_was_packed_is_read(tmp_path: Path) -> None:
    archive = opened(tmp_path, packed())
    assert archive.names == list(CONTENTS)
    assert {name: b"".join(archive.read(name)) for name in archive.names} == CONTENTS
    assert archive.manifest["about"] == 1
    assert archive.nbytes == (tmp_path / "a.tar").stat().st_size
    archive.close()


def test_tar_agrees(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed())) as archive:
        assert {m.name: archive.extractfile(m).read() for m in archive.getmembers()[:-1]} == CONTENTS  # type: ignore[union-attr]
    made = io.BytesIO()
    with (
        tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as target,
        tarfile.open(fileobj=io.BytesIO(packed())) as source,
    ):
        for member in source.getmembers():
            target.addfile(member, source.extractfile(member))
    opened(tmp_path, made.getvalue()).close()  # packed again by another tool


def test_sizes_beyond_octal() -> None:
    head = _header("0/catalog.db", 1 << 40, 0)
    assert tarfile.TarInfo.frombuf(head, "ascii", "strict").size == 1 << 40
    head = _header("0/catalog.db", (1 << 33) - 1, 0)
    assert tarfile.TarInfo.frombuf(head, "ascii", "strict").size == (1 << 33) - 1


def test_only_fixed_names_are_packed_and_sizes_hold() -> None:
    for name in (
        "../x",
        "/etc/passwd",
        "0/../1/catalog.db",
        "0/x",
        "0/a-2.vec",
        "manifest",
        "00/catalog.db",
        "0/a-1.vec\n",
    ):
        with pytest.raises(ValueError, match="no member"):
            packed({name: b""})
    with pytest.raises(CorruptData, match="2 bytes, 3 were expected"):
        list(pack([Source("0/catalog.db", 3, [b"ab"])], {}))


@pytest.mark.parametrize("at", [0, 100, 511, 512, 3000, 6000, -513, -1024])
def test_a_cut_archive(tmp_path: Path, at: int) -> None:
    with pytest.raises(CorruptData):
        opened(tmp_path, packed()[:at])


def test_damage_inside_a_member_is_found_when_it_is_read(tmp_path: Path) -> None:
    content = bytearray(packed())
    content[512 + 4000] ^= 1
    archive = opened(tmp_path, bytes(content))
    with pytest.raises(CorruptData, match="SHA-256"):
        list(archive.read("0/catalog.db"))
    archive.close()


def test_a_later_format(tmp_path: Path) -> None:
    with pytest.raises(FormatTooNew):
        opened(tmp_path, packed(about={"format": 2}))


def _tar(
    change: Callable[[tarfile.TarInfo], None], name: str = "0/a-1.vec", body: bytes = b"x", form: int = 0
) -> bytes:
    """An archive by another tool, with one member more in front."""
    made = io.BytesIO()
    forms = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    with tarfile.open(fileobj=made, mode="w", format=forms[form]) as target:
        info = tarfile.TarInfo(name)
        info.size = len(body)
        change(info)
        target.addfile(info, io.BytesIO(body))
        with tarfile.open(fileobj=io.BytesIO(packed())) as source:
            for member in source.getmembers():
                target.addfile(member, source.extractfile(member))
    return made.getvalue()


def _kind(kind: bytes, link: str) -> bytes:
    """An archive that is whole but for the kind of its first member, and where that links to."""
    plain = packed()
    return _summed(plain[:156] + kind + link.encode().ljust(100, b"\0") + plain[257:512]) + plain[512:]


def _named(name: str) -> bytes:
    """An archive that is whole but for the name of its first member, which its manifest tells too."""
    told = {name: {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}}
    text = json.dumps({"format": 1, "files": told}).encode()
    parts = [_header(name, 1, 0), b"x".ljust(512, b"\0"), _header("manifest.json", len(text), 0), text]
    return b"".join(parts) + bytes(-len(text) % 512 + 1024)


def malicious() -> dict[str, bytes]:
    """Two hundred archives that no backup is."""
    made: dict[str, bytes] = {}
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)
    for kind in (*kinds, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"V", b"M", b"X", b"g"):
        for link in ("/etc/passwd", "../../x", ""):
            made[f"kind {kind!r} to {link!r}"] = _kind(kind, link)
    made["a regular file that links"] = _kind(tarfile.REGTYPE, "/etc/passwd")
    names = (
        "../x", "../../../../tmp/x", "/etc/passwd", "//etc/passwd", "./manifest.json", "0/../../x", "0/..", "0/.", "0/",
        "0//catalog.db", "0\\catalog.db", "C:/x", "0/catalog.db/x", "0/catalog.db ", " 0/catalog.db", "0/CATALOG.DB",
        "manifest.json/", "x/manifest.json", "10000/catalog.db", "-1/catalog.db", "01/catalog.db", "0/catalog.db-wal",
        "0/catalog.db-shm", "0/catalog.db-journal", "database.db", "LOCK", "0/LOCK", "0/a-0.vec", "0/a.vec",
        "0/a-1.exe",
        "0/" + "a" * 70 + "-1.vec", "0/é-1.vec", "0/a\n-1.vec", "0/a-1.vec\r", "~/x", "$HOME/x", "0/*", "0/a-1.vec.tmp",
        "0/x@1.snapshot.tmp", "0/x@12345678901.snapshot", "0/x@-1.snapshot", "0/x.snapshot", "", ".", "..",
    )  # fmt: skip
    for name in names:
        made[f"name {name!r}"] = _named(name)
        for form in (1, 2):
            made[f"name {name!r} in form {form}"] = _tar(lambda _: None, "x" * 120 + name, form=form)
    plain = packed()
    made["twice the same"] = _tar(lambda _: None, "0/catalog.db")
    made["a second manifest"] = _tar(lambda _: None, "manifest.json")
    made["something after its end"] = plain + b"x" * 512
    made["another archive after its end"] = plain + plain
    made["nothing for long after its end"] = plain + bytes(100 * 512)
    made["no manifest"] = plain[: plain.rindex(b"manifest.json\0")] + bytes(1024)
    made["empty"] = b""
    made["not a tar"] = b"PK\x03\x04" + b"x" * 2000
    for size in (b"77777777777\0", b"-0000000001\0", b"0000000000x\0", b"\x80" + b"\x7f" * 11, b"\xff" * 12):
        made[f"size {size!r}"] = _summed(plain[:124] + size + plain[136:512]) + plain[512:]
    rng = random.Random(1)
    while len(made) < 200:
        content = bytearray(plain)
        at = rng.randrange(345)  # of the first header; its padding may be anything
        content[at] ^= 1 << rng.randrange(8)
        made[f"bit {at} {len(made)}"] = bytes(content)
    return made


def _summed(head: bytes) -> bytes:
    return head[:148] + b"%06o\0 " % (sum(head[:148]) + 8 * 32 + sum(head[156:])) + head[156:]


def test_two_hundred_archives_that_no_backup_is(tmp_path: Path) -> None:
    made = malicious()
    assert len(made) >= 200
    for what, content in made.items():
        try:
            opened(tmp_path, content)
        except VicinalError:
            continue
        raise AssertionError(f"taken: {what}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_forging_nothing_is_accepted(tmp_path: Path) -> None:
    opened(tmp_path, _named("0/catalog.db")).close()
    opened(tmp_path, _kind(tarfile.REGTYPE, "")).close()


def test_manifests_that_tell_something_else(tmp_path: Path) -> None:
    def told(text: bytes) -> bytes:
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as target:
            for name, body in (("0/catalog.db", b"x"), ("manifest.json", text)):
                info = tarfile.TarInfo(name)
                info.size = len(body)
                target.addfile(info, io.BytesIO(body))
        return made.getvalue()

    whole = b'{"format": 1, "files": {"0/catalog.db": {"bytes": 1, "sha256": "%s"}}}' % (b"a" * 64)
    opened(tmp_path, told(whole)).close()
    for text in (
        b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"format": 1}', b'{"format": "1", "files": {}}',
        b'{"format": 1, "files": {}}', b'{"format": 1, "files": []}', whole.replace(b'": 1, "sha', b'": 2, "sha'),
        whole.replace(b'"bytes": 1', b'"bytes": null'), whole.replace(b"a" * 64, b"A" * 64),
        whole.replace(b'"%s"' % (b"a" * 64), b"5"), whole.replace(b"0/cat", b"1/cat"),
    ):  # fmt: skip
        with pytest.raises(VicinalError):
            opened(tmp_path, told(text))
