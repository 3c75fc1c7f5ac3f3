"""Listens to a machine by its vibration: the spectrum of what a batch of measurements says, beside the usual one.

A worn bearing is heard at a frequency of its own, long before it is loud. What is usual it learns by itself.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

FEWEST = 5  # batches of a machine before the first verdict
UNUSUAL = 4.0  # times as strong as usual
BAND_HZ = 4.0
WEIGHT = 0.1  # of the newest batch in what is usual

Verdict = dict[str, Any]


def main(events: list[dict[str, Any]] | None = None, *, context: Any) -> list[Verdict]:
    """Called with a batch of measurements; returns a verdict for each machine. Without one: on a hum of its own."""
    if events is None:
        hum = np.sin(2 * np.pi * 14 * np.arange(1024) / 256)
        return [{"machine": "none", **judge(*spectrum(hum, 256.0), usual=None)}]
    measured: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        measured.setdefault(event["wildcards"][0], []).append(event["payload"])
    return [{"machine": machine, **listen(payloads, context.state / f"{machine}.npy")} for machine, payloads in
            measured.items()]  # fmt: skip


def listen(payloads: list[dict[str, Any]], file: Path) -> Verdict:
    """Judge what a machine has said in a batch, then learn from it; `file` is what is usual for it."""
    bands = [spectrum(np.asarray(payload["g"], float), float(payload["hz"])) for payload in payloads]
    levels = np.mean([level for _, level in bands], axis=0)
    usual = remembered(file, len(levels))
    verdict = judge(bands[0][0], levels, None if usual is None or usual[0] < FEWEST else usual[1:])
    if not verdict["unusual_hz"]:  # a fault must not become usual
        learned = levels if usual is None else usual[1:] + WEIGHT * (levels - usual[1:])
        batches = 1 if usual is None else usual[0] + 1
        remember(file, np.concatenate(([batches], learned)))
    return verdict


def spectrum(g: Any, hz: float) -> tuple[Any, Any]:
    """The middle of each band in Hz, and how strong it is in g; of at least a second of measurements."""
    if g.ndim != 1 or not 1 <= hz <= len(g) or not np.isfinite(g).all():
        raise ValueError('a measurement is {"hz": measurements in a second, "g": [at least so many of them]}')
    window = np.hanning(len(g))
    power = np.abs(np.fft.rfft((g - g.mean()) * window) / window.sum()) ** 2 * 2
    band = (np.fft.rfftfreq(len(g), 1 / hz) // BAND_HZ).astype(int)
    levels = np.sqrt(np.bincount(band, weights=power))
    return (np.arange(len(levels)) + 0.5) * BAND_HZ, levels


def judge(middles: Any, levels: Any, usual: Any) -> Verdict:
    """The strongest band, and those that are much stronger than usual; None while it is learning."""
    unusual = None if usual is None else middles[levels > UNUSUAL * np.maximum(usual, np.median(usual))].tolist()
    strongest = int(np.argmax(levels))
    return {"hz": float(middles[strongest]), "g": round(float(levels[strongest]), 3), "unusual_hz": unusual}


def remembered(file: Path, bands: int) -> Any:
    """How many batches were learned from, and the usual level of each band; None at first."""
    with contextlib.suppress(OSError, ValueError):  # none yet, or spoiled by a power cut
        usual = np.load(file)
        return usual if len(usual) == bands + 1 else None
    return None


def remember(file: Path, usual: Any) -> None:
    """Written beside and then renamed, so that there is a whole file at every moment."""
    beside = file.with_suffix(".new")
    with beside.open("wb") as out:
        np.save(out, usual)
    beside.replace(file)
