"""Settings that were read again: what may change is taken over, and the rest waits for a restart."""

from __future__ import annotations

from pathlib import Path

from tinyfaas import config
from tinyfaas.config import Config
from tinyfaas.reload import merged


def written(folder: Path, text: str) -> Config:
    """The configuration of this text."""
    file = folder / "tinyfaas.toml"
    file.write_text(text)
    return config.load(file, {})


def test_what_may_change_while_the_server_runs_is_taken_over(tmp_path: Path) -> None:
    old = written(tmp_path, "drain_s = 1\n[limits]\ntimeout_s = 1\n")
    reload = merged(old, written(tmp_path, 'drain_s = 2\n[limits]\ntimeout_s = 3\n[log]\nlevels = ["pool=debug"]\n'))
    assert reload.applied == ["drain_s", "limits.timeout_s", "log.levels"]
    assert reload.restart == []
    assert (reload.config.drain_s, reload.config.limits.timeout_s, reload.config.log.levels) == (2, 3, ("pool=debug",))
    assert old.drain_s == 1  # what is under way may still look at it


def test_what_needs_a_restart_stays_as_it_was(tmp_path: Path) -> None:
    old = written(tmp_path, "workers = 2\n[queue]\nmax_requests = 10\nmax_bytes = 70000\n")
    reload = merged(old, written(tmp_path, "workers = 3\n[queue]\nmax_requests = 20\nmax_bytes = 80000\n"))
    assert reload.applied == ["queue.max_bytes"]
    assert reload.restart == ["workers", "queue.max_requests"]
    assert (reload.config.workers, reload.config.queue.max_requests, reload.config.queue.max_bytes) == (2, 10, 80_000)


def test_a_setting_that_is_gone_has_its_default_again_and_says_so(tmp_path: Path) -> None:
    old = written(tmp_path, '[log]\nlevel = "debug"\n')
    reload = merged(old, written(tmp_path, ""))
    assert reload.config.log.level == "info"
    assert ("log.level", "info", "default") in list(config.effective(reload.config))


def test_where_nothing_changed_nothing_is_said(tmp_path: Path) -> None:
    old = written(tmp_path, '[log]\nlevel = "debug"\n')
    reload = merged(old, written(tmp_path, '[log]\nlevel = "debug"\n'))
    assert (reload.config, reload.applied, reload.restart) == (old, [], [])
