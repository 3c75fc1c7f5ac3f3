import glob


def main(world):
    got = []
    for file in (world["passwords"], *glob.glob("/etc/mosquitto/*pass*"), "/etc/shadow"):
        try:
            with open(file, "rb") as opened:
                opened.read(1)
            got.append(file)
        except OSError:
            pass
    return got
