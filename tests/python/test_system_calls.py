"""How many system calls the broker needs for a request: a number that a busy machine does not change.

What is recorded is what the steady path takes now. A new call on it is seen here before anybody measures it.
"""

from __future__ import annotations

import collections
import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import mapcap
from broker_case import BrokerCase

# In so many parts, of which the leanest counts: a client may have to rest in one, and something end in the background.
PARTS = 20
REQUESTS = 40
TOLERANCE = 0.25  # calls a request


class SystemCallsTest(BrokerCase):
    def setUp(self) -> None:
        if shutil.which("strace") is None:
            self.skipTest("strace is not installed")
        super().setUp()

    def counted(self, request) -> dict[str, float]:
        """Of all threads of the broker, for each request, by the call's name."""
        with tempfile.NamedTemporaryFile("r", suffix=".strace") as log:
            tracer = subprocess.Popen(
                ["strace", "-f", "-q", "-o", log.name, "-p", str(self.broker_process.pid)],
                stderr=subprocess.DEVNULL,
            )
            try:
                self.wait_until_traced()
                for _ in range(20):
                    request()  # Whatever is done once is done.
                ends = [os.path.getsize(log.name)]
                for _ in range(PARTS):
                    for _ in range(REQUESTS):
                        request()
                    time.sleep(0.02)
                    ends.append(os.path.getsize(log.name))
            finally:
                tracer.send_signal(signal.SIGINT)
                tracer.wait()
            parts = []
            for start, end in itertools.pairwise(ends):
                log.seek(start)
                names = re.findall(r"^\d+ +(\w+)\(", log.read(end - start), re.MULTILINE)
                parts.append({name: count / REQUESTS for name, count in collections.Counter(names).items()})
        return min(parts, key=lambda calls: sum(calls.values()))

    def wait_until_traced(self) -> None:
        status = f"/proc/{self.broker_process.pid}/task"
        for _ in range(600):
            tracers = set()
            for thread in os.listdir(status):
                with open(f"{status}/{thread}/status") as lines:
                    tracers.update(line.split()[1] for line in lines if line.startswith("TracerPid"))
            if "0" not in tracers:
                return
            time.sleep(0.1)
        self.fail("strace does not attach")

    def test_a_request_that_only_looks_takes_five(self) -> None:
        broker = self.connect()
        broker.create("py/looked-at", size=4096).close()
        calls = self.counted(lambda: broker.show("py/looked-at"))
        # recvmsg, sendmsg, one look at the thread's processor time, and one way through epoll.
        self.assertLessEqual(sum(calls.values()), 5 + TOLERANCE, calls)
        self.assertAlmostEqual(calls["sendmsg"], 1, delta=TOLERANCE, msg=str(calls))


if __name__ == "__main__":
    unittest.main()
