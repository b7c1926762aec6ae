"""`mapcap run --at`: every call that a program reads and writes files by, and what shells and Python do with it."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import unittest

from broker_case import BrokerCase

SIZE = 12288
LETTERS = bytes(ord("a") + number % 26 for number in range(SIZE))


class PathsTest(BrokerCase):
    def setUp(self) -> None:
        self.here = os.path.join(self.directory, self._testMethodName)
        os.mkdir(self.here)
        self.path = os.path.join(self.here, "region")
        self.name = "paths/" + self._testMethodName
        self.owner = self.connect()
        with self.owner.create(self.name, size=SIZE) as region:
            region.store(0, LETTERS)

    def run_under(self, *command: str, rights: str = "rw") -> subprocess.CompletedProcess[str]:
        at = f"{self.path}={self.name}:{rights}"
        return subprocess.run(
            [os.environ["MAPCAP"], "--socket", self.socket, "run", "--at", at, "--", *command],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=self.here,
        )

    def run_at(self, *command: str, rights: str = "rw") -> str:
        done = self.run_under(*command, rights=rights)
        self.assertEqual((done.returncode, done.stderr), (0, ""), f"{command}: {done.stdout}")
        return done.stdout

    def test_every_call_does_what_it_does_with_a_file(self) -> None:
        for program in os.environ["PATH_CALLS"].split(":"):
            self.run_at(program, self.path, self.here)
            with self.owner.open(self.name) as region:
                self.assertEqual(region.read(), LETTERS)

    def test_streams_of_cpp(self) -> None:
        self.run_at("sh", "-c", f"{os.environ['PATH_STREAMS']} region <region")

    def test_redirections_of_programs_that_use_streams(self) -> None:
        self.assertEqual(self.run_at("sh", "-c", "sort <region | wc -c"), f"{SIZE + 1}\n")  # It adds a newline.
        self.assertEqual(self.run_at("sh", "-c", "od -An -c -N4 <region"), "   a   b   c   d\n")
        self.assertEqual(self.run_at("sh", "-c", "head -c 3 /dev/stdin <region"), "abc")
        self.assertEqual(self.run_at("sh", "-c", "cat <region | head -c 3"), "abc")
        self.assertEqual(self.run_at("sh", "-c", "gzip -c region | gzip -d | wc -c"), f"{SIZE}\n")
        self.run_at("sh", "-c", "printf XYZ >region")
        with self.owner.open(self.name) as region:
            self.assertEqual(region.read(0, 4), b"XYZd")

    def test_what_a_child_of_python_closes_stays_open(self) -> None:
        program = (
            "import subprocess, sys\n"
            "file = open('region', 'rb', buffering=0)\n"
            "print(file.read(2), subprocess.run(['head', '-c', '3'], stdin=file, capture_output=True).stdout)\n"
            "file.seek(1)\n"
            "print(file.read(2), sys.stdin.read())\n"
        )
        said = self.run_at("sh", "-c", f'echo input | {sys.executable} -c "{program}"')
        self.assertEqual(said, "b'ab' b'cde'\nb'bc' input\n\n")

    def program(self, name: str, contents: bytes, mode: int = 0o755) -> str:
        path = os.path.join(self.here, name)
        with open(path, "wb") as file:
            file.write(contents)
        os.chmod(path, mode)
        return path

    def test_programs_into_which_nothing_can_be_preloaded_are_named(self) -> None:
        # An ELF file for x86-64 whose program headers name no interpreter, since there are none.
        header = b"\x7fELF\x02\x01\x01" + bytes(9)
        header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 0, 0, 0, 0)
        static = self.program("static", header)
        script = self.program("script", f"#!{static} -x\n".encode())
        with open("/bin/true", "rb") as file:
            set_uid = self.program("set-uid", file.read())
        os.chown(set_uid, 65534, 65534)
        os.chmod(set_uid, 0o4755)
        for program, named, why in (
            (static, static, "is statically linked"),
            (script, static, "is statically linked"),
            (set_uid, set_uid, "is set-uid"),
        ):
            done = self.run_under(program)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn(f"{named} {why}", done.stderr)
        self.assertEqual(self.run_under("no-such-program").returncode, 127)


if __name__ == "__main__":
    unittest.main()
