"""Looks at a camera's pictures: how bright it is, and how much has moved since the picture before.

Takes PGM (P5), the plainest of grey pictures; `ffmpeg … -f image2pipe -c:v pgm -` makes one of anything. It looks at
3072 points of each, whatever its size: that takes milliseconds, and needs nothing but Python.
"""

from __future__ import annotations

import re
from typing import Any

COLUMNS, ROWS = 64, 48
MOVED = 30  # a point has moved that is so much brighter or darker, of 255
HEADER = re.compile(rb"P5\s(?:#[^\n]*\n)*\s*(\d{1,5})\s+(\d{1,5})\s+255\s")
SAMPLE = b"P5 640 480 255\n" + bytes(x * 255 // 639 for x in range(640)) * 480  # from black to white

Seen = dict[str, Any]


def main(event: dict[str, Any] | None = None, *, context: Any) -> Seen:
    """Called with each picture; returns its size, brightness and motion. Without one: of a picture of its own."""
    if event is None:
        return look(SAMPLE, before=b"")[0]
    (camera,) = event["wildcards"]
    file = context.state / f"{camera}.grid"
    seen, points = look(event["payload"], file.read_bytes() if file.exists() else b"")
    file.write_bytes(points)  # 3 KB; torn by a power cut it counts as none
    if seen["motion"] is not None and seen["motion"] >= 0.02:
        context.publish(f"house/motion/{camera}", {"motion": seen["motion"], "time": event["received"]})
    return {"camera": camera, **seen}


def look(picture: bytes, before: bytes) -> tuple[Seen, bytes]:
    """What is seen, and the points it was seen by; `before` are those of the last picture."""
    points = grid(picture)
    width, height = size(picture)
    moved = sum(abs(now - then) > MOVED for now, then in zip(points, before, strict=False))
    return {
        "width": width,
        "height": height,
        "brightness": round(sum(points) / len(points) / 255, 3),
        "motion": round(moved / len(points), 3) if len(before) == len(points) else None,
    }, points


def grid(picture: bytes) -> bytes:
    """Points of a picture, row by row, evenly spread: slices, which cost no loop over millions of bytes."""
    width, height = size(picture)
    pixels = memoryview(picture)[-width * height :]
    rows = (pixels[y * width : (y + 1) * width] for y in range(0, height - height % ROWS, height // ROWS))
    return b"".join(bytes(row[: width - width % COLUMNS : width // COLUMNS]) for row in rows)


def size(picture: bytes) -> tuple[int, int]:
    """Width and height; what is no such picture, or not all of one, is refused with a `ValueError`."""
    header = HEADER.match(picture[:1000])
    if header is None:
        raise ValueError("no PGM picture (P5, 255 levels)")
    width, height = int(header[1]), int(header[2])
    if width < COLUMNS or height < ROWS or len(picture) != header.end() + width * height:
        raise ValueError(f"a picture of {width} × {height} with {len(picture) - header.end()} pixels")
    return width, height
