"""Endpoints: what a connection can do about sockets that are an authority."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from typing import Any

from . import _library, _values
from ._library import check, encoded, library
from ._values import Amounts, Endpoint, EndpointDetails, EndpointEnded


class EndpointVerbs:
    """A part of Broker. Ids are each maker's own; an administrator names another's as "USER/ID"."""

    def endpoint_create(
        self,
        id: str,
        *,
        names: Iterable[str] = (),
        pools: Iterable[str] = (),
        verbs: Iterable[str] = (),
        access: str = "rw",
        limits: Amounts = Amounts(),  # noqa: B008 (immutable)
        ttl: float | None = None,
        on_end: str = "revoke",
        labels: Mapping[str, str] | None = None,
    ) -> Endpoint:
        """Makes an endpoint, which listens when this returns.

        Whoever can connect to its socket may do what it says, as far as the policy allows the caller the same. names:
        globs, all below USER/ID if there are none. pools, verbs: all if there are none. ttl: seconds. on_end: "revoke" or
        "keep". Errors: Exists, Invalid, OverQuota for too many endpoints; ValueError for a word that does not exist.
        """
        options = _library.EndpointOptions(
            size=ctypes.sizeof(_library.EndpointOptions),
            id=encoded(id),
            names=_texts(names),
            pools=_texts(pools),
            verbs=_texts(verbs),
            labels=_texts(f"{key}={value}" for key, value in (labels or {}).items()),
            rights=_values.number_of(_values.RIGHTS, access, "access"),
            limits=_values.limits_to(limits),
            ttl_ns=round((ttl or 0.0) * 1e9),
            on_end=_values.number_of(_values.ON_END, on_end, "on_end"),
        )
        info = _endpoint_info()
        check(library.mapcap_endpoint_create(self._handle(), ctypes.byref(options), ctypes.byref(info)))
        return _values.endpoint_from(info)

    def endpoints(self) -> list[Endpoint]:
        """The caller's own; every one for an administrator."""
        found: list[Endpoint] = []

        def visit(info: Any, _: Any) -> int:
            found.append(_values.endpoint_from(info.contents))
            return 0

        check(library.mapcap_endpoint_list(self._handle(), _library.ENDPOINT_VISITOR(visit), None))
        return found

    def endpoint(self, id: str) -> EndpointDetails:
        """One endpoint, and what it may do. Errors: NotFound; Invalid where the id could be several users'."""
        texts: tuple[list[str], ...] = ([], [], [], [])

        def visit(kind: int, text: bytes, _: Any) -> int:
            if kind < len(texts):
                texts[kind].append(_library.text(text))
            return 0

        info = _endpoint_info()
        visitor = _library.ENDPOINT_TEXT_VISITOR(visit)
        check(library.mapcap_endpoint_show(self._handle(), encoded(id), ctypes.byref(info), visitor, None))
        names, pools, verbs, labels = texts
        said = dict(label.split("=", 1) for label in labels)
        return EndpointDetails(_values.endpoint_from(info), tuple(names), tuple(pools), tuple(verbs), said)

    def endpoint_renew(self, id: str, ttl: float) -> Endpoint:
        """Restarts its ttl, in seconds. Errors: NotFound, Invalid for one without."""
        info = _endpoint_info()
        check(library.mapcap_endpoint_renew(self._handle(), encoded(id), round(ttl * 1e9), ctypes.byref(info)))
        return _values.endpoint_from(info)

    def endpoint_directory(self, id: str) -> int:
        """A descriptor, the caller's to close, of a mount of the endpoint's directory that is in no tree.

        Whoever has it can connect to /proc/self/fd/N/mapcap.sock, and reach nothing else by it. Errors: NotFound; Busy
        while it ends; Exhausted when the caller was given too many; Unsupported by a private broker without root, which
        serves `Endpoint.socket` all the same.
        """
        fd = ctypes.c_int(-1)
        check(library.mapcap_endpoint_directory(self._handle(), encoded(id), ctypes.byref(fd)))
        return fd.value

    def endpoint_end(self, id: str, *, revoke_opened: bool = False) -> EndpointEnded:
        """When it returns, nobody can connect or is connected, and what it made is revoked, or its maker's.

        revoke_opened: its maker's own regions end too that its clients have open; grants of other regions stay with
        whoever has them, and are told. Errors: NotFound; Busy when an end without revoke_opened is under way; IOFailed
        when the broker cannot record it, which can be repeated.
        """
        opened: list[str] = []

        def visit(name: bytes, _: Any) -> int:
            opened.append(_library.text(name))
            return 0

        options = _library.EndOptions(size=ctypes.sizeof(_library.EndOptions), revoke_opened=int(revoke_opened))
        raw = _library.EndInfo(size=ctypes.sizeof(_library.EndInfo))
        visitor = _library.OPENED_VISITOR(visit)
        check(
            library.mapcap_endpoint_end(
                self._handle(), encoded(id), ctypes.byref(options), ctypes.byref(raw), visitor, None
            )
        )
        return EndpointEnded(raw.revoked, raw.kept, raw.held, raw.opened, tuple(opened), raw.cut)

    def _handle(self) -> int:
        raise NotImplementedError


def _texts(texts: Iterable[str]) -> Any:
    """As C has a list: with NULL after the last."""
    all = [encoded(text) for text in texts]
    return (ctypes.c_char_p * (len(all) + 1))(*all, None) if all else None


def _endpoint_info() -> Any:
    return _library.EndpointInfo(size=ctypes.sizeof(_library.EndpointInfo))
