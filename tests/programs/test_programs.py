"""Programs of Debian's that know paths only, each with a region under a path of its own (`mapcap run --at`).

What works, and what cannot and why, is the table in docs/programs.md; each row is a test here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import unittest

import mapcap
from broker_case import BrokerCase

MIB = 1 << 20


class ProgramCase(BrokerCase):
    def setUp(self) -> None:
        self.here = os.path.join(self.directory, self._testMethodName)
        os.mkdir(self.here)
        self.owner = self.connect()

    def needs(self, *programs: str) -> None:
        for program in programs:
            if shutil.which(program) is None:
                self.skipTest(f"{program} is not installed")

    def region(self, contents: bytes, size: int = 0, **how) -> str:
        """A region that holds these bytes, for as long as the test runs; its name."""
        name = "programs/" + self._testMethodName
        with self.owner.create(name, size=max(size, len(contents), 1), **how) as region:
            region.store(0, contents)
            # Nothing holds it but its owner's connection.
        return name

    def at(self, region: str, *command: str, rights: str = "ro", path: str = "") -> list[str]:
        path = path or os.path.join(self.here, "region")
        return [os.environ["MAPCAP"], "--socket", self.socket, "run", "--at", f"{path}={region}:{rights}", "--", *command]

    def run_at(self, region: str, *command: str, rights: str = "ro", text: str = "") -> str:
        """Runs it to its end; returns what it printed."""
        done = subprocess.run(
            self.at(region, *command, rights=rights),
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=240,
            check=False,
            cwd=self.here,
        )
        self.assertEqual(done.returncode, 0, f"{command}: {done.stdout}{done.stderr}")
        return done.stdout


class ToolTest(ProgramCase):
    """What everybody has: they open, stat, read, seek and write."""

    contents = b"".join(b"line %06d\n" % number for number in range(8192))  # 96 KiB: whole pages

    def test_cat_reads_all_of_it(self) -> None:
        name = self.region(self.contents)
        self.assertEqual(self.run_at(name, "cat", "region"), self.contents.decode())

    def test_sha256sum_agrees(self) -> None:
        name = self.region(self.contents)
        self.assertIn(hashlib.sha256(self.contents).hexdigest(), self.run_at(name, "sha256sum", "region"))

    def test_file_grep_wc_tail_stat_and_ls(self) -> None:
        name = self.region(self.contents)
        self.assertIn("ASCII text", self.run_at(name, "file", "region"))
        self.assertEqual(self.run_at(name, "grep", "-c", "7$", "region").strip(), "819")
        self.assertEqual(self.run_at(name, "wc", "-c", "region").split()[0], str(len(self.contents)))
        self.assertEqual(self.run_at(name, "tail", "-n", "1", "region"), "line 008191\n")
        self.assertEqual(self.run_at(name, "stat", "-c", "%s %F", "region"), f"{len(self.contents)} regular file\n")
        self.assertIn(f" {len(self.contents)} ", self.run_at(name, "ls", "-l", "region"))

    def test_perl_awk_sed_cmp_diff_sort_and_gzip(self) -> None:
        name = self.region(self.contents)
        with open(os.path.join(self.here, "copy"), "wb") as file:
            file.write(self.contents)
        self.assertEqual(self.run_at(name, "perl", "-ne", "print if $. == 3", "region"), "line 000002\n")
        self.assertEqual(self.run_at(name, "awk", "END { print NR }", "region"), "8192\n")
        self.assertEqual(self.run_at(name, "sed", "-n", "2p", "region"), "line 000001\n")
        self.assertEqual(self.run_at(name, "cmp", "region", "copy"), "")
        self.assertTrue(self.run_at(name, "sh", "-c", "rev <region; rev region").startswith("000000 enil\n"))
        self.assertEqual(self.run_at(name, "diff", "copy", "region"), "")
        self.assertEqual(self.run_at(name, "sh", "-c", "sort -r <region | head -n 1"), "line 008191\n")
        self.assertEqual(self.run_at(name, "sh", "-c", "gzip -c region | gzip -d"), self.contents.decode())

    def test_cp_and_dd_and_tar_copy_out(self) -> None:
        name = self.region(self.contents)
        self.run_at(name, "cp", "region", "copy")
        self.run_at(name, "dd", "if=region", "of=dd", "bs=1000")
        self.run_at(name, "tar", "cf", "archive.tar", "region")
        subprocess.run(["tar", "xf", "archive.tar"], cwd=self.here, check=True)
        for copy in ("copy", "dd", "region"):
            with open(os.path.join(self.here, copy), "rb") as file:
                self.assertEqual(file.read(), self.contents, copy)

    def test_dd_and_cp_store_into_a_writable_one(self) -> None:
        name = self.region(bytes(len(self.contents)))
        with open(os.path.join(self.here, "source"), "wb") as file:
            file.write(self.contents)
        self.run_at(name, "dd", "if=source", "of=region", "bs=4096", rights="rw")
        with self.owner.open(name) as region:
            self.assertEqual(region.read(), self.contents)
        self.owner.open(name, "rw").store(0, bytes(len(self.contents)))
        self.run_at(name, "cp", "source", "region", rights="rw")
        with self.owner.open(name) as region:
            self.assertEqual(region.read(), self.contents)

    def test_a_read_only_one_cannot_be_opened_for_writing(self) -> None:
        name = self.region(self.contents)
        done = subprocess.run(
            self.at(name, "dd", "if=/dev/zero", "of=region", "count=1"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=self.here,
        )
        self.assertEqual(done.returncode, 1)
        self.assertIn("Permission denied", done.stderr)

    def test_children_and_redirections_share_its_position(self) -> None:
        name = self.region(self.contents)
        script = "{ head -c 12; dd bs=12 count=1 status=none; cat | wc -c; } < region"
        # dash reads scripts byte by byte, so it leaves the position where the next program expects it.
        printed = self.run_at(name, "sh", "-c", script)
        self.assertTrue(printed.startswith("line 000000\nline 000001\n"), printed[:80])
        self.assertEqual(int(printed.split()[-1]), len(self.contents) - 24)

    def test_a_size_that_does_not_fit_is_refused(self) -> None:
        name = self.region(self.contents)
        done = subprocess.run(
            self.at(name, "truncate", "-s", "1", "region", rights="rw"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=self.here,
        )
        self.assertEqual(done.returncode, 1, done.stdout)
        self.run_at(name, "truncate", "-s", str(len(self.contents)), "region", rights="rw")

    def test_a_revoked_one_is_an_error_and_no_signal(self) -> None:
        name = self.region(self.contents, seal="revocable")
        reader = subprocess.Popen(
            self.at(name, "sh", "-c", "exec 3<region; echo open; read go; cat <&3"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.here,
        )
        assert reader.stdout and reader.stdin
        self.assertEqual(reader.stdout.readline(), "open\n")
        self.owner.revoke(name)
        out, error = reader.communicate("go\n", timeout=60)
        self.assertEqual((out, reader.returncode), ("", 1), error)
        self.assertIn("Input/output error", error)

    def test_static_programs_are_refused_by_name(self) -> None:
        self.needs("busybox")
        name = self.region(self.contents)
        done = subprocess.run(
            self.at(name, "busybox", "cat", "region"), capture_output=True, text=True, timeout=60, check=False
        )
        if "statically linked" not in done.stderr and done.returncode == 0:
            self.skipTest("this busybox is linked dynamically")
        self.assertIn("busybox is statically linked", done.stderr)


class LibraryTest(ProgramCase):
    """Readers that map."""

    def test_numpy_loads_maps_and_stores(self) -> None:
        try:
            import numpy
        except ImportError:
            self.skipTest("numpy is not installed (python3-numpy)")
        numpy.save(os.path.join(self.here, "array.npy"), numpy.arange(10000, dtype="f8"))
        with open(os.path.join(self.here, "array.npy"), "rb") as file:
            name = self.region(file.read())
        program = (
            "import numpy\n"
            "mapped = numpy.load('region', mmap_mode='r')\n"
            "whole = numpy.load('region')\n"
            "plain = numpy.memmap('region', dtype='f8', mode='r+', offset=128, shape=(10000,))\n"
            "plain[0] = 7\n"
            "print(type(mapped).__name__, mapped.sum(), whole.sum())\n"
        )
        self.assertEqual(
            self.run_at(name, sys.executable, "-c", program, rights="rw"), "memmap 49995007.0 49995000.0\n"
        )

    def test_sqlite_reads_an_immutable_database(self) -> None:
        self.needs("sqlite3")
        database = os.path.join(self.here, "database")
        with sqlite3.connect(database) as connection:
            connection.execute("create table numbers(x)")
            connection.executemany("insert into numbers values (?)", [(number,) for number in range(1000)])
        connection.close()
        with open(database, "rb") as file:
            name = self.region(file.read())
        said = self.run_at(
            name, "sqlite3", f"file:{self.here}/region?immutable=1", "select count(*), sum(x) from numbers"
        )
        self.assertEqual(said, "1000|499500\n")

    def test_lmdb_reads_a_database(self) -> None:
        try:
            import lmdb
        except ImportError:
            self.skipTest("lmdb is not installed (python3-lmdb)")
        path = os.path.join(self.here, "database")
        environment = lmdb.open(path, subdir=False, map_size=MIB)
        with environment.begin(write=True) as transaction:
            transaction.put(b"key", b"value")
        environment.close()
        with open(path, "rb") as file:
            name = self.region(file.read())
        program = (
            "import lmdb\n"
            "environment = lmdb.open('region', subdir=False, readonly=True, lock=False)\n"
            "print(environment.begin().get(b'key').decode())\n"
        )
        self.assertEqual(self.run_at(name, sys.executable, "-c", program), "value\n")

    def test_java_maps_a_file_channel(self) -> None:
        self.needs("java")
        source = os.path.join(self.here, "Reader.java")
        with open(source, "w", encoding="utf-8") as file:
            file.write(
                "import java.nio.*; import java.nio.channels.*; import java.nio.file.*;\n"
                "public class Reader { public static void main(String[] a) throws Exception {\n"
                "  try (FileChannel c = FileChannel.open(Path.of(a[0]), StandardOpenOption.READ)) {\n"
                "    MappedByteBuffer b = c.map(FileChannel.MapMode.READ_ONLY, 0, c.size());\n"
                "    System.out.println(c.size() + \" \" + (char) b.get(0)); } } }\n"
            )
        name = self.region(b"J" + bytes(8191))
        done = subprocess.run(["java", "-version"], capture_output=True, check=False)
        if done.returncode != 0:
            self.skipTest("java does not run here")
        try:
            said = self.run_at(name, "java", source, "region")
        except AssertionError as error:
            if "compiler" in str(error):
                self.skipTest("this Java has no compiler (a JDK is needed)")
            raise
        self.assertEqual(said, "8192 J\n")

    def test_torch_maps_a_tensor(self) -> None:
        try:
            import torch  # noqa: F401
        except ImportError:
            self.skipTest("PyTorch is not installed (python3-torch)")
        name = self.region(b"\x00\x00\x80\x3f" * 1024)  # ones, as floats
        program = "import torch; print(torch.from_file('region', shared=True, size=1024).sum().item())"
        self.assertEqual(self.run_at(name, sys.executable, "-c", program, rights="rw"), "1024.0\n")


class ServerTest(ProgramCase):
    """Programs that live in their region."""

    def test_memcached_keeps_its_items_over_a_restart(self) -> None:
        self.needs("memcached")
        name = self.region(b"", size=64 * MIB)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        memory = os.path.join(self.here, "memory")
        command = self.at(
            name, "memcached", "-u", "root", "-l", "127.0.0.1", "-p", str(port), "-m", "64", "-e", memory,
            rights="rw", path=memory,
        )  # fmt: skip

        def ask(server: subprocess.Popen[bytes], request: bytes, end: bytes) -> bytes:
            deadline = time.monotonic() + 60
            while True:
                try:
                    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                        connection.sendall(request)
                        answer = b""
                        while not answer.endswith(end):
                            answer += connection.recv(4096)
                        return answer
                except OSError:
                    if server.poll() is not None or time.monotonic() > deadline:
                        self.fail(f"memcached does not serve: {server.communicate()[1]!r}")
                    time.sleep(0.05)

        first = subprocess.Popen(command, stderr=subprocess.PIPE)
        self.addCleanup(first.kill)
        self.assertEqual(ask(first, b"set a 0 0 5\r\nhello\r\n", b"\r\n"), b"STORED\r\n")
        # Its clock has seconds: what was stored in the one of its stop, or its start, it takes for newer and drops.
        time.sleep(3)
        first.send_signal(signal.SIGUSR1)
        self.assertEqual(first.wait(timeout=60), 0, first.communicate())
        time.sleep(3)
        second = subprocess.Popen(command, stderr=subprocess.PIPE)
        self.addCleanup(second.kill)
        self.assertEqual(ask(second, b"get a\r\n", b"END\r\n"), b"VALUE a 0 5\r\nhello\r\nEND\r\n")
        second.kill()
        second.communicate()

    def qemu(self, name: str, size: int) -> list[str]:
        path = os.path.join(self.here, "ram")
        return self.at(
            name, "qemu-system-x86_64", "-accel", "tcg", "-M", "pc,memory-backend=ram", "-m", f"{size}",
            "-object", f"memory-backend-file,id=ram,size={size}M,mem-path={path},share=on",
            "-display", "none", "-serial", "none", "-monitor", "stdio", "-no-reboot", rights="rw", path=path,
        )  # fmt: skip

    def test_qemu_boots_with_its_memory_in_a_region(self) -> None:
        self.needs("qemu-system-x86_64")
        name = self.region(b"", size=32 * MIB, seal="revocable")
        guest = subprocess.Popen(
            self.qemu(name, 32), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.addCleanup(guest.kill)
        with self.owner.open(name) as memory:
            # The firmware writes the BIOS data area: the boot drive's number, the size of low memory (639 KiB).
            self.until(lambda: memory.read(0x413, 2) == (639).to_bytes(2, "little"), "the firmware has run")
        self.owner.revoke(name)
        # Its memory is gone; the host is well.
        out, error = guest.communicate(b"info registers\n", timeout=120)
        self.assertLess(guest.returncode, 0, (out, error))
        self.assertEqual(self.owner.pools()[0].name, "dram")

    def test_qemu_refuses_a_size_that_does_not_fit(self) -> None:
        self.needs("qemu-system-x86_64")
        name = self.region(b"", size=16 * MIB)
        done = subprocess.run(
            self.qemu(name, 32), input="quit\n", capture_output=True, text=True, timeout=120, check=False
        )
        self.assertEqual(done.returncode, 1)
        self.assertIn("does not match", done.stderr)


if __name__ == "__main__":
    unittest.main()
