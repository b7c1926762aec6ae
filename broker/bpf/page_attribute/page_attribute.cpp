#include "broker/bpf/page_attribute/page_attribute.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <optional>
#include <string>

#include "broker/bpf/page_attribute/object.h"

namespace mapcap::broker::page_attribute {

namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kFrame = 0x000ffffffffff000ULL;

/// The same as in page_table.bpf.c.
struct Walk {
  std::uint64_t address;
  std::uint64_t base;
  std::uint64_t pgd;
  std::uint64_t entry;
  std::uint32_t levels;
  std::uint32_t level;
};

struct CloseObject {
  void operator()(bpf_object* object) const { bpf_object__close(object); }
};
using Object = std::unique_ptr<bpf_object, CloseObject>;

Result<Object> load_object() {
  libbpf_set_print(nullptr);
  bpf_object_open_opts options{};
  options.sz = sizeof options;
  options.object_name = "mapcap_page";
  Object opened(bpf_object__open_mem(object().data(), object().size(), &options));
  if (!opened || bpf_object__load(opened.get()) != 0) {
    return failure(ErrorCode::unsupported,
                   "the kernel refuses the BPF program that reads page tables (errno " +
                       std::to_string(errno) + "); cache modes stay unverified");
  }
  return opened;
}

/// The frame that /proc/self/pagemap tells.
Result<std::uint64_t> frame_of(const void* address) {
  const Fd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap.valid()) return io_error("opening /proc/self/pagemap", errno);
  std::uint64_t entry = 0;
  // SAFETY: the address is only counted with.
  const auto page = reinterpret_cast<std::uintptr_t>(address) / kPage;
  const auto offset = static_cast<off_t>(page * sizeof entry);
  if (::pread(pagemap.get(), &entry, sizeof entry, offset) != sizeof entry) {
    return io_error("reading /proc/self/pagemap", errno);
  }
  constexpr std::uint64_t kPresent = std::uint64_t{1} << 63U;
  constexpr std::uint64_t kNumber = (std::uint64_t{1} << 55U) - 1;
  const std::uint64_t frame = entry & kNumber;
  if ((entry & kPresent) == 0 || frame == 0) {
    return failure(ErrorCode::unsupported, "/proc/self/pagemap tells no frames; mapcapd needs CAP_SYS_ADMIN");
  }
  return frame;
}

/// The frame of the 4 KiB page that the walk found, within a large page too.
std::uint64_t frame_of(const Walk& walk) {
  const std::uint64_t within = (std::uint64_t{1} << (12U + 9U * (walk.level - 1))) - 1;
  return ((walk.entry & kFrame & ~within) | (walk.address & within)) / kPage;
}

bool run(int program, Walk& walk) {
  bpf_test_run_opts options{};
  options.sz = sizeof options;
  // SAFETY: the kernel reads the words and writes them back, during the call.
  options.ctx_in = &walk;
  options.ctx_size_in = sizeof walk;
  return bpf_prog_test_run_opts(program, &options) == 0;
}

/// Where the kernel maps all of physical memory is a multiple of 1 GiB (randomised with
/// CONFIG_RANDOMIZE_MEMORY), at or below the table of tables, which lies in that mapping. The right multiple
/// is the one by which a walk to a page of ours ends at the frame that pagemap tells.
std::optional<Walk> find_base(int program, const void* page, std::uint64_t frame) {
  constexpr std::uint64_t kStep = std::uint64_t{1} << 30U;
  constexpr std::uint64_t kMostMemory = std::uint64_t{16} * 1024;  // GiB
  Walk walk{};
  walk.address = reinterpret_cast<std::uintptr_t>(page);
  if (!run(program, walk)) return std::nullopt;
  const std::uint64_t highest = walk.pgd / kStep * kStep;
  for (std::uint64_t below = 0; below < kMostMemory; ++below) {
    for (const std::uint32_t levels : {4U, 5U}) {
      walk.base = highest - below * kStep;
      walk.levels = levels;
      if (run(program, walk) && walk.level != 0 && frame_of(walk) == frame) return walk;
    }
  }
  return std::nullopt;
}

/// A walk with base and levels filled in. Not by the page that is asked for: pagemap tells nothing of device
/// memory.
Result<Walk> prepare(int program) {
  // SAFETY: one page of ours, unmapped below.
  void* page =
      ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (page == MAP_FAILED) return io_error("mmap of a page", errno);
  std::optional<Walk> walk;
  Result<std::uint64_t> frame = frame_of(page);
  // The page may move between the two answers: then ask again.
  for (int attempt = 0; attempt < 3 && frame && !walk; ++attempt) {
    walk = find_base(program, page, frame.value());
    frame = frame_of(page);
  }
  ::munmap(page, kPage);
  if (!frame) return frame.error();
  if (walk) return *walk;
  return failure(ErrorCode::unsupported, "the page tables could not be found; cache modes stay unverified");
}

/// Three bits choose from the processor's page attribute table, which Linux fills the same way since 4.0:
/// Documentation/arch/x86/pat.rst and arch/x86/mm/pat/memtype.c.
std::optional<CacheMode> decode(const Walk& walk) {
  const auto bit = [&](unsigned at) { return static_cast<unsigned>(walk.entry >> at & 1U); };
  const unsigned index = bit(3) | bit(4) << 1U | bit(walk.level == 1 ? 7 : 12) << 2U;
  switch (index) {
    case 0:
    case 4:
      return CacheMode::write_back;
    case 1:
      return CacheMode::write_combining;
    case 2:  // UC-, which an MTRR may turn into WC
    case 3:
    case 6:
      return CacheMode::uncached;
    case 7:
      return CacheMode::write_through;
    default:
      return std::nullopt;  // 5 is write-protected: none of ours.
  }
}

/// A loaded program, and what walks from it have in common.
class Walker {
 public:
  static Result<std::shared_ptr<const Walker>> make() {
    MAPCAP_TRY(Object loaded, load_object());
    bpf_program* program = bpf_object__find_program_by_name(loaded.get(), "walk_page_table");
    MAPCAP_INVARIANT(program != nullptr, "page_table.bpf.c has no walk_page_table");
    const int fd = bpf_program__fd(program);
    MAPCAP_TRY(const Walk first, prepare(fd));
    return std::shared_ptr<const Walker>(new Walker(std::move(loaded), fd, first));
  }

  [[nodiscard]] Result<CacheMode> mapped(const void* address) const {
    Walk walk = first_;
    walk.address = reinterpret_cast<std::uintptr_t>(address);
    if (!run(program_, walk) || walk.level == 0) {
      return failure(ErrorCode::invalid, "no page is mapped at this address");
    }
    if (const std::optional<CacheMode> mode = decode(walk)) return *mode;
    return failure(ErrorCode::unsupported, "the page's attribute is none of wb, wt, wc and uc");
  }

  [[nodiscard]] Result<CacheMode> mapped_from(BorrowedFd file) const {
    // Device-DAX is mapped in multiples of its alignment only: a page, 2 MiB or 1 GiB.
    for (const std::uint64_t length : {kPage, kPage << 9U, kPage << 18U}) {
      // SAFETY: a shared mapping of the file, unmapped below; MAP_POPULATE makes a file that is too short
      // fail the walk, not the process.
      void* address = ::mmap(nullptr, length, PROT_READ, MAP_SHARED | MAP_POPULATE, file.get(), 0);
      if (address == MAP_FAILED && errno == EINVAL) continue;
      if (address == MAP_FAILED) return io_error("mmap for the page table walk", errno);
      Result<CacheMode> mode = mapped(address);
      ::munmap(address, length);
      return mode;
    }
    return io_error("mmap for the page table walk", EINVAL);
  }

 private:
  Walker(Object object, int program, const Walk& first)
      : object_(std::move(object)), program_(program), first_(first) {}

  Object object_;
  int program_;
  Walk first_;  ///< With base and levels.
};

}  // namespace

Result<CacheMode> mapped(const void* address) {
  MAPCAP_TRY(const std::shared_ptr<const Walker> walker, Walker::make());
  return walker->mapped(address);
}

Result<CacheMode> mapped_from(BorrowedFd file) {
  MAPCAP_TRY(const std::shared_ptr<const Walker> walker, Walker::make());
  return walker->mapped_from(file);
}

Result<Reader> load() {
  MAPCAP_TRY(std::shared_ptr<const Walker> walker, Walker::make());
  return Reader([walker = std::move(walker)](BorrowedFd file) { return walker->mapped_from(file); });
}

}  // namespace mapcap::broker::page_attribute
