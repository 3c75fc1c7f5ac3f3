"""Links whose followers would destroy what others own, when its folder is measured and cleared away."""

import os


def main(world):
    os.makedirs("a/b")
    for number, target in enumerate([*world["others"], "/etc", "/usr", ".."]):
        os.symlink(target, f"a/b/{number}")
    os.symlink("loop", "loop")
    os.mkfifo("pipe")
    for folder in ("a/b", "a"):
        os.chmod(folder, 0)
    return []
