"""A small model of what a policy allows, written from policy/default.toml, README.md and broker/DESIGN.md.

It knows nothing of how mapcapd does it: rules are held against requests one by one, globs are regular expressions, and
a quota is a sum over all regions that there are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

PAGE = 4096
NAMELESS = {"pools", "quota", "quota-set", "clone", "endpoint", "shutdown", "reload", "policy"}
ADMINISTRATIVE = {"quota-set", "shutdown", "reload", "policy"}
RIGHTS = {"ro": 0, "rw": 1}
BITS = {"ro": 4, "rw": 6}


@dataclass(frozen=True)
class Lender:
    uid: int
    name: str
    groups: frozenset[int]


@dataclass(frozen=True)
class Person:
    """Who asks, as the kernel attests him, and what the machine's accounts say of his uid."""

    uid: int
    gid: int
    groups: frozenset[int]  # All, the primary one too.
    name: str  # What {user} stands for.
    administrator: bool = False
    lender: Lender | None = None

    @property
    def account(self) -> int:
        """Who pays: somebody who was lent his uid is one user with whom it was lent by."""
        return self.uid if self.lender is None else self.lender.uid

    @property
    def counted_groups(self) -> frozenset[int]:
        return self.groups if self.lender is None else self.groups | self.lender.groups


@dataclass
class Pool:
    name: str
    capacity: int
    seals: list[str]


@dataclass
class Rule:
    subject: tuple[str, object]  # ("any", True), ("user", 1), ("group", 1), ("uid", [1]), ("administrator", True)
    deny: bool = False
    names: list[str] = field(default_factory=list)
    pools: list[str] = field(default_factory=list)
    verbs: list[str] = field(default_factory=list)
    rights: list[str] = field(default_factory=list)
    lifetimes: list[str] = field(default_factory=list)
    seals: list[str] = field(default_factory=list)
    cache: list[str] = field(default_factory=list)
    max_ttl: int | None = None  # seconds
    max_size: int | None = None
    published: bool = False


@dataclass
class Quota:
    subject: tuple[str, object]  # ("any", True), ("user", 1), ("group", 1)
    pool: str = ""
    bytes: int | None = None
    share: int | None = None  # percent of the capacity of `pool`
    regions: int | None = None


@dataclass
class Request:
    verb: str
    name: str = ""
    size: int = PAGE
    pool: str = ""
    lifetime: str = "persistent"
    ttl: float = 0.0  # seconds: of a create with the lifetime ttl, and of a renew
    mode: int = 0o600
    group: int | None = None
    seal: str | None = None
    rights: str | None = None  # Of a create: the grant that it asks for.
    cache: str = "wb"
    cache_required: bool = False


@dataclass
class Region:
    name: str
    owner: int
    account: int
    groups: frozenset[int]  # In which it counts: those of whoever made it, at that time.
    group: int
    mode: int
    pool: str
    size: int
    seal: str
    lifetime: str
    ttl: float


@dataclass
class Ask:
    """A request with everything filled in, as rules are held against it. None: makes no sense with the verb."""

    verb: str
    name: str = ""
    pool: str = ""
    rights: str | None = None
    cache: str | None = None
    lifetime: str | None = None
    ttl: float = 0.0
    size: int | None = None
    seal: str | None = None


def pattern_of(glob: str, person_name: str, uid: int) -> re.Pattern[str]:
    glob = glob.replace("{user}", person_name).replace("{uid}", str(uid))
    out = ""
    for piece in re.findall(r"\*\*+|\*|\?|[^*?]+", glob):
        if piece.startswith("**"):
            out += ".*"
        elif piece == "*":
            out += "[^/]*"
        elif piece == "?":
            out += "[^/]"
        else:
            out += re.escape(piece)
    return re.compile(out, re.DOTALL)


def matches(glob: str, name: str, person: Person, with_lender: bool) -> bool:
    if pattern_of(glob, person.name, person.uid).fullmatch(name):
        return True
    lender = person.lender
    return with_lender and lender is not None and bool(pattern_of(glob, lender.name, lender.uid).fullmatch(name))


class Model:
    def __init__(self, pools: list[Pool], rules: list[Rule], quotas: list[Quota]) -> None:
        self.pools, self.rules, self.quotas = pools, rules, quotas
        self.regions: dict[str, Region] = {}

    # ---- the rules

    def about(self, rule: Rule, person: Person) -> bool:
        kind, whom = rule.subject
        if kind == "any":
            return True
        if kind == "administrator":
            return person.administrator
        lender = person.lender if rule.deny else None  # Denies follow to who was lent the uid.
        if kind == "group":
            return whom in person.groups or (lender is not None and whom in lender.groups)
        uids = whom if isinstance(whom, list) else [whom]
        return person.uid in uids or (lender is not None and lender.uid in uids)

    def about_lender(self, rule: Rule, person: Person) -> bool:
        kind, whom = rule.subject
        if not rule.deny or person.lender is None:
            return False
        if kind == "group":
            return whom in person.lender.groups
        return kind in ("user", "uid") and person.lender.uid in (whom if isinstance(whom, list) else [whom])

    def speaks(self, rule: Rule, person: Person, ask: Ask) -> bool:
        if not self.about(rule, person):
            return False
        if rule.verbs:
            if ask.verb not in rule.verbs:
                return False
        else:
            if ask.verb in ADMINISTRATIVE and not rule.deny and not person.administrator:
                return False
            if ask.verb in NAMELESS and (rule.names or rule.pools):
                return False
        if rule.names and ask.verb not in NAMELESS:
            lent = self.about_lender(rule, person)
            if not any(matches(glob, ask.name, person, lent) for glob in rule.names):
                return False
        def fits(listed: object, asked: object, match: Callable[[], bool]) -> bool:
            if not listed:
                return True
            if asked is None or asked == "":
                # It makes no sense here: it restricts no allow, and no deny applies that lists it; but a deny that lists a
                # verb about no region is about that verb, whatever it says of regions.
                return not rule.deny or (bool(rule.verbs) and ask.verb in NAMELESS)
            return match()

        makes = ask.verb in ("create", "renew")
        return (
            fits(rule.pools, ask.pool, lambda: ask.pool in rule.pools)
            and fits(rule.rights, ask.rights, lambda: self.rights_fit(rule, ask.rights))
            and fits(rule.cache, ask.cache, lambda: ask.cache in rule.cache)
            and fits(rule.lifetimes, ask.lifetime, lambda: ask.lifetime in rule.lifetimes)
            and fits(rule.max_ttl and makes, ask.lifetime, lambda: self.ttl_fits(rule, ask))
            and fits(rule.max_size and makes, ask.size, lambda: ask.size <= rule.max_size)
            and fits(rule.seals, ask.seal, lambda: ask.seal in rule.seals)
            # Nothing is published here, so what opens published regions alone opens none.
            and not (rule.published and ask.verb == "open")
        )

    def rights_fit(self, rule: Rule, asked: str) -> bool:
        listed = [RIGHTS[one] for one in rule.rights]
        return RIGHTS[asked] >= min(listed) if rule.deny else RIGHTS[asked] <= max(listed)

    def ttl_fits(self, rule: Rule, ask: Ask) -> bool:
        if ask.lifetime == "persistent":
            return bool(rule.lifetimes)  # A maximum alone leaves out what never ends.
        return ask.lifetime != "ttl" or ask.ttl <= rule.max_ttl

    def allowed(self, person: Person, ask: Ask) -> bool:
        speaking = [rule for rule in self.rules if self.speaks(rule, person, ask)]
        return bool(speaking) and not any(rule.deny for rule in speaking)

    # ---- regions that there are

    def bits(self, person: Person, region: Region) -> int:
        if person.uid == region.owner:
            return region.mode >> 6 & 7
        if region.group in person.groups:
            return region.mode >> 3 & 7
        return region.mode & 7

    def manages(self, person: Person, region: Region) -> bool:
        return person.administrator or person.uid == region.owner

    def ask_about(self, region: Region, verb: str, rights: str | None = None) -> Ask:
        return Ask(verb, region.name, region.pool, rights, "wb", region.lifetime, region.ttl, region.size, region.seal)

    def sees(self, person: Person, region: Region) -> bool:
        if self.manages(person, region):
            return True
        return self.bits(person, region) != 0 and self.allowed(person, self.ask_about(region, "list"))

    def reaches(self, person: Person, region: Region, verb: str, rights: str | None) -> bool:
        if self.sees(person, region):
            return True
        if verb not in ("open", "show") or self.bits(person, region) == 0:
            return False
        return self.allowed(person, self.ask_about(region, verb))

    def exists(self, person: Person, request: Request) -> str:
        region = self.regions.get(request.name)
        verb = request.verb
        if region is None:
            return "not_found"
        if verb == "list":
            return "ok" if self.sees(person, region) else "not_found"
        rights = (request.rights or "ro") if verb == "open" else None
        if not self.reaches(person, region, verb, rights):
            return "not_found"
        ask = self.ask_about(region, verb, rights)
        if verb == "renew":
            ask.lifetime = None  # Judged below, by the ttl that is asked for.
        if not self.allowed(person, ask):
            return "denied"
        if verb in ("renew", "revoke") and not self.manages(person, region):
            return "denied"
        if verb == "renew":
            if region.lifetime != "ttl" or request.ttl < 1:
                return "invalid"
            ask.lifetime, ask.ttl = "ttl", request.ttl
            return "ok" if self.allowed(person, ask) else "denied"
        if verb == "open" and not person.administrator:
            needed = BITS[rights or "ro"]
            if self.bits(person, region) & needed != needed:
                return "denied"
        return "ok"

    # ---- a create

    def create(self, person: Person, request: Request) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._][A-Za-z0-9._/-]*", request.name) or request.size == 0:
            return "invalid"
        if request.lifetime == "ttl" and request.ttl < 1:
            return "invalid"
        if request.group is not None and not person.administrator and request.group not in person.groups:
            return "denied"
        pools = [pool for pool in self.pools if request.pool in ("", pool.name)]
        if not pools:
            return "not_found"
        for pool in pools:
            ask = self.filled_in(request, pool)
            if not self.allowed(person, ask):
                continue
            if ask.seal not in pool.seals:
                return "unsupported"
            if ask.cache != "wb":
                return "cache_mode"
            return self.make(person, request, pool, ask)
        return "denied"

    def filled_in(self, request: Request, pool: Pool) -> Ask:
        cache = request.cache if request.cache_required else "wb"  # Memory is nothing else.
        size = math.ceil(request.size / PAGE) * PAGE
        seal = request.seal or pool.seals[0]
        return Ask("create", request.name, pool.name, request.rights, cache, request.lifetime, request.ttl, size, seal)

    def make(self, person: Person, request: Request, pool: Pool, ask: Ask) -> str:
        if request.name in self.regions:
            return "exists"
        assert ask.size is not None and ask.seal is not None
        if not self.fits(person, pool, ask.size):
            return "over_quota"
        if sum(region.size for region in self.regions.values() if region.pool == pool.name) + ask.size > pool.capacity:
            return "pool_full"
        group = person.gid if request.group is None else request.group
        self.regions[request.name] = Region(
            request.name, person.uid, person.account, person.counted_groups, group, request.mode, pool.name,
            ask.size, ask.seal, request.lifetime, request.ttl,
        )  # fmt: skip
        return "ok"

    # ---- quotas

    def used(self, subject: tuple[str, object], pool: str) -> tuple[int, int]:
        """Bytes and regions of one user's account or of a group, in a pool or ("") in all."""
        kind, whom = subject
        counted = [
            region
            for region in self.regions.values()
            if pool in ("", region.pool) and (region.account == whom if kind == "user" else whom in region.groups)
        ]
        return sum(region.size for region in counted), len(counted)

    def fits(self, person: Person, pool: Pool, size: int) -> bool:
        slots: list[tuple[tuple[str, object], Quota]] = []
        own = ("user", person.account)
        for scope in (pool.name, ""):
            quotas = [quota for quota in self.quotas if quota.subject == own and quota.pool == scope]
            # What is each single user's is for him who has no limits of his own there.
            quotas = quotas or [quota for quota in self.quotas if quota.subject[0] == "any" and quota.pool == scope]
            slots += [(own, quota) for quota in quotas]
        for gid in person.counted_groups:
            slots += [
                (("group", gid), quota)
                for quota in self.quotas
                if quota.subject == ("group", gid) and quota.pool in ("", pool.name)
            ]
        for subject, quota in slots:
            used_bytes, used_regions = self.used(subject, quota.pool)
            if quota.regions is not None and used_regions + 1 > quota.regions:
                return False
            if quota.bytes is not None and used_bytes + size > quota.bytes:
                return False
            if quota.share is not None:
                if used_bytes + size > pool.capacity * quota.share // 100 // PAGE * PAGE:
                    return False
        return True

    # ----

    def verdict(self, person: Person, request: Request) -> str:
        """ "ok", or the code of the refusal. What is allowed has been done afterwards."""
        if request.verb in NAMELESS:
            rights = request.rights if request.verb == "clone" else None
            return "ok" if self.allowed(person, Ask(request.verb, rights=rights)) else "denied"
        if request.verb == "create":
            return self.create(person, request)
        verdict = self.exists(person, request)
        if verdict == "ok" and request.verb == "revoke":
            del self.regions[request.name]
        if verdict == "ok" and request.verb == "renew":
            self.regions[request.name].ttl = request.ttl
        return verdict
