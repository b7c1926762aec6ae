"""What the package promises, against a real broker."""

from __future__ import annotations

import array
import asyncio
import os
import signal
import subprocess
import sys
import threading
import unittest

import mapcap
from broker_case import BrokerCase, open_descriptors

MIB = 1 << 20


class RegionTest(BrokerCase):
    def test_what_is_stored_is_read_by_whoever_opens(self) -> None:
        broker = self.connect()
        with broker.create("py/w", size=MIB, access="rw") as region:
            region[0:5] = b"hello"
            self.assertEqual(region.info.name, "py/w")
            self.assertEqual(len(region), MIB)
            with broker.open("py/w") as reader:
                self.assertEqual(bytes(memoryview(reader)[:5]), b"hello")
                self.assertEqual(reader.access, "ro")
            self.assertEqual(region.persist(), "none")
            self.assertEqual(region.copy_persist(8, b"copied"), "none")
            self.assertEqual(region.fill_persist(14, 0x2E, 2), "none")
            self.assertEqual(region.read(8, 8), b"copied..")
            with self.assertRaises(mapcap.Invalid):
                region.copy_persist(MIB, b"x")
            with self.assertRaises(ValueError):
                region.fill_persist(0, 256, 1)

    def test_a_region_is_a_buffer_without_a_copy(self) -> None:
        with self.connect().create("py/buffer", size=4096) as region:
            numbers = memoryview(region).cast("Q")
            numbers[7] = 42
            self.assertEqual(region.read(56, 8), (42).to_bytes(8, sys.byteorder))
            with self.assertRaises(BufferError):
                region.close()
            numbers.release()

    def test_numpy_reads_the_region_itself(self) -> None:
        try:
            import numpy
        except ImportError:
            self.skipTest("numpy is not installed (python3-numpy)")
        with self.connect().create("py/numpy", size=4096) as region:
            view = numpy.frombuffer(region, dtype="u4")
            region.store(8, array.array("I", [7]).tobytes())
            self.assertEqual(int(view[2]), 7)
            view[3] = 9
            self.assertEqual(region.read(12, 4), array.array("I", [9]).tobytes())
            del view

    def test_read_only_is_read_only_in_python_too(self) -> None:
        broker = self.connect()
        with broker.create("py/ro", size=4096), broker.open("py/ro") as region:
            with self.assertRaises(TypeError):
                region[0:1] = b"x"
            self.assertTrue(memoryview(region).readonly)
            with self.assertRaises(mapcap.Denied) as caught:
                region.store(0, b"x")
            self.assertEqual(caught.exception.code, "denied")

    def test_ranges_outside_are_refused(self) -> None:
        with self.connect().create("py/range", size=4096) as region:
            with self.assertRaises(mapcap.Invalid):
                region.read(4095, 2)
            with self.assertRaises(mapcap.Invalid):
                region.persist(4096, 1)
            with self.assertRaises(ValueError):
                region.read(-1, 1)

    def test_a_closed_region_says_so(self) -> None:
        region = self.connect().create("py/closed", size=4096)
        region.close()
        region.close()
        with self.assertRaises(ValueError):
            region.read()
        self.assertIn("closed", repr(region))

    def test_a_clone_of_a_file_is_mapped(self) -> None:
        broker = self.connect()
        with open(os.path.join(self.directory, "file"), "w+b") as file:
            file.write(b"of a file" + bytes(4096))
            file.flush()
            try:
                clone = broker.clone(file.fileno(), "ro")
            except mapcap.Unsupported as reason:
                self.skipTest(str(reason))
            with clone:
                self.assertEqual(clone.read(0, 9), b"of a file")

    def test_a_grant_describes_itself(self) -> None:
        with self.connect().create("py/told", size=4096) as region:
            told = mapcap.describe(region.fileno())
            if told is None:
                self.skipTest(f"{region.info.confinement} grants do not describe themselves")
            self.assertEqual((told.name, told.size, told.access), ("py/told", 4096, "rw"))

    def test_an_adopted_descriptor_is_taken_over_only_when_it_can_be_mapped(self) -> None:
        with self.connect().create("py/adopt", size=4096) as region:
            region[0:2] = b"ok"
            with mapcap.adopt(os.dup(region.fileno())) as same:
                self.assertEqual(same.read(0, 2), b"ok")
        reading, writing = os.pipe()
        with self.assertRaises(mapcap.Error):
            mapcap.adopt(reading)
        os.close(reading)
        os.close(writing)


class LifeTest(BrokerCase):
    def test_errors_have_their_class_code_and_sentence(self) -> None:
        broker = self.connect()
        with self.assertRaises(mapcap.NotFound) as caught:
            broker.open("py/nothing")
        self.assertEqual(caught.exception.code, "not_found")
        self.assertIn("py/nothing", str(caught.exception))
        with self.assertRaises(mapcap.PoolFull) as full:
            broker.create("py/huge", size=1 << 40)
        self.assertIn("asked", full.exception.details)
        with self.assertRaises(mapcap.Unavailable):
            mapcap.connect(os.path.join(self.directory, "nobody.sock"))
        with self.assertRaises(ValueError):
            broker.create("py/w", size=1, access="rwx")  # type: ignore[arg-type]

    def test_many_opens_and_closes_leave_no_descriptor(self) -> None:
        broker = self.connect()
        rounds = int(os.environ.get("MAPCAP_TEST_ROUNDS", "10000"))
        with broker.create("py/often", size=4096):
            broker.open("py/often").close()
            before = open_descriptors()
            for _ in range(rounds):
                broker.open("py/often").close()
            self.assertEqual(open_descriptors(), before)

    def test_a_revoke_in_the_middle_of_reads_raises(self) -> None:
        broker, other = self.connect(), self.connect()
        region = broker.create("py/revoked", size=MIB, seal="revocable")
        self.addCleanup(region.close)
        with self.assertRaises(mapcap.Revoked) as caught:
            for turn in range(1_000_000):
                region.read(0, 65536)
                if turn == 10:
                    other.revoke("py/revoked")
        self.assertEqual(caught.exception.code, "revoked")

    def test_outside_the_guard_a_revoke_ends_the_process_by_sigbus(self) -> None:
        child = (
            "import mapcap, sys\n"
            "broker = mapcap.connect(sys.argv[1])\n"
            "region = broker.create('py/sigbus', size=1 << 20, seal='revocable')\n"
            "region[0:1] = b'x'\n"
            "mapcap.connect(sys.argv[1]).revoke('py/sigbus')\n"
            "print('revoked', flush=True)\n"
            "region[0]\n"
            "print('still here', flush=True)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", child, self.socket], capture_output=True, text=True, timeout=120, check=False
        )
        self.assertEqual(done.stdout, "revoked\n", done.stderr)
        self.assertEqual(done.returncode, -signal.SIGBUS)

    def test_threads_share_a_broker(self) -> None:
        broker = self.connect()
        wrong: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for turn in range(50):
                    with broker.create(f"py/thread{number}", size=4096) as region:
                        region.store(0, bytes([turn]))
                        with broker.open(f"py/thread{number}") as reader:
                            assert reader.read(0, 1) == bytes([turn])
                    broker.revoke(f"py/thread{number}")
                    try:
                        broker.open(f"py/none{number}")
                    except mapcap.NotFound as error:
                        assert f"py/none{number}" in str(error)
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    def test_a_forked_child_shares_the_memory_and_connects_afresh(self) -> None:
        broker = self.connect()
        with broker.create("py/fork", size=4096) as region:
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    region.store(0, b"child")
                    with mapcap.connect(self.socket) as own, own.open("py/fork") as mine:
                        status = 0 if mine.read(0, 5) == b"child" else 2
                finally:
                    os._exit(status)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
            self.assertEqual(region.read(0, 5), b"child")

    def test_notices_come_in_asyncio(self) -> None:
        broker, owner = self.connect(), self.connect()
        owner.create("py/notice", size=4096).close()
        reader = broker.open("py/notice")
        self.addCleanup(reader.close)

        async def first() -> mapcap.Notice:
            loop = asyncio.get_running_loop()
            revoking = loop.run_in_executor(None, owner.revoke, "py/notice")
            async for notice in broker.notices():
                if notice.kind == "revoked":
                    await revoking
                    return notice
            raise AssertionError("the notices ended")

        told = asyncio.run(asyncio.wait_for(first(), 60))
        self.assertEqual(told.name, "py/notice")

    def test_regions_are_listed_shown_renewed_and_revoked(self) -> None:
        broker = self.connect()
        broker.reserve("py/listed/a", size=4096, ttl=3600, mode=0o640)
        with broker.open("py/listed/a"):
            self.assertEqual([one.name for one in broker.list("py/listed/*")], ["py/listed/a"])
            info, holders = broker.show("py/listed/a")
            self.assertEqual((info.lifetime, info.mode, info.state), ("ttl", 0o640, "live"))
            self.assertLessEqual(info.remaining or 0, 3600)
            if info.confinement == "clone":
                self.assertEqual([(one.uid, one.access, one.count) for one in holders], [(os.getuid(), "ro", 1)])
        self.assertEqual(broker.renew("py/listed/a", 7200).ttl, 7200)
        broker.revoke("py/listed/a")
        # The name is free at once; the region stays listed until the kernel has let go of the last grant.
        self.until(lambda: not broker.list("py/listed/*"), "the revoked region is gone")
        with self.assertRaises(mapcap.NotFound):
            broker.open("py/listed/a")

    def test_holders_are_told_with_where_they_ran(self) -> None:
        roots = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
        root = next((one for one in roots if os.access(f"{one}/cgroup.procs", os.W_OK)), None)
        if root is None:
            self.skipTest("no cgroup can be made here")
        group = f"/mapcap-python-{os.getpid()}"
        os.mkdir(root + group)
        self.addCleanup(os.rmdir, root + group)
        program = (
            "import sys, mapcap; region = mapcap.connect(sys.argv[1]).create('py/placed', size=4096)\n"
            "print('holds', flush=True); sys.stdin.read()"
        )
        script = f'echo $$ > {root}{group}/cgroup.procs && exec "$@"'
        with subprocess.Popen(
            ["sh", "-c", script, "sh", sys.executable, "-c", program, self.socket],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdin is not None and child.stdout is not None
            self.assertEqual(child.stdout.readline(), "holds\n")
            info, holders = self.connect().show("py/placed")
            child.stdin.close()
        if info.confinement == "clone":
            self.assertEqual([(one.unit, one.container, one.cgroup) for one in holders], [("", "", group)])

    def test_a_published_region_says_so_and_is_written_no_more(self) -> None:
        broker = self.connect()
        with broker.create("py/published", size=4096) as region:
            memoryview(region)[:8] = b"for good"
            with self.assertRaises((mapcap.Busy, mapcap.Unsupported)):
                broker.publish("py/published")
        try:
            info = broker.publish("py/published", within=60)
        except mapcap.Unsupported as reason:
            self.skipTest(str(reason))
        assert info.published is not None
        with broker.open("py/published") as region:
            self.assertEqual(region.read(0, 8), b"for good")
            told = mapcap.describe(region.fileno())
            assert told is not None
            self.assertEqual(told.published, info.published)
        with self.assertRaises(mapcap.Denied):
            broker.open("py/published", "rw")

    def test_pools_and_quotas_are_told(self) -> None:
        broker = self.connect()
        (pool,) = broker.pools()
        self.assertEqual((pool.name, pool.backing, pool.capacity), ("dram", "memory", 256 * MIB))
        broker.quota_set("user", 4242, mapcap.Amounts(bytes=MIB))
        (slot,) = [one for one in broker.quota() if one.id == 4242 and one.subject == "user"]
        self.assertEqual((slot.limits.bytes, slot.overridden), (MIB, True))
        broker.quota_clear("user", 4242)

    def test_the_broker_tells_how_it_is_and_what_a_shutdown_would_end(self) -> None:
        broker = self.connect()
        broker.reserve("py/status", size=4096)
        status = broker.status()
        self.assertEqual(status.pid, self.broker_process.pid)
        self.assertGreaterEqual(status.regions["live"], 1)
        self.assertEqual((status.unguarded, status.unguarded_regions, status.ledger_trouble), (0, (), ""))
        self.assertTrue(status.keeper.serving)
        self.assertGreaterEqual(status.keeper.held, 1)
        self.assertGreaterEqual((status.keeper.blanks, status.keeper.blanks_used), (0, 0))
        self.assertEqual((status.keeper.sockets, status.keeper.last_end), (0, ""))
        self.assertIsNone(status.store)
        would = broker.shutdown(end_regions=True, only_tell=True)
        self.assertGreaterEqual(would.regions, 1)
        self.assertEqual((would.users, would.lasting), (1, 0))
        broker.revoke("py/status")

    def test_a_grant_is_inherited(self) -> None:
        broker = self.connect()
        with broker.create("py/heir", size=4096, lifetime="persistent") as region:
            region[0:4] = b"heir"
        child = "import mapcap; print(mapcap.inherited('heir').read(0, 4).decode())"
        done = subprocess.run(
            [os.environ["MAPCAP"], "--socket", self.socket, "run", "py/heir:ro", "--", sys.executable, "-c", child],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual(done.stdout, "heir\n", done.stderr)
        broker.revoke("py/heir")


if __name__ == "__main__":
    unittest.main()
