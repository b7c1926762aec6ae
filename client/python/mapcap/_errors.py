"""What libmapcap reports, as exceptions: one class for each code."""

from __future__ import annotations


class Error(Exception):
    """Something failed. str(error) is one sentence that says what is wrong, where, and what to do."""

    code: str = "unexpected"
    """The short stable name: "not_found"."""

    def __init__(self, sentence: str, code: str | None = None, details: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        if code is not None:
            self.code = code
        self.details: dict[str, str] = details or {}
        """Facts for programs, such as {"slot": "user alice in pool dram", "asked": "1048576"}."""


class Malformed(Error):
    """The other side sent what the protocol does not allow."""

    code = "malformed"


class VersionMismatch(Error):
    """No protocol version that both sides speak."""

    code = "version"


class Denied(Error):
    """The policy, or the region's mode, does not allow it."""

    code = "denied"


class NotFound(Error):
    """No such region, pool or quota."""

    code = "not_found"


class Exists(Error):
    """The name is taken."""

    code = "exists"


class OverQuota(Error):
    """A quota would be exceeded; details: slot, used, limit, asked."""

    code = "over_quota"


class PoolFull(Error):
    """The pool's capacity would be exceeded."""

    code = "pool_full"


class Invalid(Error):
    """An argument is outside its range or makes no sense here."""

    code = "invalid"


class CacheModeUnavailable(Error):
    """The required cache mode cannot be met."""

    code = "cache_mode"


class Unsupported(Error):
    """The pool, the confinement or the machine cannot do this."""

    code = "unsupported"


class Busy(Error):
    """The region is being revoked, drained or scrubbed."""

    code = "busy"


class Lost(Error):
    """A region whose memory is not there any more."""

    code = "lost"


class TimedOut(Error):
    """A deadline passed."""

    code = "timed_out"


class IOFailed(Error):
    """The kernel or a device refused; details: errno, call."""

    code = "io"


class Exhausted(Error):
    """A limit per client on connections, requests or descriptors."""

    code = "exhausted"


class Unavailable(Error):
    """No broker answers at the socket."""

    code = "unavailable"


class Revoked(Error):
    """The mapping was taken away while it was being used."""

    code = "revoked"


BY_CODE: dict[str, type[Error]] = {
    kind.code: kind
    for kind in (
        Malformed,
        VersionMismatch,
        Denied,
        NotFound,
        Exists,
        OverQuota,
        PoolFull,
        Invalid,
        CacheModeUnavailable,
        Unsupported,
        Busy,
        Lost,
        TimedOut,
        IOFailed,
        Exhausted,
        Unavailable,
        Revoked,
    )
}
"""Every class above by its code."""
