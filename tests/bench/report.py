"""Reads what the benchmarks of run.sh wrote, a line of JSON each, and says it in tables and plots.

    report.py OUTPUT_DIRECTORY MACHINE FILE...

Writes report.md, report.json and *.svg there, and the tables to standard output. A ratio is taken within each round, where
both were measured one after the other; what is told is the median over the rounds.
"""

from __future__ import annotations

import json
import pathlib
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable

import plots

Record = dict
WORDS = {
    "show": "a request that only looks",
    "open": "an open of an existing region of 1 MiB, read-only, and its map",
    "create": "a create of 1 MiB with a writable grant, and its map",
    "revoke": "a revoke of what nobody touched",
}


def median(values: Iterable[float]) -> float | None:
    known = list(values)
    return statistics.median(known) if known else None


def told(value: float | None, digits: int = 2) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.{0 if value >= 10 and digits < 2 else digits}f}"


class Measured:
    """Records by kind, and what is asked of them."""

    def __init__(self, records: list[Record]) -> None:
        self.by_kind: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            self.by_kind[record["kind"]].append(record)

    def ways(self, kind: str) -> list[str]:
        seen = dict.fromkeys(record["way"] for record in self.by_kind[kind])
        order = ["floor", "sd-bus", "dbus-daemon", "shm_open", "mapcap", "mapcap sealed", "mapcap tmpfs", "mapcap ext4"]
        return sorted(seen, key=lambda way: order.index(way) if way in order else len(order))

    def values(self, kind: str, what: str, **where) -> dict[int, float]:
        """By round."""
        return {
            record["round"]: record[what]
            for record in self.by_kind[kind]
            if all(record[key] == value for key, value in where.items())
        }

    def median(self, kind: str, what: str, **where) -> float | None:
        return median(self.values(kind, what, **where).values())

    def ratio(self, kind: str, what: str, way: str, **where) -> float | None:
        """To the floor's of the same round."""
        own = self.values(kind, what, way=way, **where)
        floor = self.values(kind, what, way="floor", **where)
        return median(own[key] / floor[key] for key in own if floor.get(key))


class Report:
    def __init__(self) -> None:
        self.parts: list[str] = []
        self.tables: dict[str, list[dict[str, str]]] = {}

    def say(self, words: str) -> None:
        self.parts.append(words)

    def table(self, name: str, heads: list[str], rows: list[list[str]]) -> None:
        if not rows:
            return
        wide = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
        lines = ["| " + " | ".join(cell.ljust(wide[i]) for i, cell in enumerate(row)) + " |" for row in [heads, *rows]]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in wide) + "|")
        self.parts.append("\n".join(lines))
        self.tables[name] = [dict(zip(heads, row, strict=True)) for row in rows]


def latencies(measured: Measured, report: Report) -> None:
    kind = "latency"
    if not measured.by_kind[kind]:
        return
    crowds = sorted({record["clients"] for record in measured.by_kind[kind]})
    columns = [(clients, place) for clients in crowds for place in ("apart", "together")]
    heads = [f"{clients} {place}" for clients, place in columns]
    report.say("## What a client waits for\n\np50, p99. *apart*: clients on one processor, servers on another; *together*: all on one.")
    for verb, words in WORDS.items():
        ways = [way for way in measured.ways(kind) if measured.values(kind, "p50", way=way, verb=verb)]
        rows, absolute = [], []
        for way in ways:
            where = [{"verb": verb, "clients": clients, "place": place} for clients, place in columns]
            rows.append([way] + [", ".join(told(measured.ratio(kind, p, way, **at)) for p in ("p50", "p99")) for at in where])
            absolute.append(
                [way] + [", ".join(told(measured.median(kind, p, way=way, **at), 1) for p in ("p50", "p99")) for at in where]
            )
        report.say(f"### {verb}: {words}\n\nTimes the floor's:")
        report.table(f"{verb}, ratio", ["way", *heads], rows)
        report.say("Microseconds:")
        report.table(f"{verb}, microseconds", ["way", *heads], absolute)
    report.say("### Processor time of the servers for a request, microseconds\n\nOne client, all on one processor.")
    fewest = crowds[0]
    rows = []
    for way in measured.ways(kind):
        cells = [
            measured.median(kind, "server_us", way=way, verb=verb, clients=fewest, place="together") for verb in WORDS
        ]
        rows.append([way] + [told(cell, 1) for cell in cells])
    report.table("processor time", ["way", *WORDS], rows)


def throughput(measured: Measured, report: Report) -> None:
    kind = "sustained"
    if measured.by_kind[kind]:
        report.say(
            "## Eight clients without a pause\n\nCreates a second (of mapcap, each with its revoke), and creates with "
            "revokes beside the floor's. Clients on one processor, servers on the other."
        )
        rows = []
        for way in measured.ways(kind):
            row = [way]
            for verb in ("create", "cycle"):
                row.append(told(measured.median(kind, "per_second", way=way, verb=verb)))
                row.append(told(measured.ratio(kind, "per_second", way, verb=verb)))
            row.append(told(measured.median(kind, "server_us", way=way, verb="create"), 1))
            rows.append(row)
        heads = ["way", "creates/s", "x floor", "cycles/s", "x floor ", "server us"]
        report.table("sustained", heads, rows)
    kind = "flood"
    if measured.by_kind[kind]:
        report.say("## Eight clients who create and end nothing, at most 8,000")
        rows = []
        for way in measured.ways(kind):
            cells = [measured.median(kind, what, way=way) for what in ("per_second", "p50", "p99", "longest")]
            rows.append([way, told(cells[0]), told(measured.ratio(kind, "per_second", way)), *[told(c, 1) for c in cells[1:]]])
        report.table("flood", ["way", "creates/s", "x floor", "p50 us", "p99 us", "longest us"], rows)


def memory(measured: Measured, report: Report) -> list[tuple[str, list[float | None]]]:
    kind = "memory"
    if not measured.by_kind[kind]:
        return []
    report.say(
        "## Memory through a grant, beside the bare memfd or file\n\nGranted / bare, in processor time: below 1 is faster "
        "for faults and slower for bandwidth."
    )
    whats = {"first_touch_ns": "first touch", "again_ns": "fault of a page that is there", "stores": "stores", "loads": "loads"}
    rows, found = [], []
    for way in measured.ways(kind):
        ratios = []
        for what in whats:
            bare = measured.values(kind, what, way=way, through="file")
            granted = measured.values(kind, what, way=way, through="grant")
            ratios.append(median(granted[key] / bare[key] for key in granted if bare.get(key)))
        rows.append([way, *[told(ratio) for ratio in ratios]])
        found.append((way, ratios))
    report.table("memory", ["way", *whats.values()], rows)
    return found


def scale(measured: Measured, report: Report) -> list[Record]:
    stops = sorted(measured.by_kind["scale"], key=lambda record: record["regions"])
    if not stops:
        return []
    report.say("## Live regions\n\nWaited, worked (processor time of broker and keeper): times what it was with the fewest.")
    first = stops[0]
    verbs = ("show", "open", "create", "list_one")
    rows = []
    for stop in stops:
        cells = [
            ", ".join(told(stop[verb][what] / first[verb][what]) for what in ("waited", "worked")) for verb in verbs
        ]
        rows.append(
            [
                told(stop["regions"]) if stop["regions"] >= 100 else str(stop["regions"]),
                *cells,
                told(stop["broker_bytes"] + stop["keeper_bytes"]) if stop["regions"] >= 1000 else "",
                told(stop["restart_ms"]),
            ]
        )
    report.table("scale", ["regions", *verbs, "resident bytes a region", "restart ms"], rows)
    return stops


def draw(measured: Measured, found: list, stops: list[Record], to: pathlib.Path) -> None:
    kind = "latency"
    crowds = sorted({record["clients"] for record in measured.by_kind[kind]})
    if crowds:
        ways = measured.ways(kind)
        for place in ("apart", "together"):
            at = {"clients": crowds[0], "place": place}

            def row(way: str, what: str, at=at) -> list[float | None]:
                return [measured.median(kind, what, way=way, verb=verb, **at) for verb in WORDS]

            svg = plots.bars(
                f"What {crowds[0]} client waits for, {place}",
                "microseconds: bars p50, marks p99",
                list(WORDS),
                [(way, row(way, "p50")) for way in ways],
                [(way, row(way, "p99")) for way in ways],
            )
            (to / f"latency-{place}.svg").write_text(svg)
        if len(crowds) > 1:
            for verb in ("show", "open", "create"):
                series = [
                    (way, [measured.median(kind, "per_second", way=way, verb=verb, clients=c, place="apart") for c in crowds])
                    for way in ways
                    if way != "shm_open" and measured.values(kind, "p50", way=way, verb=verb)
                ]
                svg = plots.lines(f"{verb}: operations a second", "apart, without a pause", "clients", crowds, series)
                (to / f"throughput-{verb}.svg").write_text(svg)
    if found:
        groups = ["first touch", "fault again", "stores", "loads"]
        (to / "memory.svg").write_text(plots.bars("Memory through a grant", "granted / bare", groups, found))
    if len(stops) > 1:
        series = [(verb, [stop[verb]["worked"] for stop in stops]) for verb in ("show", "open", "create", "list_one")]
        regions = [stop["regions"] for stop in stops]
        svg = plots.lines("Among many regions", "processor time of broker and keeper, microseconds", "live regions", regions, series)
        (to / "scale.svg").write_text(svg)


def main() -> int:
    to, machine, files = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    records = [json.loads(row) for name in files for row in pathlib.Path(name).read_text().splitlines() if row.strip()]
    measured = Measured(records)
    report = Report()
    report.say(f"# mapcap beside others\n\n{machine}")
    latencies(measured, report)
    throughput(measured, report)
    found = memory(measured, report)
    stops = scale(measured, report)
    missing = {record["way"]: record["reason"] for record in measured.by_kind["missing"]}
    if missing:
        report.say("## Left out\n\n" + "\n".join(f"- {way}: {reason}" for way, reason in missing.items()))
    words = "\n\n".join(report.parts) + "\n"
    print(words)
    (to / "report.md").write_text(words)
    (to / "report.json").write_text(json.dumps({"machine": machine, "tables": report.tables, "records": records}, indent=1))
    draw(measured, found, stops, to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
