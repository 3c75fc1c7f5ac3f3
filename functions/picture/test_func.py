"""Run by `python3 -m unittest` in this folder, or by pytest: main() without any server."""

import tempfile
import unittest
from pathlib import Path
from unittest import mock

from func import SAMPLE, main


def picture(width, height, *, light=0):
    """A dark picture whose left quarter has some light."""
    row = bytes([light]) * (width // 4) + bytes(width - width // 4)
    return b"P5\n# made by a test\n%d %d\n255\n" % (width, height) + row * height


class MainTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.context = mock.Mock(state=Path(folder.name))

    def see(self, data):
        event = {"payload": data, "wildcards": ["porch"], "received": "2026-01-05T12:00:00.000Z"}
        return main(event, context=self.context)

    def test_it_answers_without_arguments(self):
        self.assertEqual(main(context=self.context), {"width": 640, "height": 480, "brightness": 0.49, "motion": None})

    def test_motion_is_the_part_that_has_changed(self):
        first, same, lit = (self.see(picture(640, 480, light=light)) for light in (0, 0, 255))
        self.assertEqual([each["motion"] for each in (first, same, lit)], [None, 0.0, 0.25])
        self.assertEqual(lit["brightness"], 0.25)
        said = {"motion": 0.25, "time": "2026-01-05T12:00:00.000Z"}
        self.context.publish.assert_called_once_with("house/motion/porch", said)

    def test_pictures_of_any_size_are_comparable(self):
        self.see(picture(1296, 972))
        self.assertEqual(self.see(picture(2592, 1944))["motion"], 0.0)
        self.assertEqual(self.see(picture(67, 50))["motion"], 0.0)

    def test_what_is_no_picture_is_refused(self):
        for data in (b"", b"P6 64 48 255\n", SAMPLE[:-1], SAMPLE + b"\n", b"P5 8 8 255\n" + bytes(64)):
            with self.assertRaises(ValueError):
                self.see(data)


if __name__ == "__main__":
    unittest.main()
