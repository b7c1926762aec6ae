"""Memory that can be mmapped and nothing else: the Python client of mapcapd.

    import mapcap

    with mapcap.connect() as broker:
        with broker.create("alice/w", size=1 << 20, access="rw") as region:
            region[0:5] = b"hello"
        with broker.open("models/resnet") as weights:      # read-only unless asked otherwise
            array = numpy.frombuffer(weights, dtype="f4")  # no copy

What `create` and `open` return is a buffer: a `Region`, which is an `mmap.mmap`. A region that was opened read-only
is read-only in Python, too: storing raises TypeError.

A `revocable` region may be taken away while it is being read. A plain access then ends the process with SIGBUS, as it
does in every language; `Region.read`, `Region.store`, `Region.persist` and `Region.flush` raise `Revoked` instead.

`with mapcap.dev() as broker:` is a private broker for a unit test, without root.

Needs libmapcap (by ctypes; nothing is compiled) and Python 3.11.
"""

from ._broker import Broker, Notice, connect
from ._describe import Description, describe
from ._dev import dev
from ._errors import (
    Busy,
    CacheModeUnavailable,
    Denied,
    Error,
    Exhausted,
    Exists,
    Invalid,
    IOFailed,
    Lost,
    Malformed,
    NotFound,
    OverQuota,
    PoolFull,
    Revoked,
    TimedOut,
    Unavailable,
    Unsupported,
    VersionMismatch,
)
from ._region import Region, adopt, inherited
from ._values import (
    Amounts,
    Endpoint,
    EndpointDetails,
    EndpointEnded,
    Holder,
    Keeper,
    PoolInfo,
    QuotaInfo,
    RegionInfo,
    Shutdown,
    Status,
    Store,
    UnguardedRegion,
)

__all__ = [
    "Amounts",
    "Broker",
    "Busy",
    "CacheModeUnavailable",
    "Denied",
    "Description",
    "Endpoint",
    "EndpointDetails",
    "EndpointEnded",
    "Error",
    "Exhausted",
    "Exists",
    "Holder",
    "IOFailed",
    "Invalid",
    "Keeper",
    "Lost",
    "Malformed",
    "NotFound",
    "Notice",
    "OverQuota",
    "PoolFull",
    "PoolInfo",
    "QuotaInfo",
    "Region",
    "RegionInfo",
    "Revoked",
    "Shutdown",
    "Status",
    "Store",
    "TimedOut",
    "Unavailable",
    "UnguardedRegion",
    "Unsupported",
    "VersionMismatch",
    "adopt",
    "connect",
    "describe",
    "dev",
    "inherited",
]
