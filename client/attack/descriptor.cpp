// fcntl, locks, duplicates, seeking and asking for the state of the descriptor. Seals come last of all, in a
// family of their own.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "client/attack/operation.h"

namespace mapcap::attack {
namespace {

// linux/fcntl.h, which cannot be included beside fcntl.h.
constexpr int kSetRwHint = 1024 + 12;
constexpr int kGetRwHint = 1024 + 11;
constexpr int kGetFileRwHint = 1024 + 13;
constexpr int kSetFileRwHint = 1024 + 14;
constexpr int kDupQuery = 1024 + 3;
constexpr int kCreatedQuery = 1024 + 4;
constexpr int kSetDelegation = 1024 + 16;

void add_commands(Family& family) {
  struct Command {
    const char* name;
    long argument;
    int command;
    Rule rule;
  };
  // A lease would let the holder delay, or learn of, every open by the owner.
  constexpr Command kCommands[] = {
      {"F_GETFD", 0, F_GETFD, Rule::allowed},
      {"F_SETFD", 0, F_SETFD, Rule::allowed},
      {"F_GETFL", 0, F_GETFL, Rule::allowed},
      {"F_SETFL O_APPEND", O_APPEND, F_SETFL, Rule::harmless},
      {"F_SETFL O_DIRECT", O_DIRECT, F_SETFL, Rule::harmless},
      {"F_SETFL O_NOATIME", O_NOATIME, F_SETFL, Rule::harmless},
      {"F_SETFL O_ASYNC", O_ASYNC, F_SETFL, Rule::harmless},
      {"F_SETFL O_NONBLOCK", O_NONBLOCK, F_SETFL, Rule::harmless},
      {"F_GETOWN", 0, F_GETOWN, Rule::harmless},
      {"F_SETSIG", 10, F_SETSIG, Rule::harmless},
      {"F_GETSIG", 0, F_GETSIG, Rule::harmless},
      {"F_GETLEASE", 0, F_GETLEASE, Rule::harmless},
      {"F_SETLEASE F_RDLCK", F_RDLCK, F_SETLEASE, Rule::private_inode},
      {"F_SETLEASE F_WRLCK", F_WRLCK, F_SETLEASE, Rule::private_inode},
      {"F_NOTIFY", DN_MODIFY | DN_ACCESS | DN_MULTISHOT, F_NOTIFY, Rule::refused},
      {"F_GETPIPE_SZ", 0, F_GETPIPE_SZ, Rule::refused},
      {"F_SETPIPE_SZ", 65536, F_SETPIPE_SZ, Rule::refused},
      {"F_GET_SEALS", 0, F_GET_SEALS, Rule::harmless},
      {"F_DUPFD_QUERY", 0, kDupQuery, Rule::harmless},
      {"F_CREATED_QUERY", 0, kCreatedQuery, Rule::harmless},
  };
  for (const Command& command : kCommands) {
    family.add(command.name, command.rule, [command](const Context& c) {
      return answered(fcntl(c.fd, command.command, command.argument));
    });
  }
  family.harmless("F_SETOWN", [](const Context& c) { return answered(fcntl(c.fd, F_SETOWN, getpid())); });
  family.harmless("F_SETOWN_EX", [](const Context& c) {
    const f_owner_ex owner{F_OWNER_PID, getpid()};
    return answered(fcntl(c.fd, F_SETOWN_EX, &owner));
  });
  for (const int command : {kGetRwHint, kGetFileRwHint}) {
    family.harmless(command == kGetRwHint ? "F_GET_RW_HINT" : "F_GET_FILE_RW_HINT",
                    [command](const Context& c) {
                      std::uint64_t hint = 0;
                      return answered(fcntl(c.fd, command, &hint));
                    });
  }
  for (const int command : {kSetRwHint, kSetFileRwHint}) {
    family.add(command == kSetRwHint ? "F_SET_RW_HINT" : "F_SET_FILE_RW_HINT", Rule::private_inode,
               [command](const Context& c) {
                 const std::uint64_t kLong = 4;
                 return answered(fcntl(c.fd, command, &kLong));
               });
  }
  family.add("F_SETDELEG", Rule::private_inode, [](const Context& c) {
    struct {
      std::uint32_t flags;
      std::uint16_t type;
      std::uint16_t padding;
    } delegation{0, F_RDLCK, 0};
    return answered(fcntl(c.fd, kSetDelegation, &delegation));
  });
}

void add_locks(Family& family) {
  struct Lock {
    const char* name;
    int command;
    short type;
    Rule rule;
  };
  // Write locks need a descriptor that is open for writing.
  constexpr Lock kLocks[] = {{"F_SETLK F_RDLCK", F_SETLK, F_RDLCK, Rule::allowed},
                             {"F_SETLK F_WRLCK", F_SETLK, F_WRLCK, Rule::allowed_rw},
                             {"F_OFD_SETLK F_RDLCK", F_OFD_SETLK, F_RDLCK, Rule::allowed},
                             {"F_OFD_SETLK F_WRLCK", F_OFD_SETLK, F_WRLCK, Rule::allowed_rw},
                             {"F_GETLK", F_GETLK, F_WRLCK, Rule::harmless},
                             {"F_OFD_GETLK", F_OFD_GETLK, F_WRLCK, Rule::harmless}};
  for (const Lock& lock : kLocks) {
    family.add(lock.name, lock.rule, [lock](const Context& c) {
      struct flock range {};
      range.l_type = lock.type;
      range.l_whence = SEEK_SET;
      const long answer = fcntl(c.fd, lock.command, &range);
      if (answer == 0 && lock.command == F_OFD_SETLK) {
        range.l_type = F_UNLCK;
        (void)fcntl(c.fd, F_OFD_SETLK, &range);
      }
      return answered(answer);
    });
  }
  family.allowed("flock LOCK_SH", [](const Context& c) { return answered(flock(c.fd, LOCK_SH | LOCK_NB)); });
  family.allowed("flock LOCK_EX", [](const Context& c) { return answered(flock(c.fd, LOCK_EX | LOCK_NB)); });
}

Attempt maps_too(const Context& context, int duplicate) {
  if (duplicate < 0) return answered(duplicate);
  Context through = context;
  through.fd = duplicate;
  return map_region(through) != nullptr ? allowed() : refused(errno, "the duplicate cannot be mapped");
}

void add_duplicates(Family& family) {
  family.allowed("dup", [](const Context& c) { return maps_too(c, dup(c.fd)); });
  family.allowed("dup2", [](const Context& c) { return maps_too(c, dup2(c.fd, 200)); });
  family.allowed("dup3", [](const Context& c) { return maps_too(c, dup3(c.fd, 201, O_CLOEXEC)); });
  family.allowed("F_DUPFD", [](const Context& c) { return maps_too(c, fcntl(c.fd, F_DUPFD, 202)); });
  family.allowed("F_DUPFD_CLOEXEC",
                 [](const Context& c) { return maps_too(c, fcntl(c.fd, F_DUPFD_CLOEXEC, 203)); });
}

void add_positions(Family& family) {
  struct Position {
    const char* name;
    off_t offset;
    int whence;
  };
  constexpr Position kPositions[] = {
      {"lseek SEEK_SET", 1, SEEK_SET},   {"lseek SEEK_CUR", 0, SEEK_CUR},
      {"lseek SEEK_END", 0, SEEK_END},   {"lseek to 2^62", off_t{1} << 62, SEEK_SET},
      {"lseek SEEK_DATA", 0, SEEK_DATA}, {"lseek SEEK_HOLE", 0, SEEK_HOLE}};
  for (const Position& position : kPositions) {
    family.harmless(position.name, [position](const Context& c) {
      return answered(lseek(c.fd, position.offset, position.whence));
    });
  }
}

Attempt exact_size(const Context& context, long answer, std::uint64_t told) {
  if (answer < 0) return answered(answer);
  // A device file has no size.
  if (context.confinement == Confinement::native) return allowed();
  if (told == context.size) return allowed();
  return refused(0, "the size is told as " + std::to_string(told) + ", not " + std::to_string(context.size));
}

void add_state(Family& family) {
  family.allowed("fstat tells the size", [](const Context& c) {
    struct stat state {};
    const int answer = fstat(c.fd, &state);
    return exact_size(c, answer, static_cast<std::uint64_t>(state.st_size));
  });
  family.allowed("fstatat AT_EMPTY_PATH tells the size", [](const Context& c) {
    struct stat state {};
    const int answer = fstatat(c.fd, "", &state, AT_EMPTY_PATH);
    return exact_size(c, answer, static_cast<std::uint64_t>(state.st_size));
  });
  family.allowed("statx tells the size", [](const Context& c) {
    struct statx state {};
    const int answer = statx(c.fd, "", AT_EMPTY_PATH, STATX_SIZE, &state);
    return exact_size(c, answer, state.stx_size);
  });
  family.harmless("statx AT_STATX_FORCE_SYNC", [](const Context& c) {
    struct statx state {};
    return answered(statx(c.fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_ALL, &state));
  });
  family.harmless("fstatfs", [](const Context& c) {
    struct statfs state {};
    return answered(fstatfs(c.fd, &state));
  });
  family.harmless("fstatvfs", [](const Context& c) {
    struct statvfs state {};
    return answered(fstatvfs(c.fd, &state));
  });
  family.harmless("fpathconf", [](const Context& c) {
    errno = 0;
    return answered(fpathconf(c.fd, _PC_NAME_MAX));
  });
}

}  // namespace

void add_descriptor(std::vector<Operation>& all) {
  Family family(all, "descriptor");
  add_commands(family);
  add_locks(family);
  add_duplicates(family);
  add_positions(family);
  add_state(family);
}

void add_seals(std::vector<Operation>& all) {
  struct Seal {
    const char* name;
    int seal;
  };
  // From the weakest to the one after which nothing can be added.
  constexpr Seal kSeals[] = {{"F_SEAL_EXEC", 0x20},
                             {"F_SEAL_GROW", F_SEAL_GROW},
                             {"F_SEAL_SHRINK", F_SEAL_SHRINK},
                             {"F_SEAL_FUTURE_WRITE", F_SEAL_FUTURE_WRITE},
                             {"F_SEAL_WRITE", F_SEAL_WRITE},
                             {"F_SEAL_SEAL", F_SEAL_SEAL}};
  Family family(all, "seals");
  for (const Seal& seal : kSeals) {
    family.refused(std::string("F_ADD_SEALS ") + seal.name,
                   [seal](const Context& c) { return answered(fcntl(c.fd, F_ADD_SEALS, seal.seal)); });
  }
}

}  // namespace mapcap::attack
