"""What is read of a backup, and what of it is refused."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tinyfaas.cli import archive
from tinyfaas.cli.failures import Failed
from tinyfaas.protocol import upload_digest

CODE = b"def main(): ...\n"
ENTRY = {
    "version": 3,
    "uploaded": "T",
    "digest": upload_digest(CODE, b"", {"timeout_s": 2}),
    "config": {"timeout_s": 2},
}
GOOD = {"format": 1, "functions": {"greet": ENTRY}}
FILES = {"functions/greet/func.py": CODE, "functions/greet/requirements.txt": b""}

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes an archive: contents, files by name, and members of any kind."""

    def write(contents: Any = GOOD, files: dict[str, bytes] = FILES, members: tuple[tarfile.TarInfo, ...] = ()) -> Path:
        file = tmp_path / "backup.tar.gz"
        text = contents if isinstance(contents, bytes) else json.dumps(contents).encode()
        with tarfile.open(file, "w:gz") as tar:
            for name, data in ({archive.CONTENTS: text} | files).items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            for member in members:
                tar.addfile(member, io.BytesIO(b"\0" * member.size))
        return file

    return write


def of_kind(kind: bytes, name: str, size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname = kind, size, "/etc/passwd"
    return member


def extracted(file: Path, into: Path, most_bytes: int = 1000) -> int:
    with file.open("rb") as source:
        return archive.read(file).extract_state(source, "greet", into, most_bytes)


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(Failed) as failed:
        act()
    assert "\n" not in str(failed.value)
    return str(failed.value)


def test_what_was_written_is_read_again(tmp_path: Path, make: Make) -> None:
    reader = archive.read(make())
    assert reader.functions == ["greet"]
    (stored,) = reader.stored(["greet"])
    assert (stored.code, stored.requirements, stored.version) == (CODE, b"", 3)
    assert stored.upload.keys() == {"code_b64", "config"}


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ({"format": 2, "functions": {}}, "is of format 2, this tinyfaas reads 1"),
        ([], "is of format None"),
        (b"no json", "is no whole archive"),
        (b"[" * 100_000, "holds what no memory could"),
        ({"format": 1}, "its table of contents is not as"),
        ({"format": 1, "functions": {"../x": ENTRY}}, "its table of contents is not as"),
        ({"format": 1, "functions": {"a": {**ENTRY, "config": "x"}}}, "its table of contents is not as"),
    ],
)
def test_a_table_of_contents_that_can_not_be_used_is_refused(make: Make, contents: Any, said: str) -> None:
    assert said in refused(lambda: archive.read(make(contents)))


def test_code_of_another_digest_is_refused(make: Make) -> None:
    file = make(files={**FILES, "functions/greet/func.py": b"import evil\n"})
    assert "is not what was backed up" in refused(lambda: archive.read(file).stored(["greet"]))
    missing = make(files={})
    assert "has no code of greet" in refused(lambda: archive.read(missing).stored(["greet"]))


def test_what_is_no_archive_or_half_of_one_is_told(tmp_path: Path, make: Make) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"nothing of the kind" * 100)
    assert "is no whole archive" in refused(lambda: archive.read(file))
    file.write_bytes(gzip.compress(b"x" * 2000))
    assert "is no whole archive" in refused(lambda: archive.read(file))
    assert "No such file" in refused(lambda: archive.read(tmp_path / "nowhere"))
    whole = make(files={**FILES, "functions/greet/state/a": bytes(range(256)) * 40}).read_bytes()
    file.write_bytes(whole[: len(whole) * 3 // 4])
    refused(lambda: extracted(file, tmp_path / "state", 100_000))


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "a//b", ".", "a/./b"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, make: Make, name: str) -> None:
    file = make(members=(of_kind(tarfile.REGTYPE, f"functions/greet/state/{name}"),))
    assert "is no name of a file" in refused(lambda: extracted(file, tmp_path / "in" / "state"))
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_what_is_no_plain_file_is_refused(tmp_path: Path, make: Make, kind: bytes) -> None:
    file = make(members=(of_kind(kind, "functions/greet/state/a"),))
    assert "is neither a file nor a folder" in refused(lambda: extracted(file, tmp_path / "state"))
    assert list((tmp_path / "state").iterdir()) == []


def test_a_file_is_never_written_twice(tmp_path: Path, make: Make) -> None:
    twice = (
        of_kind(tarfile.REGTYPE, "functions/greet/state/a", 5),
        of_kind(tarfile.REGTYPE, "functions/greet/state/a"),
    )
    refused(lambda: extracted(make(members=twice), tmp_path / "state"))
    assert (tmp_path / "state" / "a").read_bytes() == b"\0" * 5


def test_more_than_a_function_may_store_is_refused(tmp_path: Path, make: Make) -> None:
    file = make(members=(of_kind(tarfile.REGTYPE, "functions/greet/state/a", 1001),))
    assert "had stored more than it may here" in refused(lambda: extracted(file, tmp_path / "state"))
    assert extracted(file, tmp_path / "other", 1001) == 1


def test_only_the_state_of_the_function_asked_for_is_taken(tmp_path: Path, make: Make) -> None:
    others = ("functions/greet2/state/b", "etc/cron.d/c", "functions/greet/func.py.bak")
    good = of_kind(tarfile.REGTYPE, "functions/greet/state/sub/a", 3)
    good.mode = 0o4777
    file = make(members=(*(of_kind(tarfile.REGTYPE, name) for name in others), good))
    assert extracted(file, tmp_path / "state") == 1
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path != file]
    assert files == [tmp_path / "state" / "sub" / "a"]
    assert files[0].stat().st_mode & 0o7777 == 0o700
