// Advice and maintenance: calls that only ask for something to be faster, locked or written back, and must
// not turn into a way to change what others see.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

#include "client/attack/operation.h"
#include "client/attack/syscalls.h"

namespace mapcap::attack {
namespace {

struct Advice {
  const char* name;
  int value;
  Rule rule;
};

// All of Linux 6.18's. REMOVE punches a hole; the poisoning ones destroy pages.
constexpr Advice kAdvice[] = {{"MADV_NORMAL", 0, Rule::harmless},
                              {"MADV_RANDOM", 1, Rule::harmless},
                              {"MADV_SEQUENTIAL", 2, Rule::harmless},
                              {"MADV_WILLNEED", 3, Rule::harmless},
                              {"MADV_DONTNEED", 4, Rule::harmless},
                              {"MADV_FREE", 8, Rule::harmless},
                              {"MADV_REMOVE", 9, Rule::refused},
                              {"MADV_DONTFORK", 10, Rule::harmless},
                              {"MADV_DOFORK", 11, Rule::harmless},
                              {"MADV_MERGEABLE", 12, Rule::harmless},
                              {"MADV_UNMERGEABLE", 13, Rule::harmless},
                              {"MADV_HUGEPAGE", 14, Rule::harmless},
                              {"MADV_NOHUGEPAGE", 15, Rule::harmless},
                              {"MADV_DONTDUMP", 16, Rule::harmless},
                              {"MADV_DODUMP", 17, Rule::harmless},
                              {"MADV_WIPEONFORK", 18, Rule::harmless},
                              {"MADV_KEEPONFORK", 19, Rule::harmless},
                              {"MADV_COLD", 20, Rule::harmless},
                              {"MADV_PAGEOUT", 21, Rule::harmless},
                              {"MADV_POPULATE_READ", 22, Rule::harmless},
                              {"MADV_POPULATE_WRITE", 23, Rule::tolerated_rw},
                              {"MADV_DONTNEED_LOCKED", 24, Rule::harmless},
                              {"MADV_COLLAPSE", 25, Rule::harmless},
                              {"MADV_HWPOISON", 100, Rule::refused},
                              {"MADV_SOFT_OFFLINE", 101, Rule::refused},
                              {"MADV_GUARD_INSTALL", 102, Rule::harmless},
                              {"MADV_GUARD_REMOVE", 103, Rule::harmless}};

// linux/mempolicy.h; libnuma is not worth a dependency.
constexpr int kMpolBind = 2;
constexpr int kMpolDefault = 0;
constexpr int kMpolOfAddress = 2;

// An operation on a mapping of the whole region with all the rights that the grant gives.
Try on_mapping(std::function<long(const Context&, std::byte*)> call) {
  return [call = std::move(call)](const Context& c) {
    std::byte* region = map_region(c);
    if (region == nullptr) return inconclusive("cannot map");
    (void)*static_cast<const volatile std::byte*>(region);  // so that there is a page to work on
    return answered(call(c, region));
  };
}

void add_madvise(Family& family) {
  for (const Advice& advice : kAdvice) {
    family.add(std::string("madvise ") + advice.name, advice.rule,
               on_mapping([advice](const Context& c, std::byte* region) {
                 return madvise(region, c.page, advice.value);
               }));
  }
  family.refused("madvise MADV_REMOVE of a private mapping", [](const Context& c) {
    std::byte* region = map(c, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    if (region == nullptr) return refused(errno);
    return answered(madvise(region, c.page, MADV_REMOVE));
  });
  for (const int advice : {MADV_COLD, MADV_PAGEOUT, MADV_REMOVE, MADV_DONTNEED}) {
    const char* name = advice == MADV_COLD      ? "MADV_COLD"
                       : advice == MADV_PAGEOUT ? "MADV_PAGEOUT"
                       : advice == MADV_REMOVE  ? "MADV_REMOVE"
                                                : "MADV_DONTNEED";
    family.add(std::string("process_madvise ") + name, advice == MADV_REMOVE ? Rule::refused : Rule::harmless,
               on_mapping([advice](const Context& c, std::byte* region) -> long {
                 const long self = syscall(SYS_pidfd_open, getpid(), 0);
                 const iovec part{region, c.page};
                 return syscall(SYS_process_madvise, self, &part, 1, advice, 0);
               }));
  }
}

void add_maintenance(Family& family) {
  family.harmless("mlock",
                  on_mapping([](const Context& c, std::byte* region) { return mlock(region, c.page); }));
  family.harmless("mlock2 MLOCK_ONFAULT", on_mapping([](const Context& c, std::byte* region) {
                    return mlock2(region, c.page, MLOCK_ONFAULT);
                  }));
  family.harmless("mincore", on_mapping([](const Context& c, std::byte* region) {
                    unsigned char present = 0;
                    return mincore(region, c.page, &present);
                  }));
  family.harmless("mseal", on_mapping([](const Context& c, std::byte* region) {
                    return syscall(number::mseal, region, c.page, 0);
                  }));
  for (const int flags : {MS_ASYNC, MS_SYNC, MS_SYNC | MS_INVALIDATE}) {
    family.harmless(
        std::string("msync ") + (flags == MS_ASYNC  ? "MS_ASYNC"
                                 : flags == MS_SYNC ? "MS_SYNC"
                                                    : "MS_SYNC|MS_INVALIDATE"),
        on_mapping([flags](const Context& c, std::byte* region) { return msync(region, c.page, flags); }));
  }
  // A memory policy of a shared mapping belongs to the file: other mappers' next pages follow it. It moves no
  // data, and where pages lie is no promise; but whoever reads the table should know.
  family.harmless("mbind, seen by others", [](const Context& c) {
    std::byte* region = map_region(c);
    const std::byte* others = map(c, PROT_READ);
    if (region == nullptr || others == nullptr) return inconclusive("cannot map");
    const unsigned long nodes = 1;
    if (syscall(SYS_mbind, region, c.page, kMpolBind, &nodes, 64, 0) != 0) return answered(-1);
    int mode = 0;
    const long asked = syscall(SYS_get_mempolicy, &mode, nullptr, 0, others, kMpolOfAddress);
    (void)syscall(SYS_mbind, region, c.page, kMpolDefault, nullptr, 0, 0);
    if (asked != 0) return answered(asked);
    return mode == kMpolBind ? allowed("placement of the whole region follows")
                             : refused(0, "it stays with this mapping");
  });
  family.harmless("move_pages", on_mapping([](const Context&, std::byte* region) {
                    void* page = region;
                    int node = 0;
                    int status = 0;
                    return syscall(SYS_move_pages, 0, 1L, &page, &node, &status, 2);
                  }));
  family.harmless("fsync", [](const Context& c) { return answered(fsync(c.fd)); });
  family.harmless("fdatasync", [](const Context& c) { return answered(fdatasync(c.fd)); });
  family.harmless("syncfs", [](const Context& c) { return answered(syncfs(c.fd)); });
  family.harmless("sync_file_range", [](const Context& c) {
    return answered(sync_file_range(c.fd, 0, static_cast<off64_t>(c.page), SYNC_FILE_RANGE_WRITE));
  });
  family.harmless("readahead", [](const Context& c) { return answered(readahead(c.fd, 0, c.page)); });
  struct FileAdvice {
    const char* name;
    int value;
  };
  for (const FileAdvice advice :
       {FileAdvice{"NORMAL", POSIX_FADV_NORMAL}, FileAdvice{"RANDOM", POSIX_FADV_RANDOM},
        FileAdvice{"SEQUENTIAL", POSIX_FADV_SEQUENTIAL}, FileAdvice{"WILLNEED", POSIX_FADV_WILLNEED},
        FileAdvice{"DONTNEED", POSIX_FADV_DONTNEED}, FileAdvice{"NOREUSE", POSIX_FADV_NOREUSE}}) {
    family.harmless(std::string("posix_fadvise ") + advice.name, [advice](const Context& c) {
      errno = posix_fadvise(c.fd, 0, static_cast<off_t>(c.page), advice.value);
      return answered(errno == 0 ? 0 : -1);
    });
  }
  family.harmless("cachestat", [](const Context& c) {
    const std::array<std::uint64_t, 2> range{0, c.size};
    std::array<std::uint64_t, 5> counts{};
    return answered(syscall(number::cachestat, c.fd, range.data(), counts.data(), 0));
  });
}

// Registers the first page in each way that the kernel accepts, then tries `request`.
Attempt through_userfaultfd(const Context& c, std::uint64_t mode, unsigned long request) {
  std::byte* region = map_region(c);
  if (region == nullptr) return inconclusive("cannot map");
  const auto handler =
      static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY));
  if (handler < 0) return errno == EPERM ? unsupported("userfaultfd is not for this user") : answered(-1);
  uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
  if (ioctl(handler, UFFDIO_API, &api) != 0) return answered(-1);
  const auto start = reinterpret_cast<std::uintptr_t>(region);
  uffdio_register registration{.range = {start, c.page}, .mode = mode, .ioctls = 0};
  if (ioctl(handler, UFFDIO_REGISTER, &registration) != 0) return answered(-1);
  std::vector<std::byte> page = other_bytes(c, c.page);
  switch (request) {
    case UFFDIO_COPY: {
      uffdio_copy copy{};
      copy.dst = start;
      copy.src = reinterpret_cast<std::uintptr_t>(page.data());
      copy.len = c.page;
      return answered(ioctl(handler, UFFDIO_COPY, &copy));
    }
    case UFFDIO_ZEROPAGE: {
      uffdio_zeropage zero{.range = {start, c.page}, .mode = 0, .zeropage = 0};
      return answered(ioctl(handler, UFFDIO_ZEROPAGE, &zero));
    }
    case UFFDIO_CONTINUE: {
      uffdio_continue go_on{.range = {start, c.page}, .mode = 0, .mapped = 0};
      return answered(ioctl(handler, UFFDIO_CONTINUE, &go_on));
    }
    default:
      return allowed("registered");
  }
}

void add_userfaultfd(Family& family) {
  struct Registration {
    const char* name;
    std::uint64_t mode;
    unsigned long request;
    Rule rule;
  };
  // Faults that the holder answers itself concern its own mapping only; filling pages is storing.
  constexpr Registration kRegistrations[] = {
      {"userfaultfd missing", UFFDIO_REGISTER_MODE_MISSING, 0, Rule::harmless},
      {"userfaultfd write-protect", UFFDIO_REGISTER_MODE_WP, 0, Rule::harmless},
      {"userfaultfd minor", UFFDIO_REGISTER_MODE_MINOR, 0, Rule::harmless},
      {"userfaultfd UFFDIO_COPY", UFFDIO_REGISTER_MODE_MISSING, UFFDIO_COPY, Rule::tolerated_rw},
      {"userfaultfd UFFDIO_ZEROPAGE", UFFDIO_REGISTER_MODE_MISSING, UFFDIO_ZEROPAGE, Rule::tolerated_rw},
      {"userfaultfd UFFDIO_CONTINUE", UFFDIO_REGISTER_MODE_MINOR, UFFDIO_CONTINUE, Rule::harmless},
  };
  for (const Registration& how : kRegistrations) {
    family.add(how.name, how.rule,
               [how](const Context& c) { return through_userfaultfd(c, how.mode, how.request); });
  }
}

}  // namespace

void add_advice(std::vector<Operation>& all) {
  Family family(all, "advice");
  add_madvise(family);
  add_maintenance(family);
  add_userfaultfd(family);
}

}  // namespace mapcap::attack
