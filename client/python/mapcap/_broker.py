"""The connection to the broker."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal

from . import _library, _values
from ._endpoints import EndpointVerbs
from ._library import check, encoded, library
from ._region import Region
from ._values import Amounts, Holder, PoolInfo, QuotaInfo, RegionInfo, Shutdown, Status, UnguardedRegion

Access = Literal["ro", "rw"]
Progress = Callable[[int, int], None]

# Inside the class, `list` is a method.
_Regions = list[RegionInfo]
_Holders = list[Holder]
_Pools = list[PoolInfo]
_Quotas = list[QuotaInfo]
_Unguarded = list[UnguardedRegion]

_NOTICES = ("expiring", "revoking", "revoked", "reconnected")


@dataclass(frozen=True)
class Notice:
    """What the broker tells without being asked."""

    kind: str
    """"expiring": the ttl ends within `within` seconds; "revoking": a drain began, let go; "revoked": gone;
    "reconnected": the connection was lost and is there again."""
    region: int
    name: str
    within: float
    resumed: bool
    """Only of "reconnected": regions with lifetime "connection" are still this client's."""


def connect(
    socket: str | os.PathLike[str] | None = None,
    *,
    program: str | None = None,
    deadline: float = 30.0,
    reconnect_within: float = 10.0,
    wait: float = 0.0,
) -> Broker:
    """Connects to the broker at `socket` ($MAPCAP_SOCKET, else /run/mapcap/mapcap.sock).

    deadline: seconds that one call may take in all. reconnect_within: how long a call tries to reach a broker that went
    away. wait: how long to wait for a broker to appear. Errors: Unavailable, Denied, VersionMismatch, TimedOut.
    """
    options = _library.ConnectOptions(
        size=ctypes.sizeof(_library.ConnectOptions),
        socket=None if socket is None else os.fsencode(socket),
        program=None if program is None else encoded(program),
        deadline_ms=round(deadline * 1000),
        reconnect_within_ms=round(reconnect_within * 1000),
        wait_for_broker_ms=round(wait * 1000),
        notices=1,
    )
    client = ctypes.c_void_p()
    check(library.mapcap_connect(ctypes.byref(options), ctypes.byref(client)))
    assert client.value is not None
    return Broker(client.value)


class Broker(EndpointVerbs):
    """A connection to the broker, made again by itself when the broker restarts.

    Calls may come from several threads, one at a time. Not to be used in a forked child: connect again there. Any call
    may raise Unavailable, TimedOut, Denied, Malformed or Exhausted beside what it names.
    """

    def __init__(self, client: int) -> None:
        """For connect() only."""
        self._client: int | None = client

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<mapcap.Broker, closed>" if self._client is None else f"<mapcap.Broker at {self.socket!r}>"

    def close(self) -> None:
        """Ends the connection, and with it regions of lifetime "connection". Regions that are mapped stay so."""
        client = getattr(self, "_client", None)
        self._client = None
        if client is not None:
            library.mapcap_disconnect(client)

    @property
    def name(self) -> str:
        """Name and version of the broker."""
        return _library.text(library.mapcap_client_broker(self._handle()))

    @property
    def socket(self) -> str:
        """The path that it was connected to."""
        return _library.text(library.mapcap_client_socket(self._handle()))

    def create(
        self,
        name: str,
        *,
        size: int,
        access: Access = "rw",
        pool: str | None = None,
        cache: str = "wb",
        cache_required: bool = False,
        lifetime: str = "connection",
        ttl: float | None = None,
        mode: int = 0o600,
        group: int | None = None,
        seal: str | None = None,
        progress: Progress | None = None,
    ) -> Region:
        """Creates a region of `size` bytes (rounded up to the pool's granule) and maps it.

        ttl: seconds, with lifetime "ttl" (which it implies). Errors: Exists, OverQuota, PoolFull, CacheModeUnavailable,
        Invalid, Unsupported; ValueError for a word that does not exist.
        """
        options = self._options(name, size, pool, cache, cache_required, lifetime, ttl, mode, group, seal, progress)
        rights = _values.number_of(_values.RIGHTS, access, "access")
        grant = ctypes.c_void_p()
        check(library.mapcap_create_grant(self._handle(), ctypes.byref(options), rights, ctypes.byref(grant)))
        assert grant.value is not None
        return Region._of_grant(grant.value)

    def reserve(
        self,
        name: str,
        *,
        size: int,
        pool: str | None = None,
        cache: str = "wb",
        cache_required: bool = False,
        lifetime: str = "persistent",
        ttl: float | None = None,
        mode: int = 0o600,
        group: int | None = None,
        seal: str | None = None,
        progress: Progress | None = None,
    ) -> RegionInfo:
        """Creates a region without a grant, for others to open. As create()."""
        options = self._options(name, size, pool, cache, cache_required, lifetime, ttl, mode, group, seal, progress)
        info = _library.region_info()
        check(library.mapcap_create(self._handle(), ctypes.byref(options), ctypes.byref(info)))
        return _values.region_from(info)

    def open(self, name: str, access: Access = "ro") -> Region:
        """Maps an existing region. Errors: NotFound, Denied, Busy, Lost."""
        rights = _values.number_of(_values.RIGHTS, access, "access")
        grant = ctypes.c_void_p()
        check(library.mapcap_open(self._handle(), encoded(name), rights, ctypes.byref(grant)))
        assert grant.value is not None
        return Region._of_grant(grant.value)

    def clone(self, fd: int, access: Access = "ro") -> Region:
        """Maps an mmap-only clone of a regular file that the caller has open; `fd` stays the caller's."""
        rights = _values.number_of(_values.RIGHTS, access, "access")
        grant = ctypes.c_void_p()
        check(library.mapcap_clone(self._handle(), fd, rights, ctypes.byref(grant)))
        assert grant.value is not None
        return Region._of_grant(grant.value)

    def list(self, glob: str = "") -> _Regions:
        """What the caller may see of the regions that match ('*' within a component, '**' across), by name."""
        found: _Regions = []

        def visit(info: Any, _: Any) -> int:
            found.append(_values.region_from(info.contents))
            return 0

        check(library.mapcap_list(self._handle(), encoded(glob), _library.REGION_VISITOR(visit), None))
        return found

    def show(self, name: str) -> tuple[RegionInfo, _Holders]:
        """One region, and who holds it. Errors: NotFound."""
        holders: _Holders = []

        def visit(info: Any, _: Any) -> int:
            holders.append(_values.holder_from(info.contents))
            return 0

        info = _library.region_info()
        visitor = _library.HOLDER_VISITOR(visit)
        check(library.mapcap_show(self._handle(), encoded(name), ctypes.byref(info), visitor, None))
        return _values.region_from(info), holders

    def renew(self, name: str, ttl: float) -> RegionInfo:
        """Restarts a ttl, in seconds. Errors: NotFound, Invalid."""
        info = _library.region_info()
        check(library.mapcap_renew(self._handle(), encoded(name), round(ttl * 1e9), ctypes.byref(info)))
        return _values.region_from(info)

    def revoke(
        self, name: str, *, drain: bool = False, within: float = 0.0, progress: Progress | None = None
    ) -> tuple[int, int]:
        """When it returns, nobody can read or write the region's contents any more.

        drain: holders are told and may finish within so many seconds (0: without limit). Returns bytes that stay charged
        and grants that are still held. Errors: NotFound, Busy.
        """
        options = _library.RevokeOptions(
            size=ctypes.sizeof(_library.RevokeOptions),
            drain=int(drain),
            within_ns=round(within * 1e9),
            progress=_progress(progress),
        )
        held, grants = ctypes.c_uint64(), ctypes.c_uint32()
        check(
            library.mapcap_revoke(
                self._handle(), encoded(name), ctypes.byref(options), ctypes.byref(held), ctypes.byref(grants)
            )
        )
        return held.value, grants.value

    def publish(self, name: str, *, within: float = 0.0) -> RegionInfo:
        """When it returns, nobody can write the region any more, its owner neither, until it ends.

        Waits up to `within` seconds for writable grants, mappings and pinned pages that are left. Errors: Busy while
        somebody can write it; Unsupported, Denied, NotFound, Lost.
        """
        info = _library.region_info()
        check(library.mapcap_publish(self._handle(), encoded(name), round(within * 1e9), ctypes.byref(info)))
        return _values.region_from(info)

    def pools(self) -> _Pools:
        """The pools that the caller may see."""
        found: _Pools = []

        def visit(info: Any, _: Any) -> int:
            found.append(_values.pool_from(info.contents))
            return 0

        check(library.mapcap_pools(self._handle(), _library.POOL_VISITOR(visit), None))
        return found

    def quota(self) -> _Quotas:
        """The caller's own slots; every slot for an administrator."""
        found: _Quotas = []

        def visit(info: Any, _: Any) -> int:
            found.append(_values.quota_from(info.contents))
            return 0

        check(library.mapcap_quota(self._handle(), _library.QUOTA_VISITOR(visit), None))
        return found

    def quota_set(self, subject: str, id: int, limits: Amounts, pool: str = "") -> None:
        """For administrators: replaces the limits of one slot, until cleared."""
        amounts = _values.limits_to(limits)
        number = _values.number_of(_values.SUBJECTS, subject, "subject")
        check(library.mapcap_quota_set(self._handle(), number, id, encoded(pool), ctypes.byref(amounts)))

    def quota_clear(self, subject: str, id: int, pool: str = "") -> None:
        """For administrators: the policy's limits of one slot again. Errors: NotFound."""
        number = _values.number_of(_values.SUBJECTS, subject, "subject")
        check(library.mapcap_quota_clear(self._handle(), number, id, encoded(pool)))

    def status(self) -> Status:
        """How the broker is: whether all memory has a second holder, and changes are recorded."""
        unguarded: _Unguarded = []

        def visit(id: int, name: bytes, owner: int, _: Any) -> int:
            unguarded.append(UnguardedRegion(id, _library.text(name), owner))
            return 0

        raw = _library.StatusInfo()
        raw.size = ctypes.sizeof(_library.StatusInfo)
        visitor = _library.UNGUARDED_VISITOR(visit)
        check(library.mapcap_status(self._handle(), ctypes.byref(raw), visitor, None))
        return _values.status_from(raw, tuple(unguarded))

    def shutdown(self, *, end_regions: bool = False, only_tell: bool = False) -> Shutdown:
        """For administrators: the broker ends, in order, a moment later.

        Regions stay, those of volatile memory with the keeper for the next broker; with end_regions they end, and so
        does the keeper. only_tell: nothing ends, the answer says what would. Errors: Denied; Busy when memory has no
        second holder at the moment and would be lost; IOFailed.
        """
        options = _library.ShutdownOptions(
            size=ctypes.sizeof(_library.ShutdownOptions), end_regions=int(end_regions), only_tell=int(only_tell)
        )
        raw = _library.ShutdownInfo()
        raw.size = ctypes.sizeof(_library.ShutdownInfo)
        check(library.mapcap_shutdown(self._handle(), ctypes.byref(options), ctypes.byref(raw)))
        return Shutdown(raw.regions, raw.users, raw.bytes, raw.lasting, raw.quarantined)

    def fileno(self) -> int:
        """Readable when poll() has something to do: for select and its like. The same number for the broker's life."""
        return int(library.mapcap_client_fd(self._handle()))

    def poll(self) -> Notice | None:
        """The next notice, or None when there is none now. Tries to reach a broker that went away; waits for nothing
        else."""
        raw = _library.Notice()
        raw.size = ctypes.sizeof(_library.Notice)
        there = ctypes.c_int()
        check(library.mapcap_next_notice(self._handle(), ctypes.byref(raw), ctypes.byref(there)))
        if not there.value:
            return None
        return Notice(
            kind=_values.word_of(_NOTICES, raw.kind),
            region=raw.region,
            name=_library.text(raw.name),
            within=raw.within_ns / 1e9,
            resumed=bool(raw.resumed),
        )

    async def notices(self) -> AsyncIterator[Notice]:
        """Every notice, as it comes: `async for notice in broker.notices()`. Ends when the broker object is closed."""
        loop = asyncio.get_running_loop()
        while self._client is not None:
            notice = self.poll()
            if notice is not None:
                yield notice
                continue
            ready: asyncio.Future[None] = loop.create_future()
            fd = self.fileno()
            loop.add_reader(fd, lambda future=ready: future.done() or future.set_result(None))
            try:
                await ready
            finally:
                loop.remove_reader(fd)

    def _handle(self) -> int:
        if self._client is None:
            raise ValueError("the connection is closed")
        return self._client

    @staticmethod
    def _options(
        name: str,
        size: int,
        pool: str | None,
        cache: str,
        cache_required: bool,
        lifetime: str,
        ttl: float | None,
        mode: int,
        group: int | None,
        seal: str | None,
        progress: Progress | None,
    ) -> Any:
        if size < 0:
            raise ValueError(f"size is {size}; it is a number of bytes")
        if ttl is not None:
            lifetime = "ttl"
        return _library.CreateOptions(
            size=ctypes.sizeof(_library.CreateOptions),
            name=encoded(name),
            bytes=size,
            pool=None if pool is None else encoded(pool),
            cache_mode=_values.number_of(_values.CACHE_MODES, cache, "cache"),
            cache_required=int(cache_required),
            lifetime=_values.number_of(_values.LIFETIMES, lifetime, "lifetime"),
            ttl_ns=round((ttl or 0.0) * 1e9),
            mode=mode,
            has_group=int(group is not None),
            group=group or 0,
            seal=_library.SEAL_OF_POOL if seal is None else _values.number_of(_values.SEALS, seal, "seal"),
            progress=_progress(progress),
        )


def _progress(progress: Progress | None) -> Any:
    """For the options: a function that C may call, or none."""
    if progress is None:
        return _library.NO_PROGRESS
    tell = progress
    return _library.PROGRESS(lambda done, total, _: tell(done, total))
