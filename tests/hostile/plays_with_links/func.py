"""Links out of its folder, to itself, in place of its folder, and hard links: what looks in or clears away may follow."""

import os


def main(world):
    got = []
    for number, target in enumerate([*world["others"], "/", "/etc", "."]):
        os.symlink(target, f"link{number}")
    os.symlink("loop", "loop")
    os.mkfifo("pipe")
    for number, target in enumerate([*world["others"], "/etc/passwd"]):
        try:
            os.link(target, f"hard{number}")
            got.append(f"a hard link to {target}")
        except OSError:
            pass
    for number in range(len(world["others"])):
        try:
            os.listdir(f"link{number}")
            got.append(f"a look through link{number}")
        except NotADirectoryError:
            got.append(f"a look through link{number}")
        except OSError:
            pass
    return got
