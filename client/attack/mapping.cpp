// What a mapping may be: shared, with the grant's rights, never executable, never past the end.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/attack/operation.h"

namespace mapcap::attack {
namespace {

Attempt executable(const std::byte* address) {
  if (address == nullptr) return refused(errno);
  return is_executable(address) ? allowed("executable") : refused(0, "mapped, but not executable");
}

std::size_t whole_pages(const Context& c) {
  return (static_cast<std::size_t>(c.size) + c.page - 1) / c.page * c.page;
}

void add_entitled(Family& family) {
  family.allowed("mmap shared, read", [](const Context& c) {
    const std::byte* region = map(c, PROT_READ);
    if (region == nullptr) return refused(errno);
    if (!readable(region)) return refused(0, "reading it faults");
    if (!c.contents.empty() && region[0] != c.contents[0]) return refused(0, "it shows other bytes");
    return allowed();
  });
  family.allowed("mmap shared, read, last page", [](const Context& c) {
    const std::byte* region = map(c, PROT_READ);
    if (region == nullptr) return refused(errno);
    return readable(region + c.size - 1) ? allowed() : refused(0, "reading the last byte faults");
  });
  family.add(
      "mmap shared, write", Rule::allowed_rw,
      [](const Context& c) {
        std::byte* region = map(c, PROT_READ | PROT_WRITE);
        if (region == nullptr) return refused(errno);
        const std::byte other = other_bytes(c, 1).front();
        return store(region, other) ? allowed() : refused(0, "storing to it faults");
      },
      Evidence::change);
  family.add("mmap write-only", Rule::allowed_rw,
             [](const Context& c) { return map(c, PROT_WRITE) != nullptr ? allowed() : refused(errno); });
  family.allowed("mmap PROT_NONE, then mprotect to read", [](const Context& c) {
    std::byte* region = map(c, PROT_NONE);
    if (region == nullptr) return refused(errno);
    return answered(mprotect(region, static_cast<std::size_t>(c.size), PROT_READ));
  });
  family.harmless("mmap MAP_SHARED_VALIDATE|MAP_SYNC", [](const Context& c) {
    return map(c, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC) != nullptr ? allowed() : refused(errno);
  });
  family.harmless("mmap MAP_POPULATE", [](const Context& c) {
    return map(c, PROT_READ, MAP_SHARED | MAP_POPULATE) != nullptr ? allowed() : refused(errno);
  });
  family.harmless("mmap MAP_LOCKED", [](const Context& c) {
    return map(c, PROT_READ, MAP_SHARED | MAP_LOCKED) != nullptr ? allowed() : refused(errno);
  });
  family.harmless("mmap private", [](const Context& c) {
    return map(c, PROT_READ, MAP_PRIVATE) != nullptr ? allowed() : refused(errno);
  });
  family.unchanged("store to a private mapping", [](const Context& c) {
    std::byte* copy = map(c, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    if (copy == nullptr) return refused(errno);
    return store(copy, other_bytes(c, 1).front()) ? allowed("stored") : refused(0, "faults");
  });
  family.add("mmap for writing after reopening", Rule::tolerated_rw, [](const Context& c) {
    const int again = open(fd_path(c.fd).c_str(), O_RDWR | O_CLOEXEC);
    if (again < 0) return refused(errno);
    Context stronger = c;
    stronger.fd = again;
    return map(stronger, PROT_READ | PROT_WRITE) != nullptr ? allowed() : refused(errno);
  });
}

void add_write_upgrades(Family& family) {
  // For rw these are no upgrade.
  family.add("mprotect to write", Rule::tolerated_rw, [](const Context& c) {
    std::byte* region = map(c, PROT_READ);
    if (region == nullptr) return inconclusive("cannot map");
    return answered(mprotect(region, static_cast<std::size_t>(c.size), PROT_READ | PROT_WRITE));
  });
  family.add("mprotect to write after PROT_NONE", Rule::tolerated_rw, [](const Context& c) {
    std::byte* region = map(c, PROT_NONE);
    if (region == nullptr) return inconclusive("cannot map");
    return answered(mprotect(region, static_cast<std::size_t>(c.size), PROT_WRITE));
  });
  family.add("pkey_mprotect to write", Rule::tolerated_rw, [](const Context& c) {
    std::byte* region = map(c, PROT_READ);
    if (region == nullptr) return inconclusive("cannot map");
    return answered(pkey_mprotect(region, static_cast<std::size_t>(c.size), PROT_READ | PROT_WRITE, -1));
  });
  family.add("mprotect to write of a remapped copy", Rule::tolerated_rw, [](const Context& c) {
    std::byte* region = map(c, PROT_READ);
    if (region == nullptr) return inconclusive("cannot map");
    // An old size of 0 makes a second mapping of the same pages.
    void* copy = mremap(region, 0, c.page, MREMAP_MAYMOVE);
    if (copy == MAP_FAILED) return refused(errno);
    return answered(mprotect(copy, c.page, PROT_READ | PROT_WRITE));
  });
}

void add_execution(Family& family) {
  struct Kind {
    const char* name;
    int protection;
    int flags;
  };
  for (const Kind kind :
       {Kind{"mmap shared, exec", PROT_EXEC, MAP_SHARED},
        Kind{"mmap shared, read and exec", PROT_READ | PROT_EXEC, MAP_SHARED},
        Kind{"mmap private, exec", PROT_READ | PROT_EXEC, MAP_PRIVATE},
        Kind{"mmap MAP_SHARED_VALIDATE, exec", PROT_READ | PROT_EXEC, MAP_SHARED_VALIDATE}}) {
    family.refused(kind.name,
                   [kind](const Context& c) { return executable(map(c, kind.protection, kind.flags)); });
  }
  family.add("mmap shared, read, write and exec", Rule::refused,
             [](const Context& c) { return executable(map(c, PROT_READ | PROT_WRITE | PROT_EXEC)); });
  for (const Kind kind : {Kind{"mprotect to exec", PROT_READ | PROT_EXEC, MAP_SHARED},
                          Kind{"mprotect to exec, private", PROT_READ | PROT_EXEC, MAP_PRIVATE}}) {
    family.refused(kind.name, [kind](const Context& c) {
      std::byte* region = map(c, PROT_READ, kind.flags);
      if (region == nullptr && kind.flags == MAP_PRIVATE) return refused(errno, "cannot be mapped privately");
      if (region == nullptr) return inconclusive("cannot map");
      return answered(mprotect(region, static_cast<std::size_t>(c.size), kind.protection));
    });
  }
  family.refused("pkey_mprotect to exec", [](const Context& c) {
    std::byte* region = map(c, PROT_READ);
    if (region == nullptr) return inconclusive("cannot map");
    return answered(pkey_mprotect(region, static_cast<std::size_t>(c.size), PROT_READ | PROT_EXEC, -1));
  });

  // Old programs run with READ_IMPLIES_EXEC: then the kernel adds PROT_EXEC by itself.
  family.refused("mmap read under READ_IMPLIES_EXEC", [](const Context& c) {
    personality(READ_IMPLIES_EXEC);
    return executable(map(c, PROT_READ));
  });
  family.refused("mmap private read under READ_IMPLIES_EXEC", [](const Context& c) {
    personality(READ_IMPLIES_EXEC);
    return executable(map(c, PROT_READ, MAP_PRIVATE));
  });
  family.refused("mprotect read under READ_IMPLIES_EXEC", [](const Context& c) {
    std::byte* region = map(c, PROT_NONE);
    if (region == nullptr) return inconclusive("cannot map");
    personality(READ_IMPLIES_EXEC);
    if (mprotect(region, static_cast<std::size_t>(c.size), PROT_READ) != 0) return refused(errno);
    return executable(region);
  });
  // remap_file_pages maps the file behind the mapping again, with checks of its own.
  for (const bool read_only : {true, false}) {
    family.refused(std::string("remap_file_pages under READ_IMPLIES_EXEC, ") + (read_only ? "read" : "rw"),
                   [read_only](const Context& c) {
                     std::byte* region = map(c, read_only ? PROT_READ : PROT_READ | PROT_WRITE);
                     if (region == nullptr) return refused(errno, "cannot map with these rights");
                     personality(READ_IMPLIES_EXEC);
                     if (remap_file_pages(region, c.page, 0, 0, 0) != 0) return refused(errno);
                     return executable(region);
                   });
  }
  family.refused("remap_file_pages PROT_EXEC", [](const Context& c) {
    std::byte* region = map_region(c);
    if (region == nullptr) return inconclusive("cannot map");
    if (remap_file_pages(region, c.page, PROT_READ | PROT_EXEC, 0, 0) != 0) return refused(errno);
    return executable(region);
  });
  family.refused("shmat of it",
                 [](const Context& c) { return answered(syscall(SYS_shmat, c.fd, nullptr, 0)); });
}

void add_extent(Family& family) {
  family.refused("mmap longer, touch past the end", [](const Context& c) {
    const std::size_t end = whole_pages(c);
    // SAFETY: a fresh mapping; its tail is expected to fault, and readable() expects that.
    void* region = mmap(nullptr, end + c.page, PROT_READ, MAP_SHARED, c.fd, 0);
    if (region == MAP_FAILED) return refused(errno);
    return readable(static_cast<std::byte*>(region) + end) ? allowed("bytes past the end can be read")
                                                           : refused(0, "faults");
  });
  struct Offset {
    const char* name;
    std::uint64_t offset;  // 0: the end of the region
  };
  for (const Offset at : {Offset{"mmap at the end", 0}, Offset{"mmap at 1 TiB", std::uint64_t{1} << 40},
                          Offset{"mmap at 2^62", std::uint64_t{1} << 62},
                          Offset{"mmap at 2^63 less a page", (std::uint64_t{1} << 63) - 4096},
                          Offset{"mmap at 2^64 less a page", ~std::uint64_t{0} - 4095}}) {
    family.refused(at.name, [at](const Context& c) {
      const std::uint64_t offset = at.offset == 0 ? whole_pages(c) : at.offset;
      // SAFETY: a fresh mapping that is expected to be refused or to fault.
      void* region = mmap(nullptr, c.page, PROT_READ, MAP_SHARED, c.fd, static_cast<off_t>(offset));
      if (region == MAP_FAILED) return refused(errno);
      return readable(static_cast<std::byte*>(region)) ? allowed("bytes there can be read")
                                                       : refused(0, "faults");
    });
  }
  family.refused("mmap at an unaligned offset", [](const Context& c) {
    // SAFETY: by system call, since the library would refuse it first.
    return answered(syscall(SYS_mmap, nullptr, c.page, PROT_READ, MAP_SHARED, c.fd, 1));
  });
  family.refused("mremap to more, touch past the end", [](const Context& c) {
    std::byte* region = map(c, PROT_READ);
    if (region == nullptr) return inconclusive("cannot map");
    const std::size_t end = whole_pages(c);
    void* grown = mremap(region, end, end + c.page, MREMAP_MAYMOVE);
    if (grown == MAP_FAILED) return refused(errno);
    return readable(static_cast<std::byte*>(grown) + end) ? allowed("bytes past the end can be read")
                                                          : refused(0, "faults");
  });
  family.refused("remap_file_pages past the end", [](const Context& c) {
    std::byte* region = map_region(c);
    if (region == nullptr) return inconclusive("cannot map");
    if (remap_file_pages(region, c.page, 0, whole_pages(c) / c.page, 0) != 0) return refused(errno);
    return readable(region) ? allowed("bytes past the end can be read") : refused(0, "faults");
  });
  family.refused("store past the end", [](const Context& c) {
    const std::size_t end = whole_pages(c);
    // SAFETY: as above.
    void* region = mmap(nullptr, end + c.page, PROT_READ | PROT_WRITE, MAP_SHARED, c.fd, 0);
    if (region == MAP_FAILED) return refused(errno);
    return store(static_cast<std::byte*>(region) + end, std::byte{1})
               ? allowed("bytes past the end can be written")
               : refused(0, "faults");
  });
  family.harmless("mremap MREMAP_DONTUNMAP", [](const Context& c) {
    std::byte* region = map(c, PROT_READ);
    if (region == nullptr) return inconclusive("cannot map");
    return mremap(region, c.page, c.page, MREMAP_MAYMOVE | 4) == MAP_FAILED ? refused(errno) : allowed();
  });
  family.refused("mmap MAP_HUGETLB past the end", [](const Context& c) {
    // SAFETY: as above; a huge page would cover more than the region.
    void* region = mmap(nullptr, std::size_t{2} << 20, PROT_READ, MAP_SHARED | MAP_HUGETLB, c.fd, 0);
    if (region == MAP_FAILED) return refused(errno);
    if (c.size >= (std::uint64_t{2} << 20)) return refused(0, "it lies within the region");
    return readable(static_cast<std::byte*>(region) + whole_pages(c))
               ? allowed("bytes past the end can be read")
               : refused(0, "faults");
  });
}

}  // namespace

void add_mapping(std::vector<Operation>& all) {
  Family family(all, "mapping");
  add_entitled(family);
  add_write_upgrades(family);
  add_execution(family);
  add_extent(family);
}

}  // namespace mapcap::attack
