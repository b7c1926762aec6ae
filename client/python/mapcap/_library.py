"""libmapcap by ctypes: the structures and functions of <mapcap.h>, and its errors as exceptions."""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, Structure, c_char, c_char_p, c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any

from ._errors import BY_CODE, Error

NAME_ROOM = 257
POOL_ROOM = 65
ENDPOINT_ROOM = 65
REASON_ROOM = 257
PLACE_ROOM = 257
PATH_ROOM = 257
UNLIMITED = (1 << 64) - 1
SEAL_OF_POOL = -1
NO_MEMORY = 1001

PROGRESS = ctypes.CFUNCTYPE(None, c_uint64, c_uint64, c_void_p)
NO_PROGRESS: Any = PROGRESS.from_buffer(bytearray(ctypes.sizeof(PROGRESS)))
"""NULL."""


class ConnectOptions(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("socket", c_char_p),
        ("program", c_char_p),
        ("deadline_ms", c_int64),
        ("reconnect_within_ms", c_int64),
        ("wait_for_broker_ms", c_int64),
        ("notices", c_int),
    ]


class RegionInfo(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("id", c_uint64),
        ("name", c_char * NAME_ROOM),
        ("pool", c_char * POOL_ROOM),
        ("owner", c_uint32),
        ("group", c_uint32),
        ("mode", c_uint32),
        ("bytes", c_uint64),
        ("cache_requested", c_int),
        ("cache_required", c_int),
        ("cache_effective", c_int),
        ("cache_mechanism", c_int),
        ("cache_verified", c_int),
        ("granularity", c_int),
        ("domain", c_int),
        ("map_sync", c_int),
        ("confinement", c_int),
        ("seal", c_int),
        ("lifetime", c_int),
        ("ttl_ns", c_int64),
        ("created_unix_ns", c_int64),
        ("remaining_ns", c_int64),
        ("state", c_int),
        ("grants", c_uint32),
        ("held", c_uint64),
        ("bad_blocks", c_uint32),
        ("published_unix_ns", c_int64),
        ("draining", c_int),
        ("endpoint", c_char * ENDPOINT_ROOM),
    ]


class HolderInfo(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("uid", c_uint32),
        ("rights", c_int),
        ("count", c_uint32),
        ("endpoint", c_char * ENDPOINT_ROOM),
        ("ended", c_int),
        ("unit", c_char * PLACE_ROOM),
        ("container", c_char * PLACE_ROOM),
        ("cgroup", c_char * PLACE_ROOM),
    ]


class CreateOptions(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("name", c_char_p),
        ("bytes", c_uint64),
        ("pool", c_char_p),
        ("cache_mode", c_int),
        ("cache_required", c_int),
        ("lifetime", c_int),
        ("ttl_ns", c_int64),
        ("mode", c_uint32),
        ("has_group", c_int),
        ("group", c_uint32),
        ("seal", c_int),
        ("progress", PROGRESS),
        ("progress_context", c_void_p),
    ]


class RevokeOptions(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("drain", c_int),
        ("within_ns", c_int64),
        ("progress", PROGRESS),
        ("progress_context", c_void_p),
    ]


class PoolInfo(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("name", c_char * POOL_ROOM),
        ("backing", c_char * 16),
        ("capacity", c_uint64),
        ("used", c_uint64),
        ("regions", c_uint64),
        ("granule", c_uint64),
        ("confinement", c_int),
        ("seals", c_uint32),
        ("default_seal", c_int),
        ("cache_modes", c_uint32),
        ("granularity", c_int),
        ("domain", c_int),
        ("map_sync", c_int),
        ("cache_verified", c_int),
        ("confinement_reason", c_char * REASON_ROOM),
    ]


class Amounts(Structure):
    _fields_ = [("bytes", c_uint64), ("regions", c_uint64), ("grants", c_uint64), ("connections", c_uint64)]


class QuotaInfo(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("subject", c_int),
        ("id", c_uint32),
        ("pool", c_char * POOL_ROOM),
        ("limits", Amounts),
        ("used", Amounts),
        ("overridden", c_int),
        ("endpoint", c_char * ENDPOINT_ROOM),
    ]


class EndpointOptions(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("id", c_char_p),
        ("names", POINTER(c_char_p)),
        ("pools", POINTER(c_char_p)),
        ("verbs", POINTER(c_char_p)),
        ("labels", POINTER(c_char_p)),
        ("rights", c_int),
        ("limits", Amounts),
        ("ttl_ns", c_int64),
        ("on_end", c_int),
    ]


class EndpointInfo(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("id", c_char * ENDPOINT_ROOM),
        ("directory", c_char * PATH_ROOM),
        ("maker", c_uint32),
        ("principal", c_uint32),
        ("state", c_int),
        ("rights", c_int),
        ("limits", Amounts),
        ("used", Amounts),
        ("ttl_ns", c_int64),
        ("created_unix_ns", c_int64),
        ("remaining_ns", c_int64),
        ("on_end", c_int),
    ]


class EndOptions(Structure):
    _fields_ = [("size", c_size_t), ("revoke_opened", c_int)]


class EndInfo(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("revoked", c_uint64),
        ("kept", c_uint64),
        ("held", c_uint64),
        ("opened", c_uint64),
        ("cut", c_uint64),
    ]


class StatusInfo(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("broker", c_char * 65),
        ("pid", c_uint32),
        ("started_unix_ns", c_int64),
        ("policy", c_char * 256),
        ("policy_loaded_unix_ns", c_int64),
        ("regions", c_uint64 * 6),
        ("unguarded", c_uint64),
        ("keeper_pid", c_uint32),
        ("keeper_serving", c_int),
        ("keeper_adopted", c_int),
        ("keeper_held", c_uint64),
        ("keeper_replaced", c_uint64),
        ("keeper_last_end", c_char * 256),
        ("ledger_trouble", c_char * 512),
        ("has_store", c_int),
        ("store_stored", c_uint64),
        ("store_without_place", c_uint64),
        ("store_most", c_uint64),
        ("connections", c_uint32),
        ("max_connections", c_uint32),
        ("keeper_blanks", c_uint64),
        ("keeper_blanks_used", c_uint64),
        ("keeper_opens", c_uint64),
        ("keeper_opens_used", c_uint64),
        ("keeper_sockets", c_uint64),
        ("store_sockets", c_uint64),
    ]


class ShutdownOptions(Structure):
    _fields_ = [("size", c_size_t), ("end_regions", c_int), ("only_tell", c_int)]


class ShutdownInfo(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("regions", c_uint64),
        ("users", c_uint64),
        ("bytes", c_uint64),
        ("lasting", c_uint64),
        ("quarantined", c_uint64),
    ]


class Notice(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("kind", c_int),
        ("region", c_uint64),
        ("name", c_char * NAME_ROOM),
        ("within_ns", c_int64),
        ("resumed", c_int),
    ]


class DevOptions(Structure):
    _fields_ = [("size", c_size_t), ("command", c_char_p), ("start_within_ms", c_int64)]


REGION_VISITOR = ctypes.CFUNCTYPE(c_int, POINTER(RegionInfo), c_void_p)
HOLDER_VISITOR = ctypes.CFUNCTYPE(c_int, POINTER(HolderInfo), c_void_p)
POOL_VISITOR = ctypes.CFUNCTYPE(c_int, POINTER(PoolInfo), c_void_p)
QUOTA_VISITOR = ctypes.CFUNCTYPE(c_int, POINTER(QuotaInfo), c_void_p)
ENDPOINT_VISITOR = ctypes.CFUNCTYPE(c_int, POINTER(EndpointInfo), c_void_p)
ENDPOINT_TEXT_VISITOR = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
OPENED_VISITOR = ctypes.CFUNCTYPE(c_int, c_char_p, c_void_p)
UNGUARDED_VISITOR = ctypes.CFUNCTYPE(c_int, c_uint64, c_char_p, c_uint32, c_void_p)

# name: (what it returns, what it takes). A handle is a void pointer.
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "mapcap_error_code": (c_int, []),
    "mapcap_error_sentence": (c_char_p, []),
    "mapcap_error_detail": (c_char_p, [c_char_p]),
    "mapcap_error_detail_key": (c_char_p, [c_size_t]),
    "mapcap_code_name": (c_char_p, [c_int]),
    "mapcap_version": (c_char_p, []),
    "mapcap_connect": (c_int, [POINTER(ConnectOptions), POINTER(c_void_p)]),
    "mapcap_disconnect": (None, [c_void_p]),
    "mapcap_client_fd": (c_int, [c_void_p]),
    "mapcap_client_broker": (c_char_p, [c_void_p]),
    "mapcap_client_socket": (c_char_p, [c_void_p]),
    "mapcap_create": (c_int, [c_void_p, POINTER(CreateOptions), POINTER(RegionInfo)]),
    "mapcap_create_grant": (c_int, [c_void_p, POINTER(CreateOptions), c_int, POINTER(c_void_p)]),
    "mapcap_open": (c_int, [c_void_p, c_char_p, c_int, POINTER(c_void_p)]),
    "mapcap_list": (c_int, [c_void_p, c_char_p, REGION_VISITOR, c_void_p]),
    "mapcap_show": (c_int, [c_void_p, c_char_p, POINTER(RegionInfo), HOLDER_VISITOR, c_void_p]),
    "mapcap_renew": (c_int, [c_void_p, c_char_p, c_int64, POINTER(RegionInfo)]),
    "mapcap_revoke": (
        c_int,
        [c_void_p, c_char_p, POINTER(RevokeOptions), POINTER(c_uint64), POINTER(c_uint32)],
    ),
    "mapcap_publish": (c_int, [c_void_p, c_char_p, c_int64, POINTER(RegionInfo)]),
    "mapcap_clone": (c_int, [c_void_p, c_int, c_int, POINTER(c_void_p)]),
    "mapcap_pools": (c_int, [c_void_p, POOL_VISITOR, c_void_p]),
    "mapcap_quota": (c_int, [c_void_p, QUOTA_VISITOR, c_void_p]),
    "mapcap_quota_set": (c_int, [c_void_p, c_int, c_uint32, c_char_p, POINTER(Amounts)]),
    "mapcap_quota_clear": (c_int, [c_void_p, c_int, c_uint32, c_char_p]),
    "mapcap_endpoint_create": (c_int, [c_void_p, POINTER(EndpointOptions), POINTER(EndpointInfo)]),
    "mapcap_endpoint_list": (c_int, [c_void_p, ENDPOINT_VISITOR, c_void_p]),
    "mapcap_endpoint_show": (c_int, [c_void_p, c_char_p, POINTER(EndpointInfo), ENDPOINT_TEXT_VISITOR, c_void_p]),
    "mapcap_endpoint_renew": (c_int, [c_void_p, c_char_p, c_int64, POINTER(EndpointInfo)]),
    "mapcap_endpoint_directory": (c_int, [c_void_p, c_char_p, POINTER(c_int)]),
    "mapcap_endpoint_end": (
        c_int,
        [c_void_p, c_char_p, POINTER(EndOptions), POINTER(EndInfo), OPENED_VISITOR, c_void_p],
    ),
    "mapcap_status": (c_int, [c_void_p, POINTER(StatusInfo), UNGUARDED_VISITOR, c_void_p]),
    "mapcap_shutdown": (c_int, [c_void_p, POINTER(ShutdownOptions), POINTER(ShutdownInfo)]),
    "mapcap_next_notice": (c_int, [c_void_p, POINTER(Notice), POINTER(c_int)]),
    "mapcap_grant_close": (None, [c_void_p]),
    "mapcap_grant_release": (c_int, [c_void_p]),
    "mapcap_grant_fd": (c_int, [c_void_p]),
    "mapcap_grant_rights": (c_int, [c_void_p]),
    "mapcap_grant_size": (c_uint64, [c_void_p]),
    "mapcap_grant_info": (c_int, [c_void_p, POINTER(RegionInfo)]),
    "mapcap_grant_adopt": (c_int, [c_int, POINTER(c_void_p)]),
    "mapcap_inherited": (c_int, [c_char_p, POINTER(c_void_p)]),
    "mapcap_describe": (c_int, [c_int, POINTER(RegionInfo), POINTER(c_int), POINTER(c_int)]),
    "mapcap_map": (c_int, [c_void_p, c_int, POINTER(c_void_p)]),
    "mapcap_unmap": (None, [c_void_p]),
    "mapcap_persist": (c_int, [c_void_p, c_size_t, c_size_t, POINTER(c_int)]),
    "mapcap_flush": (c_int, [c_void_p, c_size_t, c_size_t, POINTER(c_int)]),
    "mapcap_drain": (c_int, [c_void_p]),
    "mapcap_copy_persist": (c_int, [c_void_p, c_size_t, c_char_p, c_size_t, POINTER(c_int)]),
    "mapcap_fill_persist": (c_int, [c_void_p, c_size_t, c_int, c_size_t, POINTER(c_int)]),
    "mapcap_read": (c_int, [c_void_p, c_size_t, c_void_p, c_size_t]),
    "mapcap_write": (c_int, [c_void_p, c_size_t, c_char_p, c_size_t]),
    "mapcap_dev_start": (c_int, [POINTER(DevOptions), POINTER(c_void_p)]),
    "mapcap_dev_socket": (c_char_p, [c_void_p]),
    "mapcap_dev_stop": (None, [c_void_p]),
}


def _load() -> ctypes.CDLL:
    """$MAPCAP_LIBRARY, else what the dynamic linker finds. Errors: ImportError."""
    path = os.environ.get("MAPCAP_LIBRARY") or "libmapcap.so.0"
    try:
        library = ctypes.CDLL(path, use_errno=False)
    except OSError as error:
        raise ImportError(
            f"libmapcap cannot be loaded: {error}; install it (cmake --install, or the package libmapcap0), or name "
            "the file in the environment variable MAPCAP_LIBRARY"
        ) from error
    for name, (returns, takes) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype = returns
        function.argtypes = takes
    return library


library: Any = _load()


def text(value: bytes | None) -> str:
    """What the library says, for Python; what is no UTF-8 survives a round trip."""
    return (value or b"").decode("utf-8", "surrogateescape")


def encoded(value: str) -> bytes:
    """The other way. Errors: ValueError for a text with a NUL, which C would cut short."""
    if "\0" in value:
        raise ValueError(f"{value!r} has a NUL in it")
    return value.encode("utf-8", "surrogateescape")


def check(code: int) -> None:
    """Raises what a function of the library returned, as the exception of its code."""
    if code == 0:
        return
    if code == NO_MEMORY:
        raise MemoryError
    name = text(library.mapcap_code_name(code))
    details: dict[str, str] = {}
    index = 0
    while (key := library.mapcap_error_detail_key(index)) is not None:
        details[text(key)] = text(library.mapcap_error_detail(key))
        index += 1
    raise BY_CODE.get(name, Error)(text(library.mapcap_error_sentence()), name, details)


def region_info() -> RegionInfo:
    """An empty structure for the library to fill in."""
    info = RegionInfo()
    info.size = ctypes.sizeof(RegionInfo)
    return info
