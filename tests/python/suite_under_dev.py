"""Somebody's unit tests, as `mapcap dev -- python3 -m unittest suite_under_dev` runs them."""

from __future__ import annotations

import mmap
import unittest

import mapcap


class CacheTest(unittest.TestCase):
    def setUp(self) -> None:
        self.broker = mapcap.connect()
        self.addCleanup(self.broker.close)

    def test_what_one_writes_another_reads(self) -> None:
        with self.broker.create("suite/shared", size=8192) as region:
            region[0:5] = b"hello"
            with self.broker.open("suite/shared") as other:
                self.assertEqual(other[0:5], b"hello")
                with self.assertRaises(TypeError):
                    other[0:5] = b"olleh"

    def test_a_revoke_ends_a_read(self) -> None:
        with self.broker.create("suite/revoked", size=mmap.PAGESIZE, seal="revocable") as region:
            self.broker.revoke("suite/revoked")
            with self.assertRaises(mapcap.Revoked):
                region.read(0, 1)

    def test_names_are_anybodys(self) -> None:
        self.broker.reserve("somebody/else", size=1, lifetime="persistent")
        self.assertEqual([found.name for found in self.broker.list("somebody/*")], ["somebody/else"])
        self.broker.revoke("somebody/else")
