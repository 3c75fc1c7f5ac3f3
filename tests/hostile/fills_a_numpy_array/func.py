"""Numpy and threads have room in 128 MiB; what is beyond ends the worker."""

import threading

import numpy

done = []
threads = [threading.Thread(target=lambda: done.append(numpy.ones((100, 100)).sum())) for _ in range(16)]
for each in threads:
    each.start()
for each in threads:
    each.join()
assert done == [10_000.0] * 16


def main(world):
    return float(numpy.ones((20_000, 20_000)).sum())
