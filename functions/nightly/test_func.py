"""Run by `python3 -m unittest` in this folder, or by pytest: main() without any server."""

import tempfile
import unittest
from pathlib import Path
from unittest import mock

from func import main


def reading(celsius, time, room="kitchen"):
    return {"payload": {"room": room, "celsius": celsius, "time": time}}


def night(day):
    return {"schedule": "5 0 * * * Europe/Berlin", "time": f"{day}T23:05:00.000Z"}


class MainTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.context = mock.Mock(state=Path(folder.name))

    def test_it_answers_without_arguments(self):
        self.assertIsNone(main(context=self.context))
        main([reading(21.0, "2026-01-05T12:00:00.000Z")], context=self.context)
        room = {"readings": 1, "mean_c": 21.0, "low_c": 21.0, "high_c": 21.0}
        self.assertEqual(main(context=self.context), {"day": "2026-01-05", "rooms": {"kitchen": room}})
        self.context.publish.assert_not_called()

    def test_each_reading_counts_once_however_often_it_comes(self):
        noon, later = reading(21.0, "2026-01-05T12:00:00.000Z"), reading(23.0, "2026-01-05T12:05:00.000Z")
        counts = [main(events, context=self.context) for events in ([noon, noon], [later, noon])]
        self.assertEqual(counts, [1, 1])

    def test_each_day_that_is_over_there_is_told_once(self):
        times = (
            "2026-01-04T22:59:00.000Z",
            "2026-01-04T23:00:00.000Z",
            "2026-01-05T22:59:00.000Z",
            "2026-01-05T23:01:00.000Z",
        )
        main([reading(celsius, time) for celsius, time in zip((10, 20, 24, 30), times)], context=self.context)
        told = main(night("2026-01-05"), context=self.context)
        self.assertEqual([(each["day"], each["rooms"]["kitchen"]["mean_c"]) for each in told],
                         [("2026-01-04", 10.0), ("2026-01-05", 22.0)])  # fmt: skip
        self.assertEqual(main(night("2026-01-05"), context=self.context), [])
        self.assertEqual(self.context.publish.call_args_list, [
            mock.call("house/summary", each, qos=1, retain=True) for each in told
        ])  # fmt: skip


if __name__ == "__main__":
    unittest.main()
