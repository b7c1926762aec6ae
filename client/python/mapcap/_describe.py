"""What a granted descriptor says of itself, without a broker."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from . import _library, _values
from ._library import check, library


@dataclass(frozen=True)
class Description:
    """A grant's own attributes (system.mapcap.*)."""

    name: str
    size: int
    access: str
    cache: str
    cache_requested: str
    cache_mechanism: str
    granularity: str
    domain: str
    map_sync: bool
    confinement: str
    published: float | None
    """Since when nobody can write it, in seconds since 1970-01-01 UTC; None: it is not published, or the process that
    answers for the grant is of an earlier version."""


def describe(fd: int) -> Description | None:
    """None for a descriptor that does not describe itself: other confinements than `clone`, and what is no grant.

    The descriptor stays the caller's. Errors: IOFailed, Malformed.
    """
    info = _library.region_info()
    rights, there = ctypes.c_int(), ctypes.c_int()
    check(library.mapcap_describe(fd, ctypes.byref(info), ctypes.byref(rights), ctypes.byref(there)))
    if not there.value:
        return None
    told = _values.region_from(info)
    return Description(
        name=told.name,
        size=told.size,
        access=_values.word_of(_values.RIGHTS, rights.value),
        cache=told.cache,
        cache_requested=told.cache_requested,
        cache_mechanism=told.cache_mechanism,
        granularity=told.granularity,
        domain=told.domain,
        map_sync=told.map_sync,
        confinement=told.confinement,
        published=told.published,
    )
