"""`mapcap dev` and mapcap.dev(): a broker of one's own, of which nothing is left."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import uuid

import mapcap

MAPCAP = os.environ["MAPCAP"]
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
HERE = os.path.dirname(os.path.abspath(__file__))


def processes_of(mark: str) -> list[int]:
    """Those that have `mark` in their command lines; zombies have none."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            if mark.encode() in pathlib.Path("/proc", entry, "cmdline").read_bytes():
                found.append(int(entry))
    return found


class DevCase(unittest.TestCase):
    def setUp(self) -> None:
        # Broker, keeper and examiner have the directory in their command lines, and so has what started them.
        self.temporary = tempfile.mkdtemp(prefix="mapcap-test-")
        self.addCleanup(os.rmdir, self.temporary)  # Fails where something is left.
        os.chmod(self.temporary, 0o1777)
        self.mark = str(uuid.uuid4())

    def command(self, *program: str) -> list[str]:
        return ["env", "TMPDIR=" + self.temporary, MAPCAP, "dev", *(["--", *program] if program else [])]

    def script(self, text: str) -> list[str]:
        return self.command("sh", "-c", f": {self.mark}; {text}")

    def run_dev(self, text: str, *before: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*before, *self.script(text)], capture_output=True, text=True, timeout=120)

    def left(self) -> list[object]:
        return [*os.listdir(self.temporary), *processes_of(self.temporary + "/"), *processes_of(self.mark)]

    def assert_nothing_left(self) -> None:
        """At once: whoever returned has cleaned up."""
        self.assertEqual(self.left(), [])

    def until_nothing_is_left(self) -> None:
        end = time.monotonic() + 60
        while self.left():
            if time.monotonic() > end:
                self.fail(f"still there after a minute: {self.left()}")
            time.sleep(0.01)

    def start_held(self) -> subprocess.Popen[str]:
        """One whose program has a region, and waits."""
        started = subprocess.Popen(
            self.script(f"{shlex.quote(MAPCAP)} create dev/held --size 1M && echo ready && exec sleep 1000"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(started.communicate)
        self.addCleanup(started.kill)
        assert started.stdout is not None
        for line in started.stdout:
            if line == "ready\n":
                return started
        assert started.stderr is not None
        self.fail(started.stderr.read())


class CommandTest(DevCase):
    def test_exit_code_is_the_programs(self) -> None:
        for code in (0, 7):
            self.assertEqual(self.run_dev(f"exit {code}").returncode, code)
            self.assert_nothing_left()
        self.assertEqual(self.run_dev("kill -9 $$").returncode, -signal.SIGKILL)
        self.assert_nothing_left()

    def test_a_program_that_is_not_there(self) -> None:
        for program, code in (("no-such-program-" + self.mark, 127), ("/etc/passwd", 126)):
            ran = subprocess.run(self.command(program), capture_output=True, text=True, timeout=60)
            self.assertEqual(ran.returncode, code)
            self.assertIn(program, ran.stderr)
            self.assert_nothing_left()

    def test_what_it_is_confined_by_is_told_in_one_sentence(self) -> None:
        ran = self.run_dev(f"{shlex.quote(MAPCAP)} pools --json")
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(len(ran.stderr.splitlines()), 1)
        self.assertIn("are clones" if '"confinement":"clone"' in ran.stdout else "sealed descriptors", ran.stderr)

    def test_regions_that_are_left_end_with_it(self) -> None:
        self.assertEqual(self.run_dev(f"{shlex.quote(MAPCAP)} create dev/left --size 1M").returncode, 0)
        self.assert_nothing_left()

    def test_everything_goes_when_the_command_is_killed(self) -> None:
        started = self.start_held()
        started.kill()
        self.until_nothing_is_left()

    def test_everything_goes_when_the_warden_is_killed(self) -> None:
        started = self.start_held()
        wardens = [
            process
            for process in processes_of(self.mark)
            if pathlib.Path(f"/proc/{process}/comm").read_text(encoding="utf-8") == "mapcap-warden\n"
        ]
        self.assertEqual(len(wardens), 1)
        os.kill(wardens[0], signal.SIGKILL)
        end = time.monotonic() + 60
        while processes_of(self.temporary + "/"):
            self.assertLess(time.monotonic(), end, "the broker or its keeper lives on")
            time.sleep(0.01)
        started.terminate()
        started.wait(timeout=60)
        self.until_nothing_is_left()

    def test_a_signal_is_passed_on(self) -> None:
        started = self.start_held()
        started.terminate()
        self.assertEqual(started.wait(timeout=60), -signal.SIGTERM)
        self.until_nothing_is_left()

    def test_alone_it_stays_until_it_is_told_to_end(self) -> None:
        for end in (signal.SIGINT, signal.SIGTERM, None):
            started = subprocess.Popen(
                self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            assert started.stdin is not None and started.stdout is not None
            socket = started.stdout.readline().rstrip("\n")
            mapcap.connect(socket).close()
            if end is None:
                started.stdin.close()
                started.stdin = None
            else:
                started.send_signal(end)
            started.communicate(timeout=60)
            self.assertEqual(started.returncode, 0)
            self.assert_nothing_left()

    def test_a_daemon_that_is_none(self) -> None:
        for wrong in ("mapcapd", "/etc", "/no/such"):
            ran = self.run_dev("exit 0", "env", "MAPCAP_DAEMON=" + wrong)
            self.assertEqual(ran.returncode, 1)
            self.assertIn("MAPCAP_DAEMON", ran.stderr)

    def test_a_suite_passes(self) -> None:
        self.run_suite([])

    @unittest.skipUnless(os.geteuid() == 0, "needs root to become nobody")
    def test_a_suite_passes_as_nobody(self) -> None:
        self.assertIn("sealed", self.run_suite(NOBODY))

    @unittest.skipUnless(os.geteuid() == 0, "needs root to make a container")
    def test_a_suite_passes_as_nobody_in_a_container_without_fuse_and_user_namespaces(self) -> None:
        # No /dev/fuse, a pid namespace, no privilege to be had, and no user namespace in this one.
        container = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--user", "--map-root-user"]
        probe = subprocess.run([*container, "true"], capture_output=True, text=True)
        if probe.returncode != 0:
            self.skipTest(probe.stderr)
        forbid = "echo 0 > /proc/sys/user/max_user_namespaces; ! unshare --user true 2>/dev/null && "
        hide = "! [ -e /dev/fuse ] || mount --bind /dev/null /dev/fuse; "
        inside = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", hide + 'exec "$@"', "sh"]
        said = self.run_suite([*inside, *NOBODY, "--no-new-privs", "--bounding-set=-all"])
        self.assertIn("sealed", said)
        said = self.run_suite([*container, "sh", "-c", forbid + hide + 'exec "$@"', "sh"])
        self.assertIn("sealed", said)

    def run_suite(self, before: list[str]) -> str:
        program = [sys.executable, "-W", "error", "-m", "unittest", "suite_under_dev"]
        ran = subprocess.run(
            [*before, *self.command(*program)], capture_output=True, text=True, timeout=120, cwd=HERE
        )
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertIn("Ran 3 tests", ran.stderr)
        self.until_nothing_is_left()
        return ran.stderr.splitlines()[0]


class PackageTest(DevCase):
    def setUp(self) -> None:
        super().setUp()
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = self.temporary
        self.addCleanup(lambda: os.environ.update(TMPDIR=before) if before else os.environ.pop("TMPDIR"))

    def test_a_broker_for_a_block(self) -> None:
        with mapcap.dev(MAPCAP) as broker:
            self.assertTrue(broker.socket.startswith(self.temporary + "/"))
            with broker.create("dev/one", size=4096) as region:
                region[0:1] = b"1"
                with mapcap.connect(broker.socket) as second:
                    self.assertEqual(second.show("dev/one")[0].name, "dev/one")
        self.assert_nothing_left()

    def test_a_mapping_outlives_it(self) -> None:
        with mapcap.dev(MAPCAP) as broker:
            region = broker.create("dev/kept", size=4096, lifetime="persistent")
            region[0:4] = b"kept"
        self.assert_nothing_left()
        self.assertEqual(region[0:4], b"kept")
        region.close()

    def test_a_child_that_lives_on_does_not_hold_it(self) -> None:
        with mapcap.dev(MAPCAP):
            child = os.fork()
            if child == 0:
                time.sleep(1000)
                os._exit(0)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        self.assert_nothing_left()

    def test_it_ends_with_a_process_that_is_killed(self) -> None:
        code = "import mapcap, os, sys\nwith mapcap.dev(sys.argv[1]): os.kill(os.getpid(), 9)"
        ran = subprocess.run([sys.executable, "-c", code, MAPCAP], capture_output=True, text=True, timeout=60)
        self.assertEqual(ran.returncode, -signal.SIGKILL, ran.stderr)
        self.until_nothing_is_left()

    def test_a_command_that_is_not_there(self) -> None:
        with self.assertRaises(mapcap.NotFound), mapcap.dev("/no/such/mapcap"):
            pass

    def test_its_own_words_are_passed_on(self) -> None:
        os.environ["MAPCAP_DAEMON"] = "relative"
        self.addCleanup(os.environ.pop, "MAPCAP_DAEMON")
        with self.assertRaisesRegex(mapcap.Unavailable, "MAPCAP_DAEMON"), mapcap.dev(MAPCAP):
            pass


if __name__ == "__main__":
    unittest.main()
