"""Run by `python3 -m unittest` in this folder, or by pytest, where numpy is installed: main() without any server."""

import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from func import main

NOISE = np.random.default_rng(1)


def batch(*parts, machine="washer", events=4):
    """Measurements of so many Hz and g each, and some noise."""
    seconds = np.arange(256) / 256
    g = sum(strength * np.sin(2 * np.pi * hz * seconds) for hz, strength in parts)
    return [
        {"wildcards": [machine], "payload": {"hz": 256, "g": (g + NOISE.normal(0, 0.01, 256)).round(4).tolist()}}
        for _ in range(events)
    ]


class MainTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.context = SimpleNamespace(state=Path(folder.name))

    def test_it_answers_without_arguments(self):
        (verdict,) = main(context=self.context)
        self.assertEqual((verdict["hz"], verdict["unusual_hz"]), (14.0, None))

    def test_it_learns_what_is_usual_and_hears_what_is_not(self):
        for number in range(8):
            (verdict,) = main(batch((14, 0.5)), context=self.context)
            self.assertEqual((verdict["hz"], verdict["unusual_hz"]), (14.0, None if number < 5 else []))
        for _ in range(20):  # and does not get used to it
            (verdict,) = main(batch((14, 0.5), (90, 0.1)), context=self.context)
            self.assertIn(90.0, verdict["unusual_hz"])
        self.assertEqual(main(batch((14, 0.5)), context=self.context)[0]["unusual_hz"], [])

    def test_machines_of_one_batch_are_told_apart(self):
        verdicts = main(batch((14, 0.5)) + batch((50, 0.5), machine="pump"), context=self.context)
        self.assertEqual([(each["machine"], each["hz"]) for each in verdicts], [("washer", 14.0), ("pump", 50.0)])

    def test_what_is_no_measurement_is_refused(self):
        for payload in ({"hz": 256, "g": [0.1]}, {"hz": 0, "g": [0.1]}, {"hz": 2, "g": [[1, 2], [3, 4]]}):
            with self.assertRaises(ValueError):
                main([{"wildcards": ["washer"], "payload": payload}], context=self.context)


if __name__ == "__main__":
    unittest.main()
