import time


def main(world):
    with open("/tmp/full", "wb") as file:
        for _ in range(1024):
            file.write(bytes(1 << 20))
    time.sleep(60)
