// fill, dump: files in and out through a mapping.
//
// The kernel copies (read(2) into the mapping, write(2) out of it): a region that is revoked meanwhile then
// gives EFAULT instead of a SIGBUS.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iostream>
#include <optional>

#include "client/cli/broker.h"
#include "client/cli/commands.h"
#include "client/cli/json.h"
#include "client/cli/new_file.h"
#include "client/cli/progress.h"
#include "client/cli/text.h"
#include "client/raise.h"
#include "mapcap/error.h"
#include "mapcap/mapping.h"

namespace mapcap::cli {
namespace {

// Large enough that system calls cost nothing, small enough that the bar moves.
constexpr std::size_t kStep = 4U << 20U;

// Damaged sectors of a region that still lives; 0 as well where the broker cannot be asked.
std::uint32_t bad_blocks_of(const Common& common, const std::string& name) {
  try {
    const RegionInfo region = connect(common).show(name).region;
    return region.state == RegionState::live ? region.bad_blocks : 0;
  } catch (const Error&) {
    return 0;
  }
}

// `at`: how far the copy came.
[[noreturn]] void raise_copy(const Common& common, const std::string& what, const std::string& name,
                             std::uint64_t at, int error) {
  if (error != EFAULT) raise(io_error(what, error));
  if (const std::uint32_t sectors = bad_blocks_of(common, name); sectors > 0) {
    throw Error(ErrorCode::io,
                "the memory of " + name + " is damaged at byte " + std::to_string(at) + ": its device has " +
                    std::to_string(sectors) + " bad sectors in the region; save the rest, and revoke it",
                {{"offset", std::to_string(at)}, {"bad_blocks", std::to_string(sectors)}});
  }
  throw Error(ErrorCode::revoked,
              name + " was revoked while it was being copied; nothing of it can be trusted");
}

Fd open_file(const std::string& path, int flags, int standard) {
  Fd fd(path == "-" ? ::fcntl(standard, F_DUPFD_CLOEXEC, 3) : ::open(path.c_str(), flags | O_CLOEXEC, 0666));
  if (!fd.valid()) raise(io_error("open of " + path, errno));
  return fd;
}

std::optional<std::uint64_t> regular_size(int fd) {
  struct stat facts {};
  if (::fstat(fd, &facts) != 0 || !S_ISREG(facts.st_mode)) return std::nullopt;
  const off_t at = std::max<off_t>(::lseek(fd, 0, SEEK_CUR), 0);
  return static_cast<std::uint64_t>(std::max<off_t>(facts.st_size - at, 0));
}

[[noreturn]] void raise_too_large(const FillCommand& command, std::uint64_t size,
                                  const std::string& file_size) {
  throw Error(ErrorCode::invalid,
              (command.file == "-" ? "standard input" : command.file) + " has " + file_size + " and " +
                  command.name + " only " + size_text(size) + "; create a region of at least that size",
              {{"size", std::to_string(size)}});
}

std::uint64_t fill(const Common& common, Mapping& mapping, int file, const FillCommand& command,
                   ProgressBar& bar) {
  const std::span<std::byte> memory = mapping.writable();
  std::uint64_t done = 0;
  while (done < memory.size()) {
    const ssize_t got = ::read(file, memory.data() + done, std::min(kStep, memory.size() - done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) raise_copy(common, "read of " + command.file, command.name, done, errno);
    if (got == 0) return done;
    mapping.flush(done, static_cast<std::size_t>(got));
    done += static_cast<std::uint64_t>(got);
    bar.update(done);
  }
  char more = 0;
  if (::read(file, &more, 1) == 1) raise_too_large(command, memory.size(), "more bytes");
  return done;
}

}  // namespace

int perform(const Common& common, const FillCommand& command) {
  const Fd file = open_file(command.file, O_RDONLY, STDIN_FILENO);
  const auto file_size = regular_size(file.get());
  Client client = connect(common);
  Copied copied;
  {
    // Neither grant nor mapping are left when it is published.
    const Grant grant = client.open(command.name, Access::read_write);
    if (file_size && *file_size > grant.size())
      raise_too_large(command, grant.size(), size_phrase(*file_size));
    Mapping mapping(grant);
    copied = {command.name, 0, grant.size(), mapping.durability().granularity, false};
    ProgressBar bar("filling " + command.name, file_size);
    copied.bytes = fill(common, mapping, file.get(), command, bar);
    mapping.drain();
  }
  if (command.publish) {
    std::optional<WaitingLine> waiting;
    if (command.publish->within.count() > 0)
      waiting.emplace("waiting for writers of " + command.name, command.publish->within);
    client.publish(command.name, command.publish->within);
    copied.published = true;
  }
  if (common.json) {
    std::cout << json(copied) << '\n';
    return 0;
  }
  std::cout << "filled " << command.name << ": " << size_phrase(copied.bytes) << " of "
            << size_text(copied.size)
            << (copied.persisted == Granularity::none
                    ? ", in volatile memory"
                    : ", durable (" + std::string(to_string(copied.persisted)) + ")")
            << (copied.published ? ", published: nobody can write it any more" : "") << '\n';
  return 0;
}

namespace {

/// Read-only where that can be had: memfd_secret is granted rw or not at all.
Grant open_to_read(const Common& common, const std::string& name) {
  Client client = connect(common);
  try {
    return client.open(name, Access::read_only);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::unsupported) throw;
    return client.open(name, Access::read_write);
  }
}

}  // namespace

int perform(const Common& common, const DumpCommand& command) {
  const Grant grant = open_to_read(common, command.name);
  const Mapping mapping(grant);
  const std::uint64_t total = std::min<std::uint64_t>(command.bytes.value_or(grant.size()), grant.size());
  NewFile file(command.file);
  std::uint64_t done = 0;
  {
    ProgressBar bar("dumping " + command.name, total);
    while (done < total) {
      const ssize_t put =
          ::write(file.fd(), mapping.bytes().data() + done, std::min<std::uint64_t>(kStep, total - done));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) raise_copy(common, "write to " + command.file, command.name, done, errno);
      done += static_cast<std::uint64_t>(put);
      bar.update(done);
    }
  }
  file.keep();
  if (command.file == "-") return 0;  // stdout is the data's
  if (common.json) {
    std::cout << json(Copied{command.name, done, grant.size(), Granularity::none, false}) << '\n';
  } else {
    std::cout << "dumped " << command.name << ": " << size_phrase(done) << " into " << command.file << '\n';
  }
  return 0;
}

}  // namespace mapcap::cli
