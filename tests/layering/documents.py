#!/usr/bin/env python3
"""Looks that what documents and comments say of the tree is so.

    documents.py SOURCE-DIRECTORY

A file that is named exists, by its whole path or by its end. A class or a function that a document names as code stands
somewhere in the code, and in the file behind whose name it stands; so does a test, of which the beginning will do. Every
folder with code has its row in docs/ARCHITECTURE.md, and every room there is a folder. No file of code has more than 450 lines.
"""
import os
import re
import subprocess
import sys

CODE = (".cpp", ".h", ".c", ".py", ".sh")
MOST_LINES = 450
# Of the kernel, of the C library, of what a reader is to write, and of no file at all.
NOT_OURS = re.compile(
    r"(arch|drivers|fs|include/(uapi/)?linux|mm|net|Documentation|asm|linux|sys)/.*"
    r"|share/mapcap/.*|(first|old|p|policy)\.\w+|(bpf_helpers|fcntl|stdio|string)\.h|report\.md|.*[A-Z]{4}.*|_test\.cpp")
NAMED = re.compile(r"(?<![\w/.$~@{}-])((?:[\w-]+/)*[\w.-]*[\w-]\.(?:cpp|h|c|md|sh|toml|capnp|py|scd|in|txt|zsh))(?![\w/.-]*\w)")
NAMED_WITHIN = re.compile(r"([\w/]+\.(?:cpp|h)),? `((?:\w+::)*\w+)(?:\(\))?`")  # session.cpp `deliver`
TEST = re.compile(r"\b([A-Z]\w+)\.([A-Z]\w+)")  # RevokeTest.ANameIsFree...
SUITE = re.compile(r"\b([A-Z]\w+Test)\b")
SYMBOL = re.compile(r"`((?:\w+::)+~?\w+)(?:\(\))?`")
COMMENT = {"cpp": "//|/\\*|^\\s*\\*", "h": "//|/\\*|^\\s*\\*", "c": "//|/\\*|^\\s*\\*", "md": "", "scd": "", "txt": "#", "sh": "#",
           "py": "#", "toml": "#"}


def tree(root):
    # Not what somebody built there under another name.
    tracked = subprocess.run(["git", "-C", root, "ls-files", "-z", "-co", "--exclude-standard"], capture_output=True, text=True)
    if tracked.returncode == 0:
        yield from sorted(name for name in tracked.stdout.split("\0") if os.path.isfile(os.path.join(root, name)))
        return
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in ("build", "__pycache__") and not f.startswith("."))
        for name in sorted(files):
            yield os.path.relpath(os.path.join(folder, name), root)


def lines_of(root, path):
    with open(os.path.join(root, path), errors="replace") as file:
        return file.read().splitlines()


def rooms(root):
    """The folders that the first column of the rooms' table names."""
    found = set()
    for line in lines_of(root, "docs/ARCHITECTURE.md"):
        if not line.startswith("| `"):
            continue
        folder = ""
        for name in re.findall(r"`([\w/]+)/`", line.split("|")[1]):
            # "`client/cli/`, `attack/`": below the same one.
            beside = os.path.join(os.path.dirname(folder), name)
            folder = name if os.path.isdir(os.path.join(root, name)) else beside
            found.add(folder)
    return found


def main():
    root = sys.argv[1]
    files = list(tree(root))
    ends = {"/".join(parts[at:]) for parts in (f.split("/") for f in files) for at in range(len(parts))}
    words, suites, wrong = set(), {}, []
    for path in files:
        if path.endswith(CODE) or path.endswith((".capnp", ".toml", ".txt", ".in")):
            text = "\n".join(lines_of(root, path))
            words.update(re.findall(r"\w+", text))
            for suite, test in re.findall(r"\bTEST\w*\(\s*(\w+),\s*(\w+)", text):
                suites.setdefault(suite, set()).add(test)
    for path in files:
        kind = path.rsplit(".", 1)[-1]
        if kind not in COMMENT:
            continue
        for number, line in enumerate(lines_of(root, path), 1):
            begin = re.search(COMMENT[kind], line)
            if begin is None:
                continue
            said = line[begin.start():]
            for name in NAMED.findall(said):
                if name not in ends and not NOT_OURS.fullmatch(name):
                    wrong.append(f"{path}:{number}: there is no {name}")
            if kind == "md":
                for name, symbol in NAMED_WITHIN.findall(said):
                    within = [f for f in files if f.endswith("/" + name) or f == name]
                    last = symbol.split("::")[-1]
                    if within and not any(re.search(rf"\b{last}\b", "\n".join(lines_of(root, f))) for f in within):
                        wrong.append(f"{path}:{number}: {symbol} is not in {name}")
                for symbol in SYMBOL.findall(said):
                    unknown = [word for word in symbol.split("::") if word.lstrip("~") not in words | {"boost", "std"}]
                    if unknown and not symbol.startswith(("boost::", "std::")):
                        wrong.append(f"{path}:{number}: {symbol} stands nowhere in the code")
                for suite in SUITE.findall(said):
                    if suite not in words:
                        wrong.append(f"{path}:{number}: there are no tests {suite}")
                for suite, test in TEST.findall(said):
                    if suite in suites and not any(one.startswith(test) for one in suites[suite]):
                        wrong.append(f"{path}:{number}: there is no test {suite}.{test}")
    told = rooms(root)
    for room in sorted(told):
        if not os.path.isdir(os.path.join(root, room)):
            wrong.append(f"docs/ARCHITECTURE.md: there is no room {room}/")
    for folder in sorted({os.path.dirname(f) for f in files if f.endswith((".cpp", ".c")) and not f.startswith(("tests/", "examples/"))}):
        if folder not in told and os.path.dirname(folder) not in told:
            wrong.append(f"{folder}/: docs/ARCHITECTURE.md does not tell what is there")
    for path in files:
        if path.endswith(CODE) and len(lines_of(root, path)) > MOST_LINES:
            wrong.append(f"{path}: {len(lines_of(root, path))} lines, more than {MOST_LINES}: split it by its ideas")
    for one in wrong:
        print(one)
    print(f"{len(files)} files, {len(wrong)} wrong")
    return 1 if wrong or not files or not told else 0


sys.exit(main())
