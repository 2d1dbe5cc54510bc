import unittest

import greeting


class Greeting(unittest.TestCase):
    def test_greets(self):
        self.assertEqual(greeting.greet("you"), "hello you")
