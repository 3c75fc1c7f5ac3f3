import os


def main(world):
    got = []
    for folder in (world["good"], world["data"], f"{world['good']}/state"):
        try:
            with open(os.path.join(folder, "planted"), "w"):
                got.append(folder)
            os.unlink(os.path.join(folder, "planted"))
        except OSError:
            pass
    if os.path.basename(world["good"]) in os.listdir(world["functions"]):
        got.append("a look at others")
    return got
