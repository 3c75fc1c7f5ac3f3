import time


def main(world):
    time.sleep(600)
