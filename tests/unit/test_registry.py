"""The registry survives restarts, bad records and bad files, and counts versions up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tinyfaas.errors import NotFound
from tinyfaas.model import Limits, Version
from tinyfaas.registry import Record, Registry


def registry_in(folder: Path) -> Registry:
    """A registry loaded from a folder of the test's own."""
    registry = Registry(folder / "functions.json", folder / "functions", Limits())
    registry.load()
    return registry


def version(number: int, **config: object) -> Version:
    """A version that was uploaded some time."""
    return Version(number, "2026-01-01T00:00:00.000Z", f"digest-{number}", "environment", config)


def test_what_was_put_is_there_after_a_restart(tmp_path: Path) -> None:
    registry_in(tmp_path).put("f", Record(0, 1, ()).with_version(version(1, timeout_s=5), keep=3))
    again = registry_in(tmp_path)
    assert again.names() == ["f"]
    assert again.spec("f").limits.timeout_s == 5
    assert again.record("f").next_number == 2


def test_a_bad_record_is_set_aside_and_the_others_load(tmp_path: Path) -> None:
    registry = registry_in(tmp_path)
    for name in ("good", "bad"):
        registry.put(name, Record(0, 1, ()).with_version(version(1), keep=3))
    document = json.loads((tmp_path / "functions.json").read_bytes())
    document["bad"]["versions"] = "none"
    (tmp_path / "functions.json").write_text(json.dumps(document))
    assert registry_in(tmp_path).names() == ["good"]
    (aside,) = tmp_path.glob("functions.json.rejected-*")
    assert list(json.loads(aside.read_bytes())) == ["bad"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\0", b"[" * 100_000])
def test_a_file_that_cannot_be_read_gives_way_to_the_one_before(tmp_path: Path, content: bytes) -> None:
    registry = registry_in(tmp_path)
    registry.put("first", Record(0, 1, ()).with_version(version(1), keep=3))
    registry.put("second", Record(0, 1, ()).with_version(version(1), keep=3))
    (tmp_path / "functions.json").write_bytes(content)
    assert registry_in(tmp_path).names() == ["first"]
    assert len(list(tmp_path.glob("functions.json.corrupt-*"))) == 1


def test_versions_count_up_and_a_rollback_goes_back_one_by_one() -> None:
    record = Record(0, 1, ())
    for _ in range(3):
        record = record.with_version(version(record.next_number), keep=3)
    back = record.rolled_back()
    assert back is not None
    assert back.current == 2
    further = back.rolled_back()
    assert further is not None
    assert further.current == 1
    assert further.rolled_back() is None


def test_what_was_rolled_back_from_is_given_up_and_its_number_not_used_again() -> None:
    record = Record(0, 1, ())
    for _ in range(3):
        record = record.with_version(version(record.next_number), keep=5)
    back = record.rolled_back()
    assert back is not None
    after = back.with_version(version(back.next_number), keep=5)
    assert [each.number for each in after.versions] == [1, 2, 4]
    previous = after.rolled_back()
    assert previous is not None
    assert previous.current == 2


def test_only_so_many_versions_are_kept() -> None:
    record = Record(0, 1, ())
    for _ in range(7):
        record = record.with_version(version(record.next_number), keep=3)
    assert [each.number for each in record.versions] == [5, 6, 7]


SIGNED_AT = "2026-01-01T00:00:00.000000Z"


def test_when_an_upload_was_signed_is_known_after_rollbacks_unsigned_uploads_and_a_restart(tmp_path: Path) -> None:
    record = Record(0, 1, ()).with_version(version(1), keep=3)
    record = record.with_version(replace(version(2), signed_by="alice"), keep=3, signed_at=SIGNED_AT)
    back = record.rolled_back()
    assert back is not None
    registry_in(tmp_path).put("f", back.with_version(version(3), keep=3))
    assert registry_in(tmp_path).record("f").signed_at == SIGNED_AT
    registry_in(tmp_path).put("f", record)
    assert registry_in(tmp_path).record("f").version.signed_by == "alice"


def test_a_record_from_before_there_were_signatures_loads(tmp_path: Path) -> None:
    registry_in(tmp_path).put("f", Record(0, 1, ()).with_version(version(1), keep=3))
    document = json.loads((tmp_path / "functions.json").read_bytes())
    assert "signed_at" not in document["f"]
    del document["f"]["versions"][0]["signed_by"]
    (tmp_path / "functions.json").write_text(json.dumps(document))
    record = registry_in(tmp_path).record("f")
    assert (record.signed_at, record.version.signed_by) == ("", "")


@pytest.mark.parametrize("signed_at", ["soon", 5, None])
def test_a_record_whose_time_of_signing_is_none_is_set_aside(tmp_path: Path, signed_at: object) -> None:
    registry_in(tmp_path).put("f", Record(0, 1, ()).with_version(version(1), keep=3, signed_at=SIGNED_AT))
    document = json.loads((tmp_path / "functions.json").read_bytes())
    document["f"]["signed_at"] = signed_at
    (tmp_path / "functions.json").write_text(json.dumps(document))
    assert registry_in(tmp_path).names() == []


def test_a_removed_function_is_not_found(tmp_path: Path) -> None:
    registry = registry_in(tmp_path)
    registry.put("f", Record(0, 1, ()).with_version(version(1), keep=3))
    registry.remove("f")
    assert registry_in(tmp_path).names() == []
    with pytest.raises(NotFound):
        registry.spec("f")
