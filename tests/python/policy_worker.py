"""Asks a broker as whoever it is run as: a request a line on standard input, JSON, and an answer a line.

A request is a member of policy_model.Request by name, with "explain" for whether it is made or only asked about. The
answer is {"verdict": "ok" or the code of the refusal, "sentence": ...}. What is opened is closed at once.
"""

from __future__ import annotations

import json
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples"))

from protocol_client import Connection, Refused, Struct, View  # noqa: E402 (found by the line above)

CODES = {
    1: "malformed", 3: "denied", 4: "not_found", 5: "exists", 6: "over_quota", 7: "pool_full", 8: "invalid",
    9: "cache_mode", 10: "unsupported", 11: "busy", 16: "exhausted",
}  # fmt: skip
LIFETIMES = {"connection": 0, "ttl": 1, "persistent": 2}
SEALS = {"sealed": 0, "revocable": 1}
RIGHTS = {"ro": 0, "rw": 1}
CACHES = {"wb": 0, "wt": 1, "wc": 2, "uc": 3}


def entries(view: View, index: int) -> list[View]:
    """A list of structs (docs/protocol.md, "A packet")."""
    at = view.at + view.data_bytes + 8 * index
    low, high = struct.unpack_from("<iI", view.words, at)
    if low == 0 and high == 0:
        return []
    begin = at + 8 + 8 * (low >> 2)
    count, data_words, pointers = struct.unpack_from("<iHH", view.words, begin)
    size = 8 * (data_words + pointers)
    return [View(view.words, begin + 8 + i * size, data_words, pointers) for i in range(count >> 2)]


def create_of(ask: dict) -> Struct:
    lifetime = Struct(16, 0).put("H", 0, LIFETIMES[ask["lifetime"]]).put("q", 64, int(ask["ttl"] * 1e9))
    if ask["lifetime"] != "ttl":
        lifetime.put("q", 64, 0)
    body = Struct(32, 3).put("Q", 0, ask["size"]).put("H", 64, CACHES[ask["cache"]]).put("H", 96, ask["mode"])
    body.put("B", 80, 1 if ask["cache_required"] else 0)
    if ask["group"] is not None:
        body.put("H", 112, 1).put("I", 128, ask["group"])
    if ask["seal"] is not None:
        body.put("H", 160, 1).put("H", 176, SEALS[ask["seal"]])
    if ask["rights"] is not None:
        body.put("H", 192, 1).put("H", 208, RIGHTS[ask["rights"]])
    return body.point(0, ask["name"]).point(1, ask["pool"]).point(2, lifetime)


class Asker:
    def __init__(self, path: str) -> None:
        self.broker = Connection(path)

    def ask(self, kind: int, body: Struct | None, expected: int) -> View:
        view, fd = self.broker.ask(kind, body, expected)  # type: ignore[arg-type]
        if fd >= 0:
            os.close(fd)
        return view

    def explain(self, ask: dict) -> dict:
        uid = ask.get("as", os.geteuid())
        body = Struct(16, 2).put("I", 0, uid).point(0, ask["verb"]).point(1, create_of(ask))
        if ask["verb"] == "renew":
            body.put("H", 32, 1).put("q", 64, int(ask["ttl"] * 1e9))
        told = self.ask(18, body, 15)
        if told.get("H", 0) == 0:
            return {"verdict": "ok", "sentence": told.text(3)}
        refused = told.struct(0)
        code = refused.get("H", 0)
        return {"verdict": CODES.get(code, str(code)), "sentence": refused.text(0)}

    def make(self, ask: dict) -> None:
        verb, name = ask["verb"], ask["name"]
        if verb == "create":
            self.ask(1, create_of(ask), 2)
        elif verb == "open":
            self.ask(2, Struct(8, 1).put("H", 0, RIGHTS[ask["rights"] or "ro"]).point(0, name), 2)
        elif verb == "list":
            listing = self.ask(3, Struct(8, 2).point(0, name).point(1, ""), 3)
            if not entries(listing, 0):
                raise Refused("4: it is not in the list")
        elif verb == "show":
            self.ask(4, Struct(0, 1).point(0, name), 4)
        elif verb == "renew":
            self.ask(5, Struct(8, 1).put("q", 0, int(ask["ttl"] * 1e9)).point(0, name), 5)
        elif verb == "revoke":
            self.ask(6, Struct(16, 1).point(0, name), 6)
        elif verb == "pools":
            self.ask(7, None, 7)
        elif verb == "quota":
            self.ask(8, Struct(0, 1).point(0, ""), 8)
        elif verb == "quota-set":
            slot = Struct(8, 1).put("H", 0, 1).put("I", 32, 4242).point(0, "")
            limits = Struct(0, 4)
            for index in range(4):
                limits.point(index, Struct(16, 0).put("H", 0, 1).put("Q", 64, 5))
            self.ask(9, Struct(0, 2).point(0, slot).point(1, limits), 9)
        elif verb == "policy":
            self.ask(17, Struct(8, 0), 14)
        elif verb == "reload":
            self.ask(16, None, 13)
        elif verb == "clone":
            # The ticket of no port: whoever may clone is told that, and nobody clones anything.
            try:
                self.ask(11, Struct(16, 0).put("H", 0, RIGHTS[ask["rights"] or "ro"]).put("Q", 64, 1 << 40), 2)
            except Refused as refused:
                if str(refused).startswith("3:"):
                    raise
        else:
            raise ValueError(verb)

    def quotas(self) -> dict:
        """What is used: "user 1000 in dram" to [bytes, regions]."""
        used = {}
        cursor = ""
        while True:
            page = self.ask(8, Struct(0, 1).point(0, cursor), 8)
            for entry in entries(page, 0):
                slot = entry.struct(0)
                subject = ("any", "user", "group")[slot.get("H", 0)]
                used[f"{subject} {slot.get('I', 32)} in {slot.text(0)}"] = [entry.get("Q", 0), entry.get("Q", 64)]
            cursor = page.text(1)
            if not cursor:
                return {"verdict": "ok", "used": used}

    def answer(self, ask: dict) -> dict:
        if ask["verb"] == "quotas":
            return self.quotas()
        if ask["explain"]:
            return self.explain(ask)
        self.make(ask)
        return {"verdict": "ok", "sentence": ""}


def main() -> None:
    asker = Asker(sys.argv[1])
    print(json.dumps({"verdict": "ready"}), flush=True)
    for line in sys.stdin:
        try:
            told = asker.answer(json.loads(line))
        except Refused as refused:
            code, _, sentence = str(refused).partition(": ")
            told = {"verdict": CODES.get(int(code), code), "sentence": sentence} if code.isdigit() else {
                "verdict": "broken", "sentence": str(refused)}  # fmt: skip
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
