"""The configuration, its password, data/, and what /proc tells of the server."""

import glob


def main(world):
    pid = world["server"]
    files = [*world["others"], *(f"/proc/{pid}/{name}" for name in ("environ", "mem", "maps", "cwd/x", "fd/0"))]
    got = glob.glob(f"{world['data']}/*")
    for file in files:
        try:
            with open(file, "rb") as opened:
                opened.read(1)
            got.append(file)
        except OSError:
            pass
    return got
