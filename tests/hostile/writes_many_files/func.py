import time


def main(world):
    for number in range(1000):
        with open(str(number), "wb") as file:
            file.write(bytes(1 << 20))
        time.sleep(0.01)
