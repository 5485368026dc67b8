import unittest


class Sums(unittest.TestCase):
    def test_sum(self):
        self.assertEqual(2 + 2, 4)
