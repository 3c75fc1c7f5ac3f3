"""Run by `python3 -m unittest` in this folder, or by pytest: main() without any server."""

import tempfile
import unittest
from pathlib import Path
from unittest import mock

from func import main


class Unavailable(Exception):
    pass


HOT = {"kitchen": {"hot": True, "since": "2026-01-05T12:00:00.000Z", "celsius": 31.25}}
FINE = {"kitchen": {"hot": False, "since": "2026-01-05T12:40:00.000Z", "celsius": 27.9}}
UNHEARD = {"kitchen": {"hot": False, "since": "2026-01-05T06:00:00.000Z", "celsius": 21.0}}


class MainTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.context = mock.Mock(state=Path(folder.name), Unavailable=Unavailable)
        self.context.seconds_left.return_value = 60.0

    def change(self, rooms):
        return main({"payload": rooms}, context=self.context)

    def published(self):
        return [call.args for call in self.context.publish.call_args_list]

    def test_it_answers_without_arguments(self):
        self.assertEqual(main(context=self.context), [])
        self.change(HOT)
        self.assertEqual(main(context=self.context), ["kitchen"])

    def test_people_and_the_fan_are_told_once_of_each_change(self):
        for rooms in (UNHEARD, HOT, HOT, UNHEARD, FINE, HOT, FINE):
            self.change(rooms)
        self.assertEqual(self.published(), [
            ("house/messages", "kitchen is too hot: 31.2 °C at 2026-01-05T12:00:00.000Z"),
            ("actuators/kitchen/fan", {"on": True, "since": "2026-01-05T12:00:00.000Z"}),
            ("house/messages", "kitchen is fine again: 27.9 °C at 2026-01-05T12:40:00.000Z"),
            ("actuators/kitchen/fan", {"on": False, "since": "2026-01-05T12:40:00.000Z"}),
        ])  # fmt: skip

    def test_an_alert_waits_for_a_broker_that_is_away(self):
        self.context.publish.side_effect = [Unavailable, None, None]
        with mock.patch("time.sleep"):
            self.assertEqual(len(self.change(HOT)), 1)
        self.context.publish.side_effect = Unavailable
        self.context.seconds_left.return_value = 5.0
        with self.assertRaises(Unavailable):
            self.change(FINE)
        self.context.publish.side_effect = None
        self.assertEqual(len(self.change(FINE)), 1)  # what was not told is told when it comes again


if __name__ == "__main__":
    unittest.main()
