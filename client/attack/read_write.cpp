// read(2), write(2) and their relatives.
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>

#include "client/attack/operation.h"

namespace mapcap::attack {
namespace {

constexpr std::size_t kLength = 512;

struct Flag {
  const char* name;
  int value;
};

// Named by number where Debian 12's headers are older than the flag.
constexpr Flag kReadFlags[] = {{"0", 0},
                               {"RWF_HIPRI", 0x1},
                               {"RWF_NOWAIT", 0x8},
                               {"RWF_ATOMIC", 0x40},
                               {"RWF_DONTCACHE", 0x80},
                               {"RWF_NOSIGNAL", 0x100}};
constexpr Flag kWriteFlags[] = {{"0", 0},
                                {"RWF_HIPRI", 0x1},
                                {"RWF_DSYNC", 0x2},
                                {"RWF_SYNC", 0x4},
                                {"RWF_NOWAIT", 0x8},
                                {"RWF_APPEND", 0x10},
                                {"RWF_NOAPPEND", 0x20},
                                {"RWF_ATOMIC", 0x40},
                                {"RWF_DONTCACHE", 0x80}};
constexpr Flag kStatusFlags[] = {
    {"O_DIRECT", O_DIRECT}, {"O_NONBLOCK", O_NONBLOCK}, {"O_APPEND", O_APPEND}, {"O_NOATIME", O_NOATIME}};

struct alignas(4096) Buffer {
  std::array<std::byte, 4096> bytes;
};

Attempt read_with(const Context& context, const std::function<ssize_t(std::span<std::byte>)>& call) {
  Buffer buffer{};
  const ssize_t count = call(buffer.bytes);
  return delivered(context, count, buffer.bytes);
}

Attempt write_with(const Context& context, const std::function<ssize_t(std::span<std::byte>)>& call) {
  std::vector<std::byte> bytes = other_bytes(context, kLength);
  return answered(call(bytes));
}

iovec vector_of(std::span<std::byte> bytes) {
  return {bytes.data(), bytes.size()};
}

void add_reads(Family& reads) {
  reads.refused("read", [](const Context& c) {
    return read_with(c, [&](auto bytes) { return read(c.fd, bytes.data(), kLength); });
  });
  reads.refused("read one byte", [](const Context& c) {
    return read_with(c, [&](auto bytes) { return read(c.fd, bytes.data(), 1); });
  });
  reads.refused("read by a child", [](const Context& c) {
    const Pipe pipe = make_pipe();
    const pid_t pid = spawn([&] {
      std::array<std::byte, kLength> bytes{};
      const ssize_t count = read(c.fd, bytes.data(), bytes.size());
      if (count > 0) (void)!write(pipe.write_end, bytes.data(), static_cast<std::size_t>(count));
    });
    (void)wait_for(pid);
    const std::vector<std::byte> got = drain(pipe.read_end, kLength);
    return delivered(c, static_cast<long>(got.size()), got);
  });
  reads.refused("pread", [](const Context& c) {
    return read_with(c, [&](auto bytes) { return pread(c.fd, bytes.data(), kLength, 0); });
  });
  reads.refused("pread of the last byte", [](const Context& c) {
    return read_with(
        c, [&](auto bytes) { return pread(c.fd, bytes.data(), 1, static_cast<off_t>(c.size - 1)); });
  });
  reads.refused("pread of a page, page-aligned", [](const Context& c) {
    return read_with(c, [&](auto bytes) { return pread(c.fd, bytes.data(), bytes.size(), 0); });
  });
  reads.refused("pread past the end", [](const Context& c) {
    return read_with(
        c, [&](auto bytes) { return pread(c.fd, bytes.data(), kLength, static_cast<off_t>(c.size)); });
  });
  reads.refused("readv", [](const Context& c) {
    return read_with(c, [&](auto bytes) {
      const iovec one = vector_of(bytes);
      return readv(c.fd, &one, 1);
    });
  });
  reads.refused("preadv", [](const Context& c) {
    return read_with(c, [&](auto bytes) {
      const iovec two[] = {vector_of(bytes.first(100)), vector_of(bytes.subspan(100, 100))};
      return preadv(c.fd, two, 2, 0);
    });
  });
  for (const Flag& flag : kReadFlags) {
    reads.refused(std::string("preadv2 ") + flag.name, [flag](const Context& c) {
      return read_with(c, [&](auto bytes) {
        const iovec one = vector_of(bytes);
        return preadv2(c.fd, &one, 1, 0, flag.value);
      });
    });
  }
  for (const Flag& flag : kStatusFlags) {
    reads.refused(std::string("read after F_SETFL ") + flag.name, [flag](const Context& c) {
      (void)fcntl(c.fd, F_SETFL, fcntl(c.fd, F_GETFL) | flag.value);
      return read_with(c, [&](auto bytes) { return pread(c.fd, bytes.data(), bytes.size(), 0); });
    });
  }
  reads.refused("read into the region's own mapping", [](const Context& c) {
    std::byte* region = map_region(c);
    if (region == nullptr) return inconclusive("cannot map");
    return answered(pread(c.fd, region + c.page / 2, 64, 0));
  });
}

void add_writes(Family& writes) {
  writes.unchanged("write", [](const Context& c) {
    return write_with(c, [&](auto bytes) { return write(c.fd, bytes.data(), bytes.size()); });
  });
  writes.unchanged("write one byte", [](const Context& c) {
    return write_with(c, [&](auto bytes) { return write(c.fd, bytes.data(), 1); });
  });
  writes.unchanged("pwrite", [](const Context& c) {
    return write_with(c, [&](auto bytes) { return pwrite(c.fd, bytes.data(), bytes.size(), 0); });
  });
  writes.unchanged("pwrite past the end", [](const Context& c) {
    return write_with(
        c, [&](auto bytes) { return pwrite(c.fd, bytes.data(), bytes.size(), static_cast<off_t>(c.size)); });
  });
  writes.unchanged("pwrite of a page, page-aligned", [](const Context& c) {
    Buffer buffer;
    const std::vector<std::byte> bytes = other_bytes(c, buffer.bytes.size());
    std::copy(bytes.begin(), bytes.end(), buffer.bytes.begin());
    return answered(pwrite(c.fd, buffer.bytes.data(), buffer.bytes.size(), 0));
  });
  writes.unchanged("writev", [](const Context& c) {
    return write_with(c, [&](auto bytes) {
      const iovec one = vector_of(bytes);
      return writev(c.fd, &one, 1);
    });
  });
  writes.unchanged("pwritev", [](const Context& c) {
    return write_with(c, [&](auto bytes) {
      const iovec one = vector_of(bytes);
      return pwritev(c.fd, &one, 1, 0);
    });
  });
  for (const Flag& flag : kWriteFlags) {
    writes.unchanged(std::string("pwritev2 ") + flag.name, [flag](const Context& c) {
      return write_with(c, [&](auto bytes) {
        const iovec one = vector_of(bytes);
        return pwritev2(c.fd, &one, 1, 0, flag.value);
      });
    });
  }
  for (const Flag& flag : kStatusFlags) {
    writes.unchanged(std::string("write after F_SETFL ") + flag.name, [flag](const Context& c) {
      (void)fcntl(c.fd, F_SETFL, fcntl(c.fd, F_GETFL) | flag.value);
      Buffer buffer;
      const std::vector<std::byte> bytes = other_bytes(c, buffer.bytes.size());
      std::copy(bytes.begin(), bytes.end(), buffer.bytes.begin());
      return answered(pwrite(c.fd, buffer.bytes.data(), buffer.bytes.size(), 0));
    });
  }
}

}  // namespace

void add_read_write(std::vector<Operation>& all) {
  Family reads(all, "read");
  add_reads(reads);
  Family writes(all, "write");
  add_writes(writes);
}

}  // namespace mapcap::attack
