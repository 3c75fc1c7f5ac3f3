import time


def main(world):
    for number in range(1_000_000):
        open(str(number), "w").close()
    time.sleep(60)
