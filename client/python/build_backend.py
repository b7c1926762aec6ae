"""Builds the wheel, with the standard library alone: what `pip install` of this directory calls (PEP 517), so that it needs no
network. There is nothing to compile.

    python3 build_backend.py DIRECTORY      writes the wheel there and prints its name
"""

from __future__ import annotations

import base64
import hashlib
import io
import pathlib
import sys
import tarfile
import tomllib
import zipfile
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def _sources() -> list[pathlib.Path]:
    return sorted([*(HERE / "mapcap").glob("*.py"), HERE / "mapcap" / "py.typed"])


def _metadata(project: dict[str, Any]) -> str:
    return (
        "Metadata-Version: 2.1\n"
        f"Name: {project['name']}\n"
        f"Version: {project['version']}\n"
        f"Summary: {project['description']}\n"
        f"License: {project['license']['text']}\n"
        f"Requires-Python: {project['requires-python']}\n"
    )


def _digest(contents: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(contents).digest()).rstrip(b"=").decode()


def build_wheel(
    wheel_directory: str, config_settings: object = None, metadata_directory: str | None = None
) -> str:
    """The same bytes whenever the sources are the same. Returns the file's name."""
    project = _project()
    stem = f"{project['name']}-{project['version']}"
    files = {path.relative_to(HERE).as_posix(): path.read_bytes() for path in _sources()}
    files[f"{stem}.dist-info/METADATA"] = _metadata(project).encode()
    files[f"{stem}.dist-info/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: mapcap\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(f"{name},{_digest(contents)},{len(contents)}\n" for name, contents in files.items())
    files[f"{stem}.dist-info/RECORD"] = f"{record}{stem}.dist-info/RECORD,,\n".encode()
    name = f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / name, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, contents in files.items():
            entry = zipfile.ZipInfo(path)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            wheel.writestr(entry, contents)
    return name


def build_sdist(sdist_directory: str, config_settings: object = None) -> str:
    """What this directory is made of. Returns the file's name."""
    project = _project()
    stem = f"{project['name']}-{project['version']}"
    name = f"{stem}.tar.gz"
    with tarfile.open(pathlib.Path(sdist_directory) / name, "w:gz") as archive:
        for path in [HERE / "pyproject.toml", HERE / "build_backend.py", *_sources()]:
            archive.add(path, f"{stem}/{path.relative_to(HERE).as_posix()}")
        metadata = _metadata(project).encode()
        entry = tarfile.TarInfo(f"{stem}/PKG-INFO")
        entry.size = len(metadata)
        archive.addfile(entry, io.BytesIO(metadata))
    return name


if __name__ == "__main__":
    print(build_wheel(sys.argv[1]))
