"""A granted region in this process's memory."""

from __future__ import annotations

import ctypes
import mmap
import threading
from typing import Any

from . import _library, _values
from ._library import check, encoded, library
from ._values import RegionInfo

# Typed as if mmap.mmap were made by __init__.
_new_mapping: Any = mmap.mmap.__new__


class Region(mmap.mmap):
    """A whole region, mapped shared: a buffer that needs no copy, and everything else that an `mmap.mmap` is.

    `memoryview(region)`, `numpy.frombuffer(region)` and slices work on the region's own memory. With access "ro"
    storing raises TypeError. The mapping ends with `close()` or the end of a `with` block; as long as a memoryview or
    an array uses it, close() raises BufferError and the region stays.

    Accesses through the buffer are plain ones: after a revoke of a `revocable` region they end the process with SIGBUS.
    The methods that are defined here raise `Revoked` instead. Safe to use from several threads for different bytes, and
    in a forked child, which shares the memory.
    """

    info: RegionInfo
    """The region as it was when it was granted."""
    access: str
    """ "ro" or "rw"."""

    _grant: int | None
    _mapping: int | None
    _lock: threading.Lock

    def __new__(cls, *_: Any, **__: Any) -> Region:
        raise TypeError("regions come from Broker.create, Broker.open, Broker.clone, adopt and inherited")

    @classmethod
    def _of_grant(cls, grant: int, access: str | None = None) -> Region:
        """Takes over a grant of the library, also when it fails."""
        try:
            granted = _values.word_of(_values.RIGHTS, library.mapcap_grant_rights(grant))
            access = access or granted
            info = _library.region_info()
            check(library.mapcap_grant_info(grant, ctypes.byref(info)))
            region: Region = _new_mapping(
                cls,
                library.mapcap_grant_fd(grant),
                library.mapcap_grant_size(grant),
                access=mmap.ACCESS_WRITE if access == "rw" else mmap.ACCESS_READ,
            )
        except BaseException:
            library.mapcap_grant_close(grant)
            raise
        region.info = _values.region_from(info)
        region.access = access
        region._grant = grant
        region._mapping = None
        region._lock = threading.Lock()
        return region

    def fileno(self) -> int:
        """The granted descriptor, still the region's. It can be mmapped and passed on, and nothing else."""
        if self._grant is None:
            raise ValueError("the region is closed")
        return int(library.mapcap_grant_fd(self._grant))

    def read(self, offset: int | None = 0, length: int | None = None) -> bytes:
        """A copy of `length` bytes from `offset`, to the end unless said otherwise. Errors: Revoked, Invalid."""
        offset = offset or 0
        if length is None:
            length = max(0, len(self) - offset)
        self._check_range(offset, length)
        copy = ctypes.create_string_buffer(length)
        check(library.mapcap_read(self._mapped(), offset, copy, length))
        return copy.raw

    def store(self, offset: int, data: bytes) -> None:
        """Copies `data` into the region. Errors: Revoked, Invalid, Denied (access "ro")."""
        self._check_range(offset, len(data))
        check(library.mapcap_write(self._mapped(), offset, bytes(data), len(data)))

    def persist(self, offset: int = 0, length: int | None = None) -> str:
        """Makes stores to these bytes durable; all unless said otherwise.

        Returns by which granularity they now are durable: "page", "cache-line", "byte", or "none" where the memory is
        volatile. Errors: Revoked, Invalid, IOFailed (then nothing is known to be durable).
        """
        if length is None:
            length = max(0, len(self) - offset)
        self._check_range(offset, length)
        granularity = ctypes.c_int()
        check(library.mapcap_persist(self._mapped(), offset, length, ctypes.byref(granularity)))
        return _values.word_of(_values.GRANULARITIES, granularity.value)

    def copy_persist(self, offset: int, data: bytes) -> str:
        """store() and persist() in one, by the quickest stores for that. Returns and raises what they do."""
        self._check_range(offset, len(data))
        granularity = ctypes.c_int()
        mapping = self._mapped()
        check(library.mapcap_copy_persist(mapping, offset, bytes(data), len(data), ctypes.byref(granularity)))
        return _values.word_of(_values.GRANULARITIES, granularity.value)

    def fill_persist(self, offset: int, byte: int, length: int) -> str:
        """The same with `length` times the byte 0 to 255."""
        self._check_range(offset, length)
        if not 0 <= byte <= 255:
            raise ValueError(f"byte is {byte}; it is 0 to 255")
        granularity = ctypes.c_int()
        check(library.mapcap_fill_persist(self._mapped(), offset, byte, length, ctypes.byref(granularity)))
        return _values.word_of(_values.GRANULARITIES, granularity.value)

    def flush(self, offset: int = 0, size: int | None = None) -> None:
        """As persist(), under the name that an mmap.mmap has for it."""
        self.persist(offset, size)

    def close(self) -> None:
        """Ends the mapping and closes the descriptor. Errors: BufferError while a memoryview or array uses it."""
        super().close()
        with self._lock:
            if self._mapping is not None:
                library.mapcap_unmap(self._mapping)
                self._mapping = None
            if self._grant is not None:
                library.mapcap_grant_close(self._grant)
                self._grant = None

    def __enter__(self) -> Region:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # The buffer itself goes by its own deallocation, once nothing uses it any more.
        if getattr(self, "_mapping", None) is not None:
            library.mapcap_unmap(self._mapping)
        if getattr(self, "_grant", None) is not None:
            library.mapcap_grant_close(self._grant)

    def __repr__(self) -> str:
        state = "closed" if self._grant is None else self.access
        return f"<mapcap.Region {self.info.name!r} of {self.info.size} bytes, {state}>"

    def _check_range(self, offset: int, length: int) -> None:
        """What C takes as unsigned must not be negative."""
        if offset < 0 or length < 0:
            raise ValueError("offset and length are numbers of bytes, 0 and up")

    def _mapped(self) -> int:
        """The library's own mapping, made when it is first needed. Errors: ValueError when closed."""
        with self._lock:
            if self._grant is None:
                raise ValueError("the region is closed")
            if self._mapping is None:
                mapping = ctypes.c_void_p()
                rights = _values.RIGHTS.index(self.access)
                check(library.mapcap_map(self._grant, rights, ctypes.byref(mapping)))
                self._mapping = mapping.value
            assert self._mapping is not None
            return self._mapping


def adopt(fd: int) -> Region:
    """Maps a descriptor that somebody else was granted (received over a socket, for example), and takes it over.

    It stays the caller's when this fails. Errors: Invalid for what cannot be mapped, IOFailed.
    """
    grant = ctypes.c_void_p()
    check(library.mapcap_grant_adopt(fd, ctypes.byref(grant)))
    assert grant.value is not None
    return Region._of_grant(grant.value)


def inherited(name: str) -> Region:
    """The grant that a parent passed on under this name: `mapcap run NAME -- python3 ...`, or a service manager.

    Each can be taken once. Errors: NotFound, listing what is there.
    """
    grant = ctypes.c_void_p()
    check(library.mapcap_inherited(encoded(name), ctypes.byref(grant)))
    assert grant.value is not None
    return Region._of_grant(grant.value)

