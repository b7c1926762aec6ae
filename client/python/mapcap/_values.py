"""What is known of regions, pools and quotas, as plain immutable values. Sizes are bytes, times seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from . import _library

RIGHTS: Final = ("ro", "rw")
CACHE_MODES: Final = ("wb", "wt", "wc", "uc")
CACHE_MECHANISMS: Final = ("page-attribute", "store-discipline", "platform")
GRANULARITIES: Final = ("none", "page", "cache-line", "byte")
DOMAINS: Final = ("volatile", "block-device", "memory-controller", "cpu-cache")
CONFINEMENTS: Final = ("sealed", "clone", "native", "lsm")
SEALS: Final = ("sealed", "revocable", "irrevocable")
LIFETIMES: Final = ("connection", "ttl", "persistent")
STATES: Final = ("live", "revoking", "draining", "scrubbing", "quarantined", "lost")
SUBJECTS: Final = ("any", "user", "group")
ON_END: Final = ("revoke", "keep")
ENDPOINT_STATES: Final = ("active", "ending", "ended")


def number_of(words: tuple[str, ...], word: str, what: str) -> int:
    """Errors: ValueError, with the words that there are."""
    try:
        return words.index(word)
    except ValueError:
        raise ValueError(f"{what} is {word!r}; it is one of {', '.join(map(repr, words))}") from None


def word_of(words: tuple[str, ...], number: int) -> str:
    """A newer broker may know words that this package does not."""
    return words[number] if 0 <= number < len(words) else f"unknown-{number}"


@dataclass(frozen=True)
class RegionInfo:
    """A region as it was when the broker answered."""

    id: int
    """Never reused; 0 where it is not known (a grant that came from another process)."""
    name: str
    pool: str
    owner: int
    group: int
    mode: int
    size: int
    cache: str
    """The effective cache mode: "wb", "wt", "wc" or "uc"."""
    cache_requested: str
    cache_mechanism: str
    cache_verified: bool
    granularity: str
    """What a store must be followed by to be durable: "none" (never), "page", "cache-line", "byte"."""
    domain: str
    map_sync: bool
    confinement: str
    seal: str
    lifetime: str
    ttl: float | None
    created: float
    """Seconds since 1970-01-01 UTC."""
    remaining: float | None
    """Seconds until it expires; None: it does not expire by time."""
    state: str
    grants: int
    held: int
    bad_blocks: int
    published: float | None
    """Since when nobody can write it, in seconds since 1970-01-01 UTC; None: it is not published."""
    draining: bool
    """Of one that is revoking: its holders may finish first."""
    endpoint: str
    """The endpoint whose number `owner` is; empty: a user's."""


@dataclass(frozen=True)
class Holder:
    """Grants of one region that one user or endpoint holds."""

    uid: int
    access: str
    count: int
    endpoint: str
    """The endpoint whose number `uid` is; empty: none."""
    ended: bool
    """That endpoint has ended, and these grants stay with whoever has them."""
    unit: str
    """Where whoever got them ran when he connected, a label and no authority: "postgresql.service"; empty: not known."""
    container: str
    """The first 12 digits of its id; empty: in none, or not known."""
    cgroup: str
    """The path, where it is neither."""


@dataclass(frozen=True)
class PoolInfo:
    """A pool as the broker serves it."""

    name: str
    backing: str
    capacity: int
    used: int
    regions: int
    granule: int
    confinement: str
    seals: tuple[str, ...]
    default_seal: str
    cache_modes: tuple[str, ...]
    granularity: str
    domain: str
    map_sync: bool
    cache_verified: bool
    """The modes were read back from the kernel."""
    confinement_reason: str
    """Why not a stronger one; empty for the strongest."""


@dataclass(frozen=True)
class Amounts:
    """What is used, or a limit: None is no limit."""

    bytes: int | None = None
    regions: int | None = None
    grants: int | None = None
    connections: int | None = None


@dataclass(frozen=True)
class QuotaInfo:
    """One slot: of a user, a group, or each user that has none of its own ("any")."""

    subject: str
    id: int
    pool: str
    """Empty: over all pools."""
    limits: Amounts
    used: Amounts
    overridden: bool
    endpoint: str
    """The endpoint whose number a user's `id` is; empty: none."""


@dataclass(frozen=True)
class Endpoint:
    """A socket that is an authority, as it was when the broker answered."""

    id: str
    directory: str
    """Of its socket, mapcap.sock: for a container, by a read-only mount."""
    maker: int
    principal: int
    """What its regions' owner, holders and quotas call it."""
    state: str
    access: str
    limits: Amounts
    used: Amounts
    ttl: float | None
    """None: it does not end by time."""
    created: float
    """Seconds since 1970-01-01 UTC."""
    remaining: float | None
    on_end: str
    """What becomes of what it made: "revoke", or "keep" by its maker."""

    @property
    def socket(self) -> str:
        """For MAPCAP_SOCKET and connect()."""
        return self.directory + "/mapcap.sock"


@dataclass(frozen=True)
class EndpointDetails:
    """One endpoint, and what it may do."""

    endpoint: Endpoint
    names: tuple[str, ...]
    pools: tuple[str, ...]
    """Empty: all."""
    verbs: tuple[str, ...]
    labels: dict[str, str]


@dataclass(frozen=True)
class EndpointEnded:
    """What became of what an endpoint had made and opened."""

    revoked: int
    kept: int
    held: int
    """Bytes that stay charged until the last holder lets go."""
    opened: int
    """Grants of regions that live on, still with whoever got them through it."""
    opened_regions: tuple[str, ...]
    """Their names; 64 at most."""
    cut: int
    """Regions of its maker that were revoked because its clients had them open."""


@dataclass(frozen=True)
class UnguardedRegion:
    """A region whose memory nobody but the broker and its clients holds at the moment."""

    id: int
    name: str
    owner: int


@dataclass(frozen=True)
class Keeper:
    """The process that holds volatile memory over the broker's death."""

    pid: int
    """0: there is none at the moment."""
    serving: bool
    adopted: bool
    held: int
    """Regions whose memory it holds."""
    replaced: int
    last_end: str
    """How the last one ended; empty: none did."""
    blanks: int
    """Made ahead of creates and ready: memory without size, nobody's."""
    blanks_used: int
    """Creates that took one, since the broker started."""
    opens: int
    """Made ahead of opens and ready: grants of regions, nobody's."""
    opens_used: int
    """Opens that took one, since the broker started."""
    sockets: int
    """Listening sockets of endpoints that it holds."""


@dataclass(frozen=True)
class Store:
    """The service manager's fd store."""

    stored: int
    """Regions."""
    without_place: int
    most: int | None
    """Regions and sockets; None: nobody says."""
    sockets: int
    """Listening sockets of endpoints."""


@dataclass(frozen=True)
class Status:
    """How the broker is."""

    broker: str
    pid: int
    started: float
    """Seconds since 1970-01-01 UTC."""
    policy: str
    policy_loaded: float
    regions: dict[str, int]
    """How many, by state; states that no region has are left out."""
    unguarded: int
    """Regions that would be lost if the broker died now."""
    unguarded_regions: tuple[UnguardedRegion, ...]
    """Some of them; for administrators."""
    keeper: Keeper
    ledger_trouble: str
    """Why changes are refused (a full disk); empty: they are not."""
    store: Store | None
    """None: no service manager keeps descriptors."""
    connections: int
    max_connections: int


@dataclass(frozen=True)
class Shutdown:
    """What a shutdown ended, or left."""

    regions: int
    """Of volatile memory: those that stay with the keeper, or that ended."""
    users: int
    bytes: int
    lasting: int
    """Regions of non-volatile memory, which stay as they are."""
    quarantined: int
    """Of `regions`: devices that somebody still has, which end when he lets go."""


def status_from(raw: Any, unguarded: tuple[UnguardedRegion, ...]) -> Status:
    text = _library.text
    most = None if raw.store_most == _library.UNLIMITED else raw.store_most
    return Status(
        broker=text(raw.broker),
        pid=raw.pid,
        started=raw.started_unix_ns / 1e9,
        policy=text(raw.policy),
        policy_loaded=raw.policy_loaded_unix_ns / 1e9,
        regions={state: count for state, count in zip(STATES, raw.regions, strict=True) if count},
        unguarded=raw.unguarded,
        unguarded_regions=unguarded,
        keeper=Keeper(
            raw.keeper_pid,
            bool(raw.keeper_serving),
            bool(raw.keeper_adopted),
            raw.keeper_held,
            raw.keeper_replaced,
            text(raw.keeper_last_end),
            raw.keeper_blanks,
            raw.keeper_blanks_used,
            raw.keeper_opens,
            raw.keeper_opens_used,
            raw.keeper_sockets,
        ),
        ledger_trouble=text(raw.ledger_trouble),
        store=Store(raw.store_stored, raw.store_without_place, most, raw.store_sockets) if raw.has_store else None,
        connections=raw.connections,
        max_connections=raw.max_connections,
    )


def region_from(raw: Any) -> RegionInfo:
    """From the library's structure."""
    return RegionInfo(
        id=raw.id,
        name=_library.text(raw.name),
        pool=_library.text(raw.pool),
        owner=raw.owner,
        group=raw.group,
        mode=raw.mode,
        size=raw.bytes,
        cache=word_of(CACHE_MODES, raw.cache_effective),
        cache_requested=word_of(CACHE_MODES, raw.cache_requested),
        cache_mechanism=word_of(CACHE_MECHANISMS, raw.cache_mechanism),
        cache_verified=bool(raw.cache_verified),
        granularity=word_of(GRANULARITIES, raw.granularity),
        domain=word_of(DOMAINS, raw.domain),
        map_sync=bool(raw.map_sync),
        confinement=word_of(CONFINEMENTS, raw.confinement),
        seal=word_of(SEALS, raw.seal),
        lifetime=word_of(LIFETIMES, raw.lifetime),
        ttl=raw.ttl_ns / 1e9 if raw.lifetime == LIFETIMES.index("ttl") else None,
        created=raw.created_unix_ns / 1e9,
        remaining=raw.remaining_ns / 1e9 if raw.remaining_ns >= 0 else None,
        state=word_of(STATES, raw.state),
        grants=raw.grants,
        held=raw.held,
        bad_blocks=raw.bad_blocks,
        published=raw.published_unix_ns / 1e9 if raw.published_unix_ns else None,
        draining=bool(raw.draining),
        endpoint=_library.text(raw.endpoint),
    )


def holder_from(raw: Any) -> Holder:
    """From the library's structure."""
    return Holder(
        uid=raw.uid,
        access=word_of(RIGHTS, raw.rights),
        count=raw.count,
        endpoint=_library.text(raw.endpoint),
        ended=bool(raw.ended),
        unit=_library.text(raw.unit),
        container=_library.text(raw.container),
        cgroup=_library.text(raw.cgroup),
    )


def pool_from(raw: Any) -> PoolInfo:
    """From the library's structure."""

    def words_in(words: tuple[str, ...], bits: int) -> tuple[str, ...]:
        return tuple(word for index, word in enumerate(words) if bits >> index & 1)

    return PoolInfo(
        name=_library.text(raw.name),
        backing=_library.text(raw.backing),
        capacity=raw.capacity,
        used=raw.used,
        regions=raw.regions,
        granule=raw.granule,
        confinement=word_of(CONFINEMENTS, raw.confinement),
        seals=words_in(SEALS, raw.seals),
        default_seal=word_of(SEALS, raw.default_seal),
        cache_modes=words_in(CACHE_MODES, raw.cache_modes),
        granularity=word_of(GRANULARITIES, raw.granularity),
        domain=word_of(DOMAINS, raw.domain),
        map_sync=bool(raw.map_sync),
        cache_verified=bool(raw.cache_verified),
        confinement_reason=_library.text(raw.confinement_reason),
    )


def limits_from(raw: Any) -> Amounts:
    """From the library's structure."""

    def limit(value: int) -> int | None:
        return None if value == _library.UNLIMITED else value

    return Amounts(limit(raw.bytes), limit(raw.regions), limit(raw.grants), limit(raw.connections))


def limits_to(limits: Amounts) -> Any:
    """The other way."""

    def limit(value: int | None) -> int:
        return _library.UNLIMITED if value is None else value

    return _library.Amounts(
        limit(limits.bytes), limit(limits.regions), limit(limits.grants), limit(limits.connections)
    )


def used_from(raw: Any) -> Amounts:
    """From the library's structure, of what is used."""
    return Amounts(raw.bytes, raw.regions, raw.grants, raw.connections)


def endpoint_from(raw: Any) -> Endpoint:
    """From the library's structure."""
    return Endpoint(
        id=_library.text(raw.id),
        directory=_library.text(raw.directory),
        maker=raw.maker,
        principal=raw.principal,
        state=word_of(ENDPOINT_STATES, raw.state),
        access=word_of(RIGHTS, raw.rights),
        limits=limits_from(raw.limits),
        used=used_from(raw.used),
        ttl=raw.ttl_ns / 1e9 if raw.ttl_ns else None,
        created=raw.created_unix_ns / 1e9,
        remaining=raw.remaining_ns / 1e9 if raw.remaining_ns >= 0 else None,
        on_end=word_of(ON_END, raw.on_end),
    )


def quota_from(raw: Any) -> QuotaInfo:
    """From the library's structure."""
    return QuotaInfo(
        subject=word_of(SUBJECTS, raw.subject),
        id=raw.id,
        pool=_library.text(raw.pool),
        limits=limits_from(raw.limits),
        used=used_from(raw.used),
        overridden=bool(raw.overridden),
        endpoint=_library.text(raw.endpoint),
    )
