def main(world):
    held = []
    while True:
        held.append(open("/dev/null"))
