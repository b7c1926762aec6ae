"""A real mapcapd in a directory of the test's own, for unittest."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import unittest

import mapcap

POLICY = """
[pool.dram]
backing = "memory"
capacity = "256M"
seals = ["revocable", "sealed"]

[[rule]]
any = true

[[rule]]
user = 0
verbs = ["shutdown", "endpoint"]
"""


class BrokerCase(unittest.TestCase):
    """Starts a broker once a class; what a test leaves behind ends with it."""

    @classmethod
    def setUpClass(cls) -> None:
        if os.geteuid() != 0:
            raise unittest.SkipTest("a broker needs root")
        cls.directory = tempfile.mkdtemp(prefix="mapcap-python-")
        os.chmod(cls.directory, 0o755)
        cls.socket = os.path.join(cls.directory, "mapcap.sock")
        policy = os.path.join(cls.directory, "policy.toml")
        with open(policy, "w", encoding="utf-8") as file:
            file.write(POLICY)
        cls.log = open(os.path.join(cls.directory, "log"), "wb")  # noqa: SIM115 (closed in tearDownClass)
        command = [
            os.environ["MAPCAPD"],
            "--policy",
            policy,
            "--socket",
            cls.socket,
            "--state",
            os.path.join(cls.directory, "state"),
        ]
        cls.broker_process = subprocess.Popen(command, stderr=cls.log, stdout=cls.log)
        try:
            mapcap.connect(cls.socket, wait=60.0).close()
        except BaseException:
            cls.broker_process.kill()
            cls.tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls) -> None:
        if cls.broker_process.poll() is None:
            # Regions would live on with their keeper, which is what users want and tests do not.
            with mapcap.connect(cls.socket) as broker:
                broker.shutdown(end_regions=True)
        cls.broker_process.wait(timeout=60)
        cls.log.close()
        shutil.rmtree(cls.directory)

    def connect(self) -> mapcap.Broker:
        broker = mapcap.connect(self.socket)
        self.addCleanup(broker.close)
        return broker

    def until(self, condition, what: str) -> None:
        """Waits for what will be so; a machine may be busy."""
        end = time.monotonic() + 60
        while not condition():
            if time.monotonic() > end:
                self.fail(f"still not so after a minute: {what}")
            time.sleep(0.01)


def open_descriptors() -> int:
    """Of this process, but for the one that lists them."""
    return len(os.listdir("/proc/self/fd")) - 1
