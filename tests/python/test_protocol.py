"""The client that was written from docs/protocol.md alone, and the bytes that the document shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import unittest

from broker_case import BrokerCase

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "examples"))

import protocol_client  # noqa: E402 (found by the line above)


class ProtocolTest(BrokerCase):
    def test_the_example_creates_opens_maps_revokes_and_is_told(self) -> None:
        done = subprocess.run(
            [sys.executable, os.path.join(ROOT, "examples", "protocol_client.py"), self.socket, "protocol/region"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        lines = done.stdout.splitlines()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(lines[0].startswith("connected to mapcapd "), lines)
        self.assertEqual(
            lines[1:],
            ["created protocol/region: 12288 bytes", "read hello", "told: protocol/region revoked"],
        )

    def test_an_error_is_told_with_its_code_and_sentence(self) -> None:
        client = protocol_client.Connection(self.socket)
        with self.assertRaises(protocol_client.Refused) as caught:
            client.open("protocol/nothing")
        self.assertIn("protocol/nothing", str(caught.exception))
        self.assertTrue(str(caught.exception).startswith("4: "), caught.exception)

    def test_the_document_shows_the_bytes_that_are_sent(self) -> None:
        with open(os.path.join(ROOT, "docs", "protocol.md"), encoding="utf-8") as file:
            words = re.findall(r"^    ((?:[0-9a-f]{2} ){7}[0-9a-f]{2})", file.read(), re.MULTILINE)
        Struct, encode = protocol_client.Struct, protocol_client.encode
        hello = Struct(16, 2).put("I", 0, 1).put("Q", 64, 1).point(0, "demo")
        sent = encode(Struct(16, 1).put("Q", 0, 1).put("H", 64, protocol_client.HELLO).point(0, hello))
        opening = Struct(8, 1).point(0, "a/b")
        sent += encode(Struct(16, 1).put("Q", 0, 2).put("H", 64, protocol_client.OPEN).point(0, opening))
        self.assertEqual(bytes.fromhex("".join(words)), sent)


if __name__ == "__main__":
    unittest.main()
