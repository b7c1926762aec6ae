"""A broker for a unit test."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

from ._broker import Broker, connect
from ._library import DevOptions, check, encoded, library, text


@contextlib.contextmanager
def dev(command: str | None = None, *, start_within: float = 60.0) -> Iterator[Broker]:
    """A connection to a broker of the test's own, which needs no root and is gone when the block ends.

        class CacheTest(unittest.TestCase):
            def setUp(self) -> None:
                self.broker = self.enterContext(mapcap.dev())

    Its clients may do everything; `broker.socket` is where further ones connect. It runs as the caller (`mapcap dev`),
    and ends with this process, too, however that ends. Its grants are mmap-only where the caller is the machine's root,
    else plain sealed descriptors: `RegionInfo.confinement` says which.

    `command` is the command line tool: by default $MAPCAP_COMMAND, else `mapcap` as PATH has it. Raises NotFound where
    it is not installed, Unavailable with its own words where it cannot start, TimedOut after `start_within` seconds.
    """
    options = DevOptions()
    options.size = ctypes.sizeof(DevOptions)
    options.command = None if command is None else encoded(command)
    options.start_within_ms = max(1, round(start_within * 1000))
    handle = ctypes.c_void_p()
    check(library.mapcap_dev_start(ctypes.byref(options), ctypes.byref(handle)))
    try:
        with connect(text(library.mapcap_dev_socket(handle))) as broker:
            yield broker
    finally:
        library.mapcap_dev_stop(handle)
