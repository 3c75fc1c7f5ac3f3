def main(world):
    while True:
        pass
