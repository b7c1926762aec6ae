"""How many system calls the library makes for a request: what a program pays beside what the broker does.

A number that a busy machine does not change: a call more on the steady path is seen here before anybody measures it. What
the broker makes is counted in test_system_calls.
"""

from __future__ import annotations

import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from broker_case import BrokerCase

REQUESTS = 50
TOLERANCE = 0.25  # calls a request: what an allocator or the interpreter does now and then

# A child's whole life: what is counted lies between two calls that nothing else makes.
PROGRAM = """
import os, sys, mapcap
with mapcap.connect(sys.argv[1]) as broker:
    broker.create("counted/one", size=1 << 20).close()
    once = {ONCE}
    for _ in range(20):
        once()
    os.sched_yield()
    for _ in range({REQUESTS}):
        once()
    os.sched_yield()
    broker.revoke("counted/one")
"""


class ClientSystemCallsTest(BrokerCase):
    def setUp(self) -> None:
        if shutil.which("strace") is None:
            self.skipTest("strace is not installed")
        super().setUp()

    def counted(self, once: str) -> dict[str, float]:
        """For each request, by the call's name."""
        program = PROGRAM.replace("{ONCE}", once).replace("{REQUESTS}", str(REQUESTS))
        with tempfile.NamedTemporaryFile("r", suffix=".strace") as log:
            # One arena and no garbage collector: what they do has nothing to do with requests.
            environment = dict(os.environ, MALLOC_ARENA_MAX="1")
            subprocess.run(
                ["strace", "-q", "-o", log.name, sys.executable, "-c", "import gc; gc.disable()\n" + program, self.socket],
                check=True,
                env=environment,
                timeout=240,
            )
            counted = log.read().split("sched_yield(")[1]
        names = re.findall(r"^(\w+)\(", counted, re.MULTILINE)
        return {name: count / REQUESTS for name, count in collections.Counter(names).items()}

    def assert_calls(self, calls: dict[str, float], most: int) -> None:
        # Whether the answer is there already when the library looks is the machine's.
        waits = calls.pop("recvmsg", 0) + calls.pop("poll", 0)
        self.assertLessEqual(waits, 3 + TOLERANCE, calls)
        self.assertLessEqual(sum(calls.values()), most + TOLERANCE, calls)

    def test_a_request_that_only_looks_takes_one_packet(self) -> None:
        calls = self.counted('lambda: broker.show("counted/one")')
        # sendmsg, and getpid: a fork must not share its parent's connection.
        self.assert_calls(calls, 2)

    def test_an_open_takes_what_its_mapping_does_and_no_more(self) -> None:
        calls = self.counted('lambda: broker.open("counted/one").close()')
        # The same, and Python's fstat, dup, mmap, munmap and two closes.
        self.assert_calls(calls, 8)


if __name__ == "__main__":
    unittest.main()
