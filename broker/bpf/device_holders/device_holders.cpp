#include "broker/bpf/device_holders/device_holders.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <mutex>
#include <set>
#include <string>

#include "broker/bpf/device_holders/object.h"

namespace mapcap::broker::device_holders {

namespace {

constexpr std::uint64_t kPage = 4096;
/// Pages looked at in one run of the program; bpf_loop allows 8 Mi.
constexpr std::uint64_t kPagesAtOnce = std::uint64_t{1} << 20U;
/// What a page of a device has while nobody pins it (memmap_init_zone_device in the kernel's mm/mm_init.c);
/// the tails of a compound page have none.
constexpr std::int32_t kIdle = 1;

/// The same as in device_holders.bpf.c.
struct Opens {
  std::uint32_t fd;
  std::uint32_t sysfs;
  std::uint32_t count;
  std::uint32_t found;
};
struct Pins {
  std::uint64_t page;
  std::uint64_t offset;
  std::uint32_t fd;
  std::uint32_t pages;
  std::int32_t most;
  std::uint32_t failed;
};

struct Sought {
  std::uint64_t inode;
  std::uint32_t device;
  std::uint32_t character;
};

/// A device's number as the kernel keeps it: MKDEV in include/linux/kdev_t.h.
std::uint32_t kernel_number(dev_t device) {
  return static_cast<std::uint32_t>(major(device)) << 20U | static_cast<std::uint32_t>(minor(device));
}

struct DestroyLink {
  void operator()(bpf_link* link) const { bpf_link__destroy(link); }
};
using Link = std::unique_ptr<bpf_link, DestroyLink>;

/// What an iterator's program wrote: the kernel runs it for each file or mapping while this reads.
Result<void> read_pids(const bpf_link* link, std::set<pid_t>& pids) {
  const Fd iterator(bpf_iter_create(bpf_link__fd(link)));
  if (!iterator.valid()) return io_error("listing a device's holders", errno);
  std::array<std::uint32_t, 256> some{};
  for (;;) {
    // SAFETY: a seq_file hands out as much as fits, and the program writes whole words.
    const ssize_t got = ::read(iterator.get(), some.data(), sizeof some);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0) return io_error("reading a device's holders", errno);
    if (got == 0) return ok();
    for (std::size_t i = 0; i < static_cast<std::size_t>(got) / sizeof some[0]; ++i)
      pids.insert(static_cast<pid_t>(some.at(i)));
  }
}

struct CloseObject {
  void operator()(bpf_object* object) const { bpf_object__close(object); }
};
using Object = std::unique_ptr<bpf_object, CloseObject>;

template <typename Context>
Result<void> run(int program, Context& context) {
  bpf_test_run_opts options{};
  options.sz = sizeof options;
  // SAFETY: the kernel reads the words and writes them back, during the call.
  options.ctx_in = &context;
  options.ctx_size_in = sizeof context;
  if (const int failed = bpf_prog_test_run_opts(program, &options); failed != 0) {
    return io_error("running the BPF program that counts a device's holders", -failed);
  }
  return ok();
}

/// A page of the device that the broker pins itself, in a pipe.
class OwnPin {
 public:
  static Result<OwnPin> take(BorrowedFd device, ByteCount alignment) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) return io_error("pipe2", errno);
    OwnPin pin{Fd(ends[0]), Fd(ends[1])};
    const std::size_t length = std::max(alignment.value, kPage);
    // SAFETY: a fresh mapping of the device's first bytes, unmapped below; only the kernel looks at it.
    void* at = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, device.get(), 0);
    if (at == MAP_FAILED) return io_error("mapping a device", errno);
    const iovec first{at, 1};
    const ssize_t pinned = ::vmsplice(pin.in_.get(), &first, 1, 0);
    const int failed = errno;
    ::munmap(at, length);
    if (pinned != 1) return io_error("vmsplice of a device's page", failed);
    return pin;
  }
  [[nodiscard]] int pipe() const { return out_.get(); }

 private:
  OwnPin(Fd out, Fd in) : out_(std::move(out)), in_(std::move(in)) {}
  Fd out_;
  Fd in_;
};

class KernelCensus final : public Census {
 public:
  KernelCensus(Object loaded, int opens, int pins, int sought, Link openers, Link mappers)
      : object_(std::move(loaded)),
        count_opens_(opens),
        count_pins_(pins),
        sought_(sought),
        openers_(std::move(openers)),
        mappers_(std::move(mappers)) {}

  Result<std::uint32_t> opens(BorrowedFd node) override {
    struct stat status {};
    struct statfs filesystem {};
    if (::fstat(node.get(), &status) != 0 || ::fstatfs(node.get(), &filesystem) != 0) {
      return io_error("fstat of a device", errno);
    }
    const bool sysfs = filesystem.f_type == SYSFS_MAGIC;
    if (!sysfs && !S_ISCHR(status.st_mode)) {
      return failure(ErrorCode::invalid, "only devices tell how often they are open");
    }
    Opens asked{static_cast<std::uint32_t>(node.get()), sysfs ? 1U : 0U, 0, 0};
    MAPCAP_TRY_VOID(run(count_opens_, asked));
    if (asked.found != 0) return asked.count;
    return failure(ErrorCode::io, "the kernel's count of a device's open files could not be read");
  }

  Result<bool> pinned(BorrowedFd device, ByteCount alignment, const std::vector<Range>& ranges) override {
    MAPCAP_TRY(const std::uint64_t first_page, find_first_page(device, alignment));
    for (const Range& range : ranges) {
      // struct pages of all memory lie in one array (CONFIG_SPARSEMEM_VMEMMAP), so those of the first range
      // may come after those of the next: the offset wraps.
      const std::uint64_t from = range.start / kPage - ranges.front().start / kPage;
      const std::uint64_t pages = range.size / kPage;
      for (std::uint64_t done = 0; done < pages; done += kPagesAtOnce) {
        Pins asked{first_page, from + done,
                   0,          static_cast<std::uint32_t>(std::min(kPagesAtOnce, pages - done)),
                   0,          0};
        MAPCAP_TRY_VOID(run(count_pins_, asked));
        if (asked.failed != 0) return unreadable();
        if (asked.most > kIdle) return true;
      }
    }
    return false;
  }

  Result<std::vector<pid_t>> processes(BorrowedFd node) override {
    if (!openers_ || !mappers_) {
      return failure(ErrorCode::unsupported, "this kernel does not list who has a device open or mapped");
    }
    struct stat status {};
    if (::fstat(node.get(), &status) != 0) return io_error("fstat of a device", errno);
    const Sought sought{status.st_ino, kernel_number(status.st_dev),
                        S_ISCHR(status.st_mode) ? kernel_number(status.st_rdev) : 0};
    const std::lock_guard lock(listing_);
    const std::uint32_t first = 0;
    if (bpf_map_update_elem(sought_, &first, &sought, BPF_ANY) != 0) {
      return io_error("naming the device whose holders are listed", errno);
    }
    std::set<pid_t> pids;
    MAPCAP_TRY_VOID(read_pids(openers_.get(), pids));
    MAPCAP_TRY_VOID(read_pids(mappers_.get(), pids));
    pids.erase(::getpid());
    return std::vector<pid_t>(pids.begin(), pids.end());
  }

 private:
  static Failure unreadable() {
    return failure(ErrorCode::unsupported, "the kernel's counts of a device's pages could not be read");
  }

  /// Where the kernel keeps the device's first page: what a pipe says that was given it. The pin must show in
  /// the page's count, or the count means something else on this kernel.
  Result<std::uint64_t> find_first_page(BorrowedFd device, ByteCount alignment) {
    MAPCAP_TRY(const OwnPin pin, OwnPin::take(device, alignment));
    Pins asked{0, 0, static_cast<std::uint32_t>(pin.pipe()), 1, 0, 0};
    MAPCAP_TRY_VOID(run(count_pins_, asked));
    if (asked.failed != 0) return unreadable();
    if (asked.most > kIdle) return asked.page;
    return failure(ErrorCode::unsupported,
                   "this kernel does not count the pins of a device's pages as known");
  }

  Object object_;
  int count_opens_;
  int count_pins_;
  int sought_;
  Link openers_;        ///< Empty where the kernel cannot.
  Link mappers_;        ///< The same.
  std::mutex listing_;  ///< There is one device at a time in `sought`.
};

Result<Object> load_object(bool iterators) {
  bpf_object_open_opts options{};
  options.sz = sizeof options;
  options.object_name = "mapcap_holders";
  Object opened(bpf_object__open_mem(object().data(), object().size(), &options));
  if (opened && !iterators) {
    for (const char* name : {"list_openers", "list_mappers"})
      bpf_program__set_autoload(bpf_object__find_program_by_name(opened.get(), name), false);
  }
  if (opened && bpf_object__load(opened.get()) == 0) return opened;
  return failure(ErrorCode::unsupported,
                 "the kernel refuses the BPF program that counts a device's holders (errno " +
                     std::to_string(errno) + ")");
}

Link attach_iterator(bpf_object* loaded, const char* name) {
  return Link(bpf_program__attach_iter(bpf_object__find_program_by_name(loaded, name), nullptr));
}

}  // namespace

Result<std::shared_ptr<Census>> load() {
  libbpf_set_print(nullptr);
  Result<Object> loaded = load_object(true);
  const bool iterators = loaded.has_value();
  if (!iterators) loaded = load_object(false);
  MAPCAP_TRY(Object opened, std::move(loaded));
  bpf_program* opens = bpf_object__find_program_by_name(opened.get(), "count_opens");
  bpf_program* pins = bpf_object__find_program_by_name(opened.get(), "count_pins");
  MAPCAP_INVARIANT(opens != nullptr && pins != nullptr, "device_holders.bpf.c lacks a program");
  const int opens_fd = bpf_program__fd(opens);
  const int pins_fd = bpf_program__fd(pins);
  const int sought = bpf_map__fd(bpf_object__find_map_by_name(opened.get(), "sought"));
  Link openers = iterators ? attach_iterator(opened.get(), "list_openers") : Link();
  Link mappers = iterators ? attach_iterator(opened.get(), "list_mappers") : Link();
  return std::shared_ptr<Census>(std::make_shared<KernelCensus>(std::move(opened), opens_fd, pins_fd, sought,
                                                                std::move(openers), std::move(mappers)));
}

}  // namespace mapcap::broker::device_holders
