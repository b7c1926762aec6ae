// Everything that could change how long the region is, or take blocks out of it.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client/attack/operation.h"

namespace mapcap::attack {
namespace {

enum class Length { zero, smaller, same, larger, huge };

struct NamedLength {
  const char* name;
  Length length;
};
constexpr NamedLength kLengths[] = {{"0", Length::zero},
                                    {"less", Length::smaller},
                                    {"the same", Length::same},
                                    {"more", Length::larger},
                                    {"2^62", Length::huge}};

off_t length_of(const Context& context, Length length) {
  switch (length) {
    case Length::zero:
      return 0;
    case Length::smaller:
      return static_cast<off_t>(context.size > context.page ? context.size - context.page : context.size / 2);
    case Length::same:
      return static_cast<off_t>(context.size);
    case Length::larger:
      return static_cast<off_t>(context.size + context.page);
    case Length::huge:
      return off_t{1} << 62;
  }
  std::abort();
}

// Truncating to the same length changes nothing that can be seen but the times, so its answer decides.
void add_truncation(Family& size, const std::string& how, const NamedLength& to, const Try& attempt) {
  if (to.length == Length::same) {
    size.add(how + " to " + to.name, Rule::node_times, attempt);
  } else {
    size.unchanged(how + " to " + to.name, attempt);
  }
}

void add_truncations(Family& size) {
  for (const NamedLength& to : kLengths) {
    add_truncation(size, "ftruncate", to,
                   [to](const Context& c) { return answered(ftruncate(c.fd, length_of(c, to.length))); });
    add_truncation(size, "truncate /proc/self/fd", to, [to](const Context& c) {
      return answered(truncate(fd_path(c.fd).c_str(), length_of(c, to.length)));
    });
  }
  size.unchanged("truncate /dev/fd to 0", [](const Context& c) {
    return answered(truncate(("/dev/fd/" + std::to_string(c.fd)).c_str(), 0));
  });
  size.unchanged("open /proc/self/fd O_TRUNC", [](const Context& c) {
    return answered(open(fd_path(c.fd).c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
  });
  size.unchanged("open /proc/self/fd O_RDONLY|O_TRUNC", [](const Context& c) {
    return answered(open(fd_path(c.fd).c_str(), O_RDONLY | O_TRUNC | O_CLOEXEC));
  });
}

struct Mode {
  const char* name;
  int value;
  bool beyond;   // past the end rather than within
  bool visible;  // to the witness, when it works
};
constexpr int kWriteZeroes = 0x80;  // FALLOC_FL_WRITE_ZEROES, Linux 6.17
constexpr Mode kModes[] = {
    {"allocate", 0, false, false},
    {"allocate past the end", 0, true, true},
    {"KEEP_SIZE", FALLOC_FL_KEEP_SIZE, false, false},
    {"KEEP_SIZE past the end", FALLOC_FL_KEEP_SIZE, true, false},
    {"PUNCH_HOLE", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, false, true},
    {"PUNCH_HOLE past the end", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, true, false},
    {"PUNCH_HOLE without KEEP_SIZE", FALLOC_FL_PUNCH_HOLE, false, true},
    {"ZERO_RANGE", FALLOC_FL_ZERO_RANGE, false, true},
    {"ZERO_RANGE KEEP_SIZE", FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, false, true},
    {"COLLAPSE_RANGE", FALLOC_FL_COLLAPSE_RANGE, false, true},
    {"INSERT_RANGE", FALLOC_FL_INSERT_RANGE, false, true},
    {"UNSHARE_RANGE", FALLOC_FL_UNSHARE_RANGE, false, false},
    {"NO_HIDE_STALE", FALLOC_FL_NO_HIDE_STALE, false, false},
    {"WRITE_ZEROES", kWriteZeroes, false, true},
    {"all flags", 0x7f, false, false},
};

void add_allocations(Family& size) {
  for (const Mode& mode : kModes) {
    size.add(
        std::string("fallocate ") + mode.name, Rule::refused,
        [mode](const Context& c) {
          const auto offset = static_cast<off_t>(mode.beyond ? c.size : 0);
          return answered(fallocate(c.fd, mode.value, offset, static_cast<off_t>(c.page)));
        },
        mode.visible ? Evidence::change : Evidence::answer);
  }
  size.unchanged("posix_fallocate past the end", [](const Context& c) {
    errno = posix_fallocate(c.fd, static_cast<off_t>(c.size), static_cast<off_t>(c.page));
    return answered(errno == 0 ? 0 : -1);
  });
}

// XFS's ancient preallocation calls, which the kernel's common ioctl code answers for every regular file.
struct SpaceArgument {
  std::int16_t type;
  std::int16_t whence;
  std::int64_t start;
  std::int64_t length;
  std::int32_t system_id;
  std::uint32_t pid;
  std::int32_t reserved[4];
};

void add_space_ioctls(Family& size) {
  struct Call {
    const char* name;
    unsigned long request;
    bool visible;
  };
  constexpr Call kCalls[] = {{"FS_IOC_RESVSP", _IOW('X', 40, SpaceArgument), false},
                             {"FS_IOC_UNRESVSP", _IOW('X', 41, SpaceArgument), true},
                             {"FS_IOC_RESVSP64", _IOW('X', 42, SpaceArgument), false},
                             {"FS_IOC_UNRESVSP64", _IOW('X', 43, SpaceArgument), true},
                             {"FS_IOC_ZERO_RANGE", _IOW('X', 57, SpaceArgument), true}};
  for (const Call& call : kCalls) {
    size.add(
        call.name, Rule::refused,
        [call](const Context& c) {
          SpaceArgument argument{};
          argument.length = static_cast<std::int64_t>(c.page);
          return answered(ioctl(c.fd, call.request, &argument));
        },
        call.visible ? Evidence::change : Evidence::answer);
  }
}

}  // namespace

void add_size(std::vector<Operation>& all) {
  Family size(all, "size");
  add_truncations(size);
  add_allocations(size);
  add_space_ioctls(size);
}

}  // namespace mapcap::attack
