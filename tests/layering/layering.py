#!/usr/bin/env python3
"""Tries, for each layer, to compile an include that is allowed and one that is not.

    layering.py BUILD-DIRECTORY

Takes a source file's own command from compile_commands.json, gives it one line to compile in place of the file, and
looks that the first is found and the second is not. A library of the product that has no row here is told.
"""
import json
import os
import re
import shlex
import subprocess
import sys

# A file of the layer, a header that it may see, and headers that it may not.
LAYERS = [
    ("base/result.cpp", "base/units.h", ["schema/request.h", "policy/policy.h", "broker/wait/loop.h", "mapcap/client.h"]),
    ("schema/codec_request.cpp", "base/result.h", ["policy/policy.h", "broker/wait/loop.h", "client/session.h"]),
    ("policy/policy.cpp", "schema/request.h", ["policy/load/loader.h", "broker/books/quotas.h", "mapcap/client.h"]),
    ("policy/load/loader.cpp", "policy/policy.h", ["broker/config.h", "client/cli/command.h"]),
    ("client/client.cpp", "schema/codec.h", ["policy/policy.h", "broker/wait/loop.h", "client/cli/command.h"]),
    ("client/cli/regions.cpp", "mapcap/client.h", ["client/session.h", "broker/wait/loop.h"]),
    ("client/attack/table.cpp", "client/attack/attack.h", ["schema/request.h", "mapcap/client.h", "broker/wait/loop.h"]),
    ("client/preload/opens.cpp", "client/preload/served.h", ["base/result.h", "mapcap/client.h", "schema/request.h"]),
    ("broker/wait/loop.cpp", "base/result.h", ["schema/request.h", "broker/turns/fair_gate.h", "broker/books/quotas.h"]),
    ("broker/turns/fair_gate.cpp", "broker/wait/loop.h", ["broker/door/session.h", "schema/request.h"]),
    ("broker/ledger/ledger.cpp", "broker/ledger/table/record.h", ["broker/books/quotas.h", "broker/regions/regions.h", "policy/policy.h"]),
    ("broker/pool/pool.cpp", "broker/ledger/table/record.h", ["broker/books/pools.h", "broker/confine/confiner.h", "policy/policy.h"]),
    ("broker/confine/native.cpp", "broker/confine/confiner.h", ["broker/keeper/keeper.h", "broker/pool/pool.h"]),
    ("broker/confine/lsm/lsm.cpp", "broker/confine/confiner.h", ["broker/keeper/keeper.h", "broker/pool/pool.h", "broker/books/pools.h"]),
    ("broker/bpf/device_holders/device_holders.cpp", "base/result.h", ["broker/pool/pool.h", "broker/wait/loop.h", "schema/request.h"]),
    ("broker/bpf/page_attribute/page_attribute.cpp", "base/result.h", ["broker/pool/pool.h", "broker/wait/loop.h", "schema/request.h"]),
    ("broker/report/audit.cpp", "base/result.h", ["broker/regions/regions.h", "broker/door/session.h", "policy/load/loader.h"]),
    ("broker/keeper/keeper.cpp", "broker/confine/confiner.h", ["broker/regions/regions.h", "broker/books/directory.h", "broker/pool/pool.h"]),
    ("broker/books/quotas.cpp", "policy/policy.h", ["broker/regions/regions.h", "broker/keeper/keeper.h", "policy/load/loader.h"]),
    ("broker/regions/create.cpp", "broker/books/directory.h", ["broker/door/session.h", "broker/foreign/file_clones.h", "policy/load/loader.h"]),
    ("broker/foreign/file_clones.cpp", "broker/books/quotas.h", ["broker/door/session.h", "broker/config.h"]),
    ("broker/door/session.cpp", "broker/regions/regions.h", ["broker/config.h", "broker/assembly.h", "policy/load/loader.h"]),
    ("broker/mint/link.cpp", "broker/keeper/forge.h", ["broker/config.h", "broker/assembly.h", "client/session.h"]),
    ("broker/sandbox/sandbox.cpp", "broker/wait/scheduling.h", ["broker/regions/regions.h", "schema/request.h"]),
    ("broker/assembly.cpp", "broker/door/session.h", ["client/session.h", "mapcap/client.h"]),
    ("examples/hello.cpp", "mapcap/mapcap.h", ["base/result.h", "schema/request.h", "client/session.h"]),
]


# What is tried with another: mapcap_words is base's, the programs are one file each over their library.
COVERED = {"mapcap_words", "mapcapd", "mapcapd_main", "mapcap", "mapcap-attack"}


def library_of(entry):
    """The CMake target that a file is compiled for."""
    found = re.search(r" -o \S*CMakeFiles/([^/]+)\.dir/", entry["command"])
    return found.group(1) if found else ""


def compiles(command, directory, header):
    """None when the header is found, else what the compiler says."""
    arguments, skip = [], False
    for argument in shlex.split(command):
        if skip or argument in ("-c", "-MD"):
            skip = False
        elif argument in ("-o", "-MT", "-MF", "-include"):  # the last: a precompiled header, which is not needed here
            skip = True
        elif not argument.endswith(("ccache", ".cpp", "-Winvalid-pch", "-fpch-preprocess")):
            arguments.append(argument)
    run = subprocess.run(arguments + ["-E", "-o", "/dev/null", "-x", "c++", "-"], input=f'#include "{header}"\n', text=True,
                         cwd=directory, capture_output=True)
    return None if run.returncode == 0 else run.stderr.strip()


def main():
    build = sys.argv[1]
    with open(os.path.join(build, "compile_commands.json")) as commands:
        entries = json.load(commands)
    wrong, tried = [], 0
    covered = set(COVERED)
    for source, allowed, forbidden in LAYERS:
        entry = next((e for e in entries if e["file"].endswith("/" + source)), None)
        if entry is None:
            wrong.append(f"{source}: is not compiled by this build: has it moved?")
            continue
        covered.add(library_of(entry))
        for header, expected in [(allowed, True)] + [(f, False) for f in forbidden]:
            answer = compiles(entry["command"], entry["directory"], header)
            tried += 1
            if expected and answer is not None:
                wrong.append(f'{source}: cannot include "{header}": {answer}')
            if not expected and answer is None:
                wrong.append(f'{source}: may include "{header}", which is not its business')
            if not expected and answer is not None and f"{header}: No such file" not in answer \
                    and f"'{header}' file not found" not in answer:
                wrong.append(f'{source}: "{header}" fails for another reason: {answer}')
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    product = tuple(os.path.join(root, room, "") for room in ("base", "schema", "policy", "broker", "client"))
    for library in sorted({library_of(e) for e in entries if e["file"].startswith(product)} - covered):
        wrong.append(f"{library}: no include is tried for it: give it a row in layering.py")
    for one in wrong:
        print(one)
    print(f"{tried} includes tried, {len(wrong)} wrong")
    return 1 if wrong else 0


sys.exit(main())
