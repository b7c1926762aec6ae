#!/usr/bin/env python3
"""A client of mapcapd that was written from docs/protocol.md alone, with Python's standard library and nothing else.

    examples/protocol_client.py SOCKET NAME

creates the region NAME, stores into it, opens it again read-only, reads what was stored, revokes it over a second
connection, and waits for the notice of that. To copy from when there is no library for your language.
"""

from __future__ import annotations

import mmap
import socket
import struct
import sys

VERSION = 1
NOTICES = 1  # a feature bit of hello
READ_ONLY, READ_WRITE = 0, 1

# Members of the unions, by number: Request.body, FromBroker, Reply.body.
HELLO, CREATE, OPEN, REVOKE = 0, 1, 2, 6
REPLY, NOTICE = 0, 1
ERROR, WELCOME, GRANTED, REVOKED = 0, 1, 2, 6
NOTICE_KINDS = ("expiring", "revoking", "revoked", "progress")


# ---- one message: the encoding that docs/protocol.md describes ----


class Struct:
    """A struct to be sent: a data section that is filled in by offset, and pointers to other objects."""

    def __init__(self, data_bytes: int, pointers: int) -> None:
        self.data = bytearray(data_bytes)
        self.pointers: list[Struct | bytes | None] = [None] * pointers

    def put(self, form: str, bit: int, value: int) -> Struct:
        struct.pack_into("<" + form, self.data, bit // 8, value)
        return self

    def point(self, index: int, value: Struct | str | bytes) -> Struct:
        # Text is a list of bytes with a NUL at its end; Data is one without.
        self.pointers[index] = value.encode() + b"\0" if isinstance(value, str) else value
        return self


def encode(root: Struct) -> bytes:
    """A packet: the table of one segment, then that segment, which begins with a pointer to the root."""
    words = bytearray(8)

    def place(value: Struct | bytes | None, pointer_at: int) -> None:
        """Appends the object and writes the pointer to it, whose offset counts from the pointer's end."""
        if value is None:
            return
        offset = (len(words) - pointer_at - 8) // 8
        if isinstance(value, bytes):
            # A list pointer: 1, offset; element size 2 (bytes), count.
            struct.pack_into("<II", words, pointer_at, offset << 2 | 1, len(value) << 3 | 2)
            words.extend(value + bytes(-len(value) % 8))
            return
        # A struct pointer: 0, offset; words of data, number of pointers.
        struct.pack_into("<IHH", words, pointer_at, offset << 2, len(value.data) // 8, len(value.pointers))
        begin = len(words) + len(value.data)
        words.extend(bytes(value.data) + bytes(8 * len(value.pointers)))
        for index, target in enumerate(value.pointers):
            place(target, begin + 8 * index)

    place(root, 0)
    return struct.pack("<II", 0, len(words) // 8) + bytes(words)


class View:
    """A struct that was received. What a shorter, older struct does not have reads as zero."""

    def __init__(self, words: bytes, at: int, data_words: int, pointers: int) -> None:
        self.words, self.at, self.data_bytes, self.pointers = words, at, 8 * data_words, pointers

    def get(self, form: str, bit: int) -> int:
        if bit // 8 + struct.calcsize(form) > self.data_bytes:
            return 0
        return int(struct.unpack_from("<" + form, self.words, self.at + bit // 8)[0])

    def struct(self, index: int) -> View:
        if index >= self.pointers:
            return View(self.words, 0, 0, 0)
        at = self.at + self.data_bytes + 8 * index
        low, data_words, pointers = struct.unpack_from("<iHH", self.words, at)
        if low & 3:
            raise ValueError("not a pointer to a struct")
        return View(self.words, at + 8 + 8 * (low >> 2), data_words, pointers)

    def text(self, index: int) -> str:
        if index >= self.pointers:
            return ""
        at = self.at + self.data_bytes + 8 * index
        low, high = struct.unpack_from("<iI", self.words, at)
        if low == 0 and high == 0:
            return ""
        begin = at + 8 + 8 * (low >> 2)
        return self.words[begin : begin + (high >> 3) - 1].decode()

    def data(self, index: int) -> bytes:
        at = self.at + self.data_bytes + 8 * index
        low, high = struct.unpack_from("<iI", self.words, at)
        begin = at + 8 + 8 * (low >> 2)
        return self.words[begin : begin + (high >> 3)]


def decode(packet: bytes) -> View:
    others, count = struct.unpack_from("<II", packet)
    if others != 0 or len(packet) != 8 + 8 * count:
        raise ValueError("a packet is one segment, and ends where that ends")
    low, data_words, pointers = struct.unpack_from("<iHH", packet, 8)
    return View(packet[8:], 8 + 8 * (low >> 2), data_words, pointers)


# ---- the connection ----


class Refused(Exception):
    """The broker's answer was an error: its number, and its sentence."""


class Connection:
    """One request at a time; notices that come meanwhile are kept."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(path)
        self.last_id = 0
        self.notices: list[tuple[str, str]] = []
        hello = Struct(16, 2).put("I", 0, VERSION).put("Q", 64, NOTICES).point(0, "protocol_client.py")
        welcome, _ = self.ask(HELLO, hello, WELCOME)
        if welcome.get("I", 0) != VERSION:
            raise Refused(f"the broker speaks version {welcome.get('I', 0)}")
        self.broker = welcome.text(0)

    def ask(self, kind: int, body: Struct, expected: int) -> tuple[View, int]:
        """Returns the body of the reply, and the descriptor that rode on it or -1. Errors: Refused."""
        self.last_id += 1
        request = Struct(16, 1).put("Q", 0, self.last_id).put("H", 64, kind).point(0, body)
        self.socket.sendall(encode(request))
        while True:
            reply, fd = self.receive()
            if reply is None:
                continue
            found = reply.get("H", 64)
            if found == ERROR:
                error = reply.struct(0)
                raise Refused(f"{error.get('H', 0)}: {error.text(0)}")
            if reply.get("Q", 0) != self.last_id or found != expected:
                raise Refused("the broker answered something that was not asked")
            return reply.struct(0), fd

    def receive(self) -> tuple[View | None, int]:
        """The next reply; a notice is kept, and None returned."""
        packet, fds, _, _ = socket.recv_fds(self.socket, 65536, 1)
        if not packet:
            raise Refused("the broker closed the connection")
        message = decode(packet)
        body = message.struct(0)
        if message.get("H", 0) == NOTICE:
            self.notices.append((NOTICE_KINDS[body.get("H", 0)], body.text(0)))
            return None, -1
        return body, fds[0] if fds else -1

    def create(self, name: str, size: int) -> tuple[int, int]:
        """A region that ends with this connection, and a grant to write it: its descriptor and its true size."""
        lifetime = Struct(16, 0)  # the union's first member: connection
        body = Struct(32, 3).put("Q", 0, size).put("H", 96, 0o600).put("H", 192, 1).put("H", 208, READ_WRITE)
        # Callers' own group, the pool's default seal and write-back are the first members of theirs: zeros.
        granted, fd = self.ask(CREATE, body.point(0, name).point(1, "").point(2, lifetime), GRANTED)
        return fd, granted.struct(0).get("Q", 192)

    def open(self, name: str) -> tuple[int, int]:
        granted, fd = self.ask(OPEN, Struct(8, 1).put("H", 0, READ_ONLY).point(0, name), GRANTED)
        return fd, granted.struct(0).get("Q", 192)

    def revoke(self, name: str) -> None:
        self.ask(REVOKE, Struct(16, 1).point(0, name), REVOKED)

    def next_notice(self) -> tuple[str, str]:
        while not self.notices:
            self.receive()
        return self.notices.pop(0)


def main(path: str, name: str) -> None:
    broker = Connection(path)
    print(f"connected to {broker.broker}")
    fd, size = broker.create(name, 10000)
    writable = mmap.mmap(fd, size)
    writable[0:5] = b"hello"
    print(f"created {name}: {size} bytes")

    reading, _ = broker.open(name)
    with mmap.mmap(reading, size, access=mmap.ACCESS_READ) as readable:
        print(f"read {readable[0:5].decode()}")

    Connection(path).revoke(name)
    kind, told = broker.next_notice()
    print(f"told: {told} {kind}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: protocol_client.py SOCKET NAME")
    main(sys.argv[1], sys.argv[2])
