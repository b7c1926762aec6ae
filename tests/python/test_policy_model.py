"""Promise 14: what the broker does, what explain says and what the documents say are the same.

Thousands of requests under random policies, by real processes with real uids and groups: users with supplementary groups,
uids that /etc/subuid lends, the machine's root and roots without its power. The third word is policy_model.py's.
MAPCAP_POLICY_SEED=N tries another course of events, MAPCAP_POLICY_ROUNDS=N a longer one.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from dataclasses import asdict

import mapcap
from policy_model import NAMELESS, Ask, Lender, Model, Person, Pool, Quota, Region, Request, Rule

HERE = os.path.dirname(os.path.abspath(__file__))
REQUESTS = 100
COMMANDS = 1  # Of `mapcap policy explain` as a program, in each round: a process each.
PATIENCE = 120.0
STAFF, DEVELOPERS = 61010, 61011
ALICE = Lender(61001, "alice", frozenset({61001, STAFF}))
BOB = Lender(61002, "bob", frozenset({61002, DEVELOPERS}))
PASSWD = "alice:x:61001:61001::/:/bin/false\nbob:x:61002:61002::/:/bin/false\ncarol:x:61003:61010::/:/bin/false\n"
GROUP = "staff-of-test:x:61010:alice\ndevelopers-of-test:x:61011:bob,carol\n"
SUBUID = "alice:200000:65536\nbob:300000:65536\nroot:400000:65536\n"


def person(uid: int, gid: int, groups: set[int], name: str, **more: object) -> Person:
    return Person(uid, gid, frozenset(groups | {gid}), name, **more)  # type: ignore[arg-type]


# By whom requests are made: what the model knows of him, and how a process becomes him.
POWERLESS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--"]
PEOPLE: dict[str, tuple[Person, list[str]]] = {
    "alice": (person(61001, 61001, {STAFF}, "alice"), []),
    "bob": (person(61002, 61002, {DEVELOPERS}, "bob"), []),
    "carol": (person(61003, STAFF, {DEVELOPERS}, "carol"), []),
    "alice, who left her groups": (person(61001, 61001, set(), "alice"), []),
    "a uid that no account has": (person(61009, 61009, {STAFF, DEVELOPERS}, "61009"), []),
    "a uid that alice lent": (person(200005, 200005, set(), "200005", lender=ALICE), []),
    "a uid that bob lent, in staff": (person(300007, 300007, {STAFF}, "300007", lender=BOB), []),
    "the machine's root": (person(0, 0, set(), "root", administrator=True), []),
    "root without capabilities": (person(0, 0, set(), "root"), POWERLESS),
    "root of a user namespace": (person(0, 0, set(), "root"), ["unshare", "-U", "-r", "--"]),
    "root of a pid namespace": (person(0, 0, set(), "root"), ["unshare", "-pf", "--"]),
}
# Whom the accounts have with the very groups that the kernel attests here.
KNOWN = ("alice", "bob", "carol", "a uid that alice lent", "the machine's root")
NAMES = ["alice/x", "alice/y", "bob/x", "carol/z", "team/a", "team/b", "root/r", "61001/n", "200005/m", "61009/k", "q"]


class Worker:
    """A process that asks as somebody."""

    def __init__(self, who: Person, prefix: list[str], socket: str) -> None:
        command = [*prefix, sys.executable, os.path.join(HERE, "policy_worker.py"), socket]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/",
            user=who.uid, group=who.gid, extra_groups=sorted(who.groups),
        )  # fmt: skip
        if self._read()["verdict"] != "ready":
            raise AssertionError(f"nobody connects as {who}")

    def ask(self, request: Request, explain: bool = False) -> dict:
        return self.send(asdict(request) | {"explain": explain})

    def send(self, message: dict) -> dict:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"{self.process.args} has ended: {self.process.wait()}")
        return json.loads(line)

    def end(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


# ---- chance


class Chance:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def of(self, percent: int) -> bool:
        return self.random.random() * 100 < percent

    def one(self, choices):  # type: ignore[no-untyped-def]
        return self.random.choice(choices)

    def some(self, choices: list[str], most: int) -> list[str]:
        return self.random.sample(choices, self.random.randint(1, most))

    def subject(self, quota: bool = False) -> tuple[str, object]:
        choices: list[tuple[str, object]] = [
            ("any", True), ("any", True), ("user", 61001), ("user", 61002), ("user", 0), ("group", STAFF),
            ("group", DEVELOPERS),
        ]  # fmt: skip
        if not quota:
            choices += [("administrator", True), ("uid", [61001, 61009]), ("uid", [200005]), ("user", 61003)]
        return self.one(choices)

    def rule(self) -> Rule:
        rule = Rule(self.subject(), deny=self.of(25))
        globs = ["**", "{user}/**", "{uid}/*", "team/*", "alice/**", "*/x", "?", "**/a", "bob/?", "**z", "root/**"]
        if self.of(65):
            rule.names = self.some(globs, 3)
        if self.of(15):
            rule.pools = self.some(["dram", "more"], 1)
        verbs = ["create", "open", "list", "show", "renew", "revoke", *sorted(NAMELESS - {"endpoint", "shutdown"})]
        if self.of(55):
            rule.verbs = self.some(verbs, 5)
        if self.of(20):
            rule.rights = self.some(["ro", "rw"], 2)
        if self.of(15):
            rule.lifetimes = self.some(["connection", "ttl", "persistent"], 2)
        if self.of(15):
            rule.seals = self.some(["sealed", "revocable"], 1)
        if self.of(8):
            rule.cache = ["wb"]
        if not rule.deny:
            if self.of(20) and (not rule.lifetimes or "ttl" in rule.lifetimes):
                rule.max_ttl = 3600
            if self.of(20):
                rule.max_size = self.one([4096, 8192])
            if self.of(5) and (not rule.verbs or "open" in rule.verbs):
                rule.published = True
        return rule

    def policy(self) -> Model:
        pools = [Pool("dram", 1 << 20, ["sealed", "revocable"]), Pool("more", 32768, self.some(["sealed", "revocable"], 2))]
        rules = [self.rule() for _ in range(self.random.randint(1, 9))]
        if self.of(60):
            rules.insert(0, Rule(("any", True)))
        if self.of(50):
            rules.append(Rule(("administrator", True)))
        quotas: dict[tuple[object, ...], Quota] = {}
        for _ in range(self.random.randint(0, 5)):
            quota = Quota(self.subject(quota=True), self.one(["", "dram", "more"]))
            if self.of(50):
                quota.regions = self.random.randint(0, 4)
            if quota.pool and self.of(30):
                quota.share = self.one([1, 2, 25])
            elif quota.regions is None or self.of(30):
                quota.bytes = 4096 * self.random.randint(1, 6)
            quotas.setdefault((quota.subject, quota.pool), quota)
        return Model(pools, rules, list(quotas.values()))

    def request(self, regions: list[str]) -> Request:
        verb = self.one(["create"] * 8 + ["open"] * 6 + ["show", "show", "list", "list", "renew", "revoke"] +
                        ["pools", "quota", "quota-set", "clone", "policy"])  # fmt: skip
        request = Request(verb)
        if verb in NAMELESS:
            request.rights = self.one(["ro", "rw"]) if verb == "clone" else None
            return request
        request.name = self.one(NAMES) if verb == "create" or not regions or self.of(20) else self.one(regions)
        if verb == "renew":
            request.ttl = self.one([0.5, 600.0, 7200.0])
        if verb == "open":
            request.rights = self.one(["ro", "rw"])
        if verb != "create":
            return request
        if self.of(2):
            request.name = "/nothing"
        request.size = 0 if self.of(2) else self.one([1, 4096, 4097, 8192, 9000])
        request.pool = self.one(["", "", "", "dram", "more", "tape"])
        request.lifetime = self.one(["persistent", "persistent", "ttl", "ttl", "connection"])
        if request.lifetime == "ttl":
            request.ttl = self.one([0.5, 1800.0, 1800.0, 7200.0])
        request.mode = self.one([0o600, 0o644, 0o666, 0o660, 0o640, 0o400, 0o000])
        if self.of(15):
            request.group = self.one([STAFF, DEVELOPERS, 4242])
        if self.of(30):
            request.seal = self.one(["sealed", "revocable"])
        if self.of(20):
            request.rights = self.one(["ro", "rw"])
        if self.of(10):
            request.cache, request.cache_required = "wc", self.of(50)
        return request


# ---- the file


def toml_of(model: Model) -> str:
    def value(of: object) -> str:
        return json.dumps(of)  # Of strings, numbers, lists and truth TOML's is the same.

    lines = []
    for pool in model.pools:
        lines += [f"[pool.{pool.name}]", 'backing = "memory"', f"capacity = {pool.capacity}",
                  'confinement = "sealed"', f"seals = {value(pool.seals)}"]  # fmt: skip
    for rule in model.rules:
        lines += ["[[rule]]", f"{rule.subject[0]} = {value(rule.subject[1])}"]
        lines += ['effect = "deny"'] if rule.deny else []
        for key in ("names", "pools", "verbs", "rights", "lifetimes", "seals", "cache"):
            lines += [f"{key} = {value(getattr(rule, key))}"] if getattr(rule, key) else []
        lines += [f"max_ttl = {rule.max_ttl}"] if rule.max_ttl else []
        lines += [f"max_size = {rule.max_size}"] if rule.max_size else []
        lines += ['published = "required"'] if rule.published else []
    for quota in model.quotas:
        lines += ["[[quota]]", f"{quota.subject[0]} = {value(quota.subject[1])}"]
        lines += [f"pool = {value(quota.pool)}"] if quota.pool else []
        lines += [f"bytes = {quota.bytes}"] if quota.bytes is not None else []
        lines += [f'bytes = "{quota.share}%"'] if quota.share is not None else []
        lines += [f"regions = {quota.regions}"] if quota.regions is not None else []
    return "\n".join(lines) + "\n"


# ---- the machine


def own_accounts(directory: str) -> None:
    """For this process and those that it starts, /etc has three users and two groups more, and lends uids."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x00020000) != 0:  # CLONE_NEWNS
        raise unittest.SkipTest(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for name, more, keep in (("passwd", PASSWD, True), ("group", GROUP, True), ("subuid", SUBUID, False)):
        path = os.path.join(directory, name)
        text = ""
        if keep:
            with open(f"/etc/{name}", encoding="utf-8") as file:
                text = file.read()
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + more)
        os.chmod(path, 0o644)
        if not os.path.exists(f"/etc/{name}"):
            raise unittest.SkipTest(f"there is no /etc/{name} to put another in the place of")
        subprocess.run(["mount", "--bind", path, f"/etc/{name}"], check=True)


class PolicyModelTest(unittest.TestCase):
    def setUp(self) -> None:
        if os.geteuid() != 0:
            self.skipTest("needs root: it asks as others")
        self.directory = tempfile.mkdtemp(prefix="mapcap-model-")
        self.addCleanup(shutil.rmtree, self.directory)
        os.chmod(self.directory, 0o755)
        own_accounts(self.directory)
        self.addCleanup(lambda: [subprocess.run(["umount", f"/etc/{one}"], check=True)
                                 for one in ("passwd", "group", "subuid")])  # fmt: skip
        self.socket = os.path.join(self.directory, "mapcap.sock")
        self.policy = os.path.join(self.directory, "policy.toml")
        self.log = os.path.join(self.directory, "log")
        self.put(Model([Pool("dram", 1 << 20, ["sealed", "revocable"]), Pool("more", 32768, ["sealed"])],
                       [Rule(("administrator", True))], []))  # fmt: skip
        with open(self.log, "wb") as log:
            self.broker = subprocess.Popen(
                [os.environ["MAPCAPD"], "--policy", self.policy, "--socket", self.socket,
                 "--state", os.path.join(self.directory, "state")], stdout=log, stderr=log,
            )  # fmt: skip
        self.addCleanup(self.end_broker)
        mapcap.connect(self.socket, wait=PATIENCE).close()
        self.workers: dict[str, Worker] = {}
        for called, (who, prefix) in PEOPLE.items():
            if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
                print(f"nobody is {called}: this machine does not let {prefix[0]}", file=sys.stderr)
                continue
            self.workers[called] = Worker(who, prefix, self.socket)
            self.addCleanup(self.workers[called].end)

    def end_broker(self) -> None:
        if self.broker.poll() is None:
            self.put(Model([Pool("dram", 1 << 20, ["sealed", "revocable"]), Pool("more", 32768, ["sealed"])],
                           [Rule(("administrator", True))], []))  # fmt: skip
            self.in_force()
            with mapcap.connect(self.socket) as broker:
                broker.shutdown(end_regions=True)
        self.broker.wait(timeout=PATIENCE)

    def put(self, model: Model) -> None:
        with open(self.policy + "+", "w", encoding="utf-8") as file:
            file.write(toml_of(model))
        os.rename(self.policy + "+", self.policy)

    def text(self, path: str) -> str:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def in_force(self) -> None:
        """By the signal, which no policy can deny to anybody."""
        before = self.text(self.log).count("policy reloaded from")
        self.broker.send_signal(signal.SIGHUP)
        self.until(lambda: self.text(self.log).count("policy reloaded from") > before, "the policy is in force")

    def until(self, condition, what: str) -> None:  # type: ignore[no-untyped-def]
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                self.fail(f"still not so after {PATIENCE:.0f} s: {what}\n{self.text(self.log)[-2000:]}")
            time.sleep(0.002)

    def gone(self, name: str) -> None:
        root = self.workers["the machine's root"]
        ask = Request("list", name)
        self.until(lambda: root.ask(ask)["verdict"] == "not_found", f"{name} is gone")

    def command(self, words: list[str]) -> str:
        done = subprocess.run(
            [os.environ["MAPCAP"], "--socket", self.socket, "--json", "policy", "explain", *words],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        if done.returncode not in (0, 1) or not done.stdout.startswith("{"):
            self.fail(f"{words}: {done.stdout}{done.stderr}")
        return str(json.loads(done.stdout)["verdict"])

    def words(self, called: str, request: Request, region: Region | None, broker: bool = False) -> list[str]:
        """Of a create what it asks for, of another verb what the region is; the broker knows that."""
        words = ["--as", str(PEOPLE[called][0].uid), request.verb]
        if request.verb in NAMELESS:
            return words + (["--rights", request.rights] if request.rights else [])
        words.append(request.name)
        words += ["--rights", request.rights] if request.rights else []
        words += ["--ttl", f"{int(request.ttl * 1000)}ms"] if request.verb == "renew" else []
        if broker and request.verb != "create":
            return words
        of: Request | Region = request
        if request.verb != "create":
            assert region is not None
            of = region
            words += ["--owner", str(region.owner), "--size", str(region.size)]
        else:
            words += ["--size", str(request.size)]
            words += ["--cache" if request.cache_required else "--prefer-cache", request.cache]
        ttl = f"ttl:{int(of.ttl * 1000)}ms"
        words += ["--lifetime", ttl if of.lifetime == "ttl" else of.lifetime, "--mode", f"{of.mode:04o}"]
        words += ["--pool", of.pool] if of.pool else []
        words += ["--group", str(of.group)] if of.group is not None else []
        words += [f"--{of.seal}"] if of.seal else []
        return words

    def compare_sums(self, model: Model) -> None:
        told = self.workers["the machine's root"].send({"verb": "quotas"})["used"]
        for slot, (used_bytes, used_regions) in told.items():
            kind, whom, _, pool = slot.split(" ")
            if kind != "any":
                expected = model.used((kind, int(whom)), pool)
                self.assertEqual((used_bytes, used_regions), expected, f"{slot}\n{toml_of(model)}")
        for region in model.regions.values():
            self.assertIn(f"user {region.account} in ", told)

    def test_the_broker_and_explain_say_what_the_documents_say(self) -> None:
        seed = int(os.environ.get("MAPCAP_POLICY_SEED", "14"))
        rounds = int(os.environ.get("MAPCAP_POLICY_ROUNDS", "25"))
        print(f"MAPCAP_POLICY_SEED={seed}", file=sys.stderr)
        chance = Chance(seed)
        verdicts: dict[str, int] = {}
        everybody = Rule(("administrator", True))
        for number in range(rounds):
            model = chance.policy()
            self.put(model)
            self.in_force()
            commands = 0
            for _ in range(REQUESTS):
                called = chance.one(list(self.workers))
                who, worker = PEOPLE[called][0], self.workers[called]
                request = chance.request(sorted(model.regions))
                region = model.regions.get(request.name)
                where = f"seed {seed}, round {number}: {called}: {request}\n{region}\n{toml_of(model)}"
                explained = worker.ask(request, explain=True)
                by_file = by_broker = ""
                asks_rules_only = request.verb in NAMELESS or (request.verb == "create" and not model.quotas)
                if called in KNOWN and commands < COMMANDS and request.name != "/nothing" and request.size > 0:
                    commands += 1
                    words = self.words(called, request, region) if region or asks_rules_only else None
                    if words and not (request.verb == "create" and region) and request.pool != "tape":
                        by_file = self.command(["--policy", self.policy, *words])
                    if words and model.allowed(PEOPLE["the machine's root"][0], Ask("policy")):
                        words = self.words(called, request, region, broker=True)
                        by_broker = self.command(["--broker", *words])
                made = worker.ask(request)
                expected = model.verdict(who, request)
                self.assertEqual(made["verdict"], expected, f"{made['sentence']}\n{where}")
                self.assertEqual(explained["verdict"], expected, f"explained: {explained['sentence']}\n{where}")
                told = "allowed" if expected == "ok" else "refused"
                if by_file and expected not in ("over_quota", "pool_full"):
                    self.assertEqual(by_file, told, f"mapcap policy explain {words}\n{where}")
                if by_broker:
                    self.assertEqual(by_broker, told, f"mapcap policy explain --broker {words}\n{where}")
                verdicts[expected] = verdicts.get(expected, 0) + 1
                if expected == "ok" and request.verb == "revoke":
                    self.gone(request.name)
            # The same limits, and an administrator who may look at them.
            self.put(Model(model.pools, [everybody], model.quotas))
            self.in_force()
            self.compare_sums(model)
            for name in model.regions:
                self.assertEqual(self.workers["the machine's root"].ask(Request("revoke", name))["verdict"], "ok")
            for name in model.regions:
                self.gone(name)
        print(f"{rounds * REQUESTS} requests: {dict(sorted(verdicts.items()))}", file=sys.stderr)
        for verdict in ("ok", "denied", "not_found", "over_quota", "exists", "invalid", "unsupported", "cache_mode"):
            self.assertGreater(verdicts.get(verdict, 0), 0, f"{verdict} was never the answer")


if __name__ == "__main__":
    unittest.main()
