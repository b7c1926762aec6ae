"""The Python package as pip installs it: from this tree, without a network and without anything else."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SOURCE = ROOT / "client" / "python"
PROGRAM = """
import mapcap, sys
assert mapcap.__file__.startswith(sys.prefix), mapcap.__file__
with mapcap.dev() as broker, broker.create("wheel/region", size=4096) as region:
    region[0:5] = b"wheel"
    print(broker.open("wheel/region").read(0, 5).decode())
"""


class PackageTest(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="mapcap-wheel-")))
        self.environment = {**os.environ, "MAPCAP_COMMAND": os.environ["MAPCAP"]}
        del self.environment["PYTHONPATH"]

    def run_it(self, *command: str | pathlib.Path) -> str:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=240, cwd=self.directory, env=self.environment
        )
        self.assertEqual(done.returncode, 0, f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    def test_the_wheel_holds_the_package_and_its_version(self) -> None:
        name = self.run_it(sys.executable, SOURCE / "build_backend.py", self.directory).strip()
        version = re.search(r"^project\(mapcap VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE)
        assert version is not None
        self.assertEqual(name, f"mapcap-{version[1]}-py3-none-any.whl")
        with zipfile.ZipFile(self.directory / name) as wheel:
            self.assertIsNone(wheel.testzip())
            held = {entry for entry in wheel.namelist() if entry.startswith("mapcap/")}
        self.assertEqual(
            held, {f"mapcap/{path.name}" for path in (SOURCE / "mapcap").iterdir() if path.is_file()}
        )

    def test_pip_installs_the_directory_without_a_network(self) -> None:
        if importlib.util.find_spec("ensurepip") is None:
            self.skipTest("venv has no pip here (python3-venv)")
        self.run_it(sys.executable, "-m", "venv", self.directory / "venv")
        python = self.directory / "venv" / "bin" / "python"
        self.run_it(python, "-m", "pip", "install", "--quiet", "--no-index", SOURCE)
        self.assertEqual(self.run_it(python, "-c", PROGRAM), "wheel\n")
        self.assertIn("mapcap", self.run_it(python, "-m", "pip", "list"))
        self.run_it(python, "-m", "pip", "uninstall", "--quiet", "--yes", "mapcap")


if __name__ == "__main__":
    unittest.main()
