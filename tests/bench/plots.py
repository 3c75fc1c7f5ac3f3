"""Draws a run's curves: `python -m tests.bench.plots FINDINGS.json FOLDER`, where matplotlib is installed."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot

from tests.bench.findings import read_findings
from tests.bench.report import PLOTS

mpl.use("agg")
_SIZE_INCHES, _DPI = (8, 4.5), 110


def throughput(curves: dict[str, list[tuple[float, float]]], caption: str, file: Path) -> None:
    """Answers a second over requests in flight, both by powers."""
    figure, axes = pyplot.subplots(figsize=_SIZE_INCHES, layout="constrained")
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set(yscale="log", xlabel="requests in flight", ylabel="answers per second", title=caption)
    axes.set_xscale("log", base=2)
    levels = sorted({level for points in curves.values() for level, _ in points})
    axes.set_xticks(levels, [f"{level:g}" for level in levels])
    axes.minorticks_off()
    _finish(figure, axes, file)


def latency(curves: dict[str, list[tuple[float, float]]], caption: str, file: Path) -> None:
    """Milliseconds over percentiles, each nine after 90 as wide as the one before."""
    figure, axes = pyplot.subplots(figsize=_SIZE_INCHES, layout="constrained")
    for name, points in curves.items():
        axes.plot([1 / (1 - percent / 100) for percent, _ in points], [value for _, value in points], label=name)
    axes.set(xscale="log", yscale="log", xlabel="percentile", ylabel="milliseconds", title=caption)
    marks = (0, 50, 90, 99, 99.9, 99.99)
    axes.set_xticks([1 / (1 - mark / 100) for mark in marks], [f"{mark:g}" for mark in marks])
    axes.minorticks_off()
    _finish(figure, axes, file)


def _finish(figure: pyplot.Figure, axes: pyplot.Axes, file: Path) -> None:
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=_DPI, metadata={"Software": None})
    pyplot.close(figure)


def main() -> None:
    """Draw what there is."""
    findings, folder = read_findings(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
    for name, (file, caption) in PLOTS.items():
        if curves := findings.curves.get(name):
            (throughput if name == "throughput" else latency)(curves, caption, folder / file)


if __name__ == "__main__":
    main()
