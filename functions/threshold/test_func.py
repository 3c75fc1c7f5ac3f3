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
        payload = {"room": room, "celsius": celsius, "time": f"2026-01-05T12:{minute:02}:00.000Z"}
        return main({"payload": payload}, context=self.context)[room]["hot"]

    def test_it_answers_without_arguments(self):
        self.assertEqual(main(context=self.context), {})

    def test_between_the_two_thresholds_it_stays_as_it_is(self):
        warmth = (29.9, 30.0, 29.0, 28.1, 28.0, 29.0, 29.9, 31.0)
        hot = [self.read(celsius, minute) for minute, celsius in enumerate(warmth)]
        self.assertEqual(hot, [False, True, True, True, False, False, False, True])

    def test_the_result_is_the_same_until_a_room_changes(self):
        self.read(31.0, 0)
        before = main(context=self.context)
        self.read(32.0, 1)
        self.assertEqual(main(context=self.context), before)
        self.read(20.0, 1, room="attic")
        self.assertEqual({room: each["hot"] for room, each in main(context=self.context).items()},
                         {"kitchen": True, "attic": False})  # fmt: skip

    def test_what_is_delivered_again_changes_nothing(self):
        warmth = [(31.0, 0), (32.0, 1), (27.0, 2), (26.0, 3)]
        for celsius, minute in warmth:
            self.read(celsius, minute)
        before = main(context=self.context)
        self.assertEqual([self.read(celsius, minute) for celsius, minute in warmth], [False] * 4)
        self.assertEqual(main(context=self.context), before)


if __name__ == "__main__":
    unittest.main()
