"""Run by `python3 -m unittest` in this folder, or by pytest: main() without any server."""

import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

from func import main


class MainTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.context = SimpleNamespace(state=Path(folder.name))

    def read(self, celsius, minute, room="kitchen"):
        payload = {"celsius": celsius, "time": f"2026-01-05T12:{minute:02}:00Z"}
        return main({"payload": payload, "wildcards": [room]}, context=self.context)

    def test_it_answers_without_arguments(self):
        self.assertIsNone(main(context=self.context))
        said = self.read(21.0, 0)
        self.assertEqual(main(context=self.context), said)

    def test_a_wild_reading_is_outvoted(self):
        said = [
            self.read(celsius, minute)["celsius"] for minute, celsius in enumerate((21.0, 21.2, 85.0, 21.1, -127.0))
        ]
        self.assertEqual(said, [21.0, 21.1, 21.2, 21.15, 21.1])

    def test_what_is_delivered_again_says_the_same_again_and_counts_once(self):
        first, second = self.read(20.0, 0), self.read(22.0, 1)
        self.assertEqual([self.read(20.0, 0), self.read(22.0, 1)], [first, second])
        self.assertEqual(self.read(30.0, 2)["celsius"], 22.0)

    def test_a_bare_number_takes_the_time_at_which_it_came(self):
        event = {"payload": 21.5, "wildcards": ["attic"], "received": "2026-01-05T13:00:00+01:00"}
        said = main(event, context=self.context)
        self.assertEqual(said, {"room": "attic", "celsius": 21.5, "time": "2026-01-05T12:00:00.000Z"})

    def test_what_is_no_temperature_is_refused(self):
        for payload in (None, "warm", True, -300, {"celsius": None}):
            with self.assertRaises(ValueError):
                main(
                    {"payload": payload, "wildcards": ["attic"], "received": "2026-01-05T12:00:00Z"},
                    context=self.context,
                )


if __name__ == "__main__":
    unittest.main()
