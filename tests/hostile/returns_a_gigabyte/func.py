def main(world):
    return "x" * (1 << 30)
