#include "broker/ledger/medium/medium_file.h"

#include <fcntl.h>
#include <libpmem2.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/fd_path.h"
#include "broker/ledger/table/slot.h"
#include "broker/ledger/table/superblock.h"
#include "mapcap/fd.h"

#ifndef MADV_POPULATE_READ  // Linux 5.14
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

namespace mapcap::broker::ledger {

namespace {

// Address space, not memory: the ledger grows inside without ever moving. Room for 268 million records.
constexpr std::size_t kReservation = std::size_t{64} << 30U;
constexpr std::size_t kPage = 4096;

enum class Mode : std::uint8_t { read_only, read_write };

Failure pmem2_error(const std::string& what, int fault) {
  // libpmem2 answers -errno for system calls and codes from -100000 down for its own findings.
  Failure error = io_error(what, fault > PMEM2_E_UNKNOWN ? -fault : EINVAL);
  error.sentence += " (" + std::string(pmem2_errormsg()) + ")";
  return error;
}

template <auto Delete>
struct Deleter {
  template <typename T>
  void operator()(T* object) const {
    Delete(&object);
  }
};
using Source = std::unique_ptr<pmem2_source, Deleter<pmem2_source_delete>>;
using Config = std::unique_ptr<pmem2_config, Deleter<pmem2_config_delete>>;
using Map = std::unique_ptr<pmem2_map, Deleter<pmem2_map_delete>>;
using Reservation = std::unique_ptr<pmem2_vm_reservation, Deleter<pmem2_vm_reservation_delete>>;

Granularity to_granularity(pmem2_granularity granularity) {
  switch (granularity) {
    case PMEM2_GRANULARITY_BYTE:
      return Granularity::byte;
    case PMEM2_GRANULARITY_CACHE_LINE:
      return Granularity::cache_line;
    case PMEM2_GRANULARITY_PAGE:
      return Granularity::page;
  }
  return Granularity::page;
}

/// Writes zeros, so that every block exists and is initialised: later stores allocate nothing, and an msync
/// converts no extents.
Result<void> write_zeros(int fd, std::size_t from, std::size_t to, const std::string& what) {
  static const std::vector<std::byte> zeros(std::size_t{1} << 20U);
  while (from < to) {
    const ssize_t written =
        ::pwrite(fd, zeros.data(), std::min(zeros.size(), to - from), static_cast<off_t>(from));
    if (written < 0) {
      if (errno == EINTR) continue;
      return io_error(what, errno);
    }
    from += static_cast<std::size_t>(written);
  }
  return ok();
}

class FileMedium final : public Medium {
 public:
  FileMedium(Fd fd, std::string path, Mode mode, std::optional<Granularity> pretend)
      : fd_(std::move(fd)), path_(std::move(path)), mode_(mode), pretend_(pretend) {}

  ~FileMedium() override {
    map_.reset();
    for (Range range : pieces_) {
      // SAFETY: mapped by map_here() within the reservation; nothing refers to it any more.
      ::munmap(base_ + range.offset, range.size);
    }
  }

  Result<void> start(std::size_t size) {
    pmem2_source* source = nullptr;
    if (int failed = pmem2_source_from_fd(&source, fd_.get())) return pmem2_error("open " + path_, failed);
    source_.reset(source);
    pmem2_vm_reservation* reservation = nullptr;
    if (int failed = pmem2_vm_reservation_new(&reservation, nullptr, kReservation)) {
      return pmem2_error("reserve address space for " + path_, failed);
    }
    reservation_.reset(reservation);
    base_ = static_cast<std::byte*>(pmem2_vm_reservation_get_address(reservation));
    MAPCAP_TRY_VOID(map({0, size}));
    adopt_growth();
    return ok();
  }

  [[nodiscard]] std::string_view name() const override { return path_; }
  [[nodiscard]] std::span<const std::byte> bytes() const override { return {base_, size_}; }
  [[nodiscard]] Granularity granularity() const override { return granularity_; }

  Result<void> preload(Range range) override { return populate(range, MADV_POPULATE_READ, "read"); }

  Result<void> prepare(Range range) override {
    if (granularity_ != Granularity::page) return ok();
    return populate(range, MADV_POPULATE_WRITE, "write to");
  }

  void store(std::size_t offset, std::span<const std::byte> data) override {
    for (std::size_t i = 0; i < data.size(); i += 8)
      word_at(offset + i).store(load64(data, i), std::memory_order_relaxed);
  }
  void store_word(std::size_t offset, std::uint64_t word) override {
    word_at(offset).store(word, std::memory_order_release);
  }

  void flush(Range range, Step) override {
    if (granularity_ != Granularity::page) {
      flush_(base_ + range.offset, range.size);
      return;
    }
    const std::size_t from = std::min(range.offset, flushed_ ? flushed_->offset : range.offset);
    const std::size_t to =
        std::max(range.offset + range.size, flushed_ ? flushed_->offset + flushed_->size : 0);
    flushed_ = Range{from, to - from};
  }

  void fence(Step) override {
    if (granularity_ != Granularity::page) drain_();
  }

  std::optional<Range> take_flushed() override { return std::exchange(flushed_, std::nullopt); }

  Result<void> sync(Range range, Step) override {
    if (range.size == 0) return ok();
    const std::size_t from = range.offset / kPage * kPage;
    // SAFETY: the range lies within what is mapped; msync reads it and changes nothing.
    if (::msync(base_ + from, range.offset + range.size - from, MS_SYNC) != 0) {
      return io_error("the ledger " + path_ + " could not be written (msync), and the change was not made",
                      errno);
    }
    return ok();
  }

  void redirty() override {
    for (std::size_t offset = 0; offset < size_; offset += kPage) {
      auto word = word_at(offset);
      word.store(word.load(std::memory_order_relaxed), std::memory_order_relaxed);
    }
  }

  Result<void> grow(std::size_t size) override {
    const std::size_t now = mapped_;
    if (size <= now) return ok();
    const std::string what = "growing " + path_ + " to " + std::to_string(size) + " bytes failed";
    if (size > kReservation)
      return failure(ErrorCode::exhausted, what + ": no ledger may be larger than 64 GiB");
    const auto from = static_cast<off_t>(now);
    int failed = 0;
    do {
      failed = ::posix_fallocate(fd_.get(), from, static_cast<off_t>(size - now));
    } while (failed == EINTR);
    Result<void> ready = failed == 0 ? write_zeros(fd_.get(), now, size, what) : io_error(what, failed);
    if (ready && ::fsync(fd_.get()) != 0) ready = io_error(what, errno);
    if (ready) ready = map({now, size - now});
    if (!ready) {
      // What was allocated is given back; the table never used it. A failure here leaves a longer file, which
      // is whole all the same.
      [[maybe_unused]] const int ignored = ::ftruncate(fd_.get(), from);
    }
    return ready;
  }

  void adopt_growth() override { size_ = mapped_; }

 private:
  std::atomic_ref<std::uint64_t> word_at(std::size_t offset) {
    MAPCAP_INVARIANT(mode_ == Mode::read_write && offset % 8 == 0 && offset + 8 <= size_,
                     "a store outside what the ledger may write");
    // SAFETY: in bounds and aligned, as just checked; all accesses by this process are of 8-byte words.
    return std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(base_ + offset));
  }

  Result<void> map(Range range) {
    if (map_ != nullptr) {
      MAPCAP_TRY_VOID(map_more(range));
    } else {
      MAPCAP_TRY(map_, pretend_ ? map_pretended(range) : map_really(range));
      granularity_ = to_granularity(pmem2_map_get_store_granularity(map_.get()));
      flush_ = pmem2_get_flush_fn(map_.get());
      drain_ = pmem2_get_drain_fn(map_.get());
    }
    mapped_ = range.offset + range.size;
    return ok();
  }

  /// More of the same file, which is flushed as the first piece is. Not through libpmem2: for every map it
  /// walks /sys with fts(3), which changes the working directory of the whole process, and the broker's
  /// system-call filter ends a process that does.
  Result<void> map_more(Range range) {
    const bool direct = granularity_ != Granularity::page && !pretend_;
    return map_here(range, direct ? MAP_SHARED_VALIDATE | MAP_SYNC : MAP_SHARED);
  }

  Result<void> map_here(Range range, int flags) {
    // SAFETY: MAP_FIXED within the reservation, at an offset where nothing is mapped yet.
    void* address = ::mmap(base_ + range.offset, range.size, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
                           fd_.get(), static_cast<off_t>(range.offset));
    if (address == MAP_FAILED) return io_error("map " + path_, errno);
    pieces_.push_back(range);
    return ok();
  }

  Result<Map> map_really(Range range) {
    pmem2_config* raw = nullptr;
    if (int failed = pmem2_config_new(&raw)) return pmem2_error("map " + path_, failed);
    const Config config(raw);
    int failed = pmem2_config_set_required_store_granularity(raw, PMEM2_GRANULARITY_PAGE);
    if (failed == 0) failed = pmem2_config_set_offset(raw, range.offset);
    if (failed == 0) failed = pmem2_config_set_length(raw, range.size);
    if (failed == 0) failed = pmem2_config_set_vm_reservation(raw, reservation_.get(), range.offset);
    if (failed == 0) {
      failed = pmem2_config_set_protection(
          raw, mode_ == Mode::read_write ? PMEM2_PROT_READ | PMEM2_PROT_WRITE : PMEM2_PROT_READ);
    }
    pmem2_map* map = nullptr;
    if (failed == 0) failed = pmem2_map_new(&map, raw, source_.get());
    if (failed != 0) return pmem2_error("map " + path_, failed);
    return Map(map);
  }

  Result<Map> map_pretended(Range range) {
    MAPCAP_TRY_VOID(map_here(range, MAP_SHARED));
    const pmem2_granularity granularity = *pretend_ == Granularity::byte ? PMEM2_GRANULARITY_BYTE
                                          : *pretend_ == Granularity::cache_line
                                              ? PMEM2_GRANULARITY_CACHE_LINE
                                              : PMEM2_GRANULARITY_PAGE;
    pmem2_map* map = nullptr;
    if (int failed =
            pmem2_map_from_existing(&map, source_.get(), base_ + range.offset, range.size, granularity)) {
      return pmem2_error("map " + path_, failed);
    }
    return Map(map);
  }

  /// A fault that would be a SIGBUS becomes an error here. Kernels before 5.14 cannot do this, and the fault
  /// stays.
  Result<void> populate(Range range, int advice, const char* verb) {
    const std::size_t from = range.offset / kPage * kPage;
    const std::size_t size = (range.offset + range.size - from + kPage - 1) / kPage * kPage;
    // SAFETY: the range lies within what is mapped; contents do not change.
    while (::madvise(base_ + from, size, advice) != 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      if (errno == EINVAL) break;
      return io_error("cannot " + std::string(verb) + " the ledger " + path_ + "; check its device", errno);
    }
    return ok();
  }

  Fd fd_;
  std::string path_;
  Mode mode_;
  std::optional<Granularity> pretend_;
  Source source_;
  Reservation reservation_;
  Map map_;                    // Of the first piece. Destroyed before the reservation it lies in.
  std::vector<Range> pieces_;  // Mapped without libpmem2.
  std::byte* base_ = nullptr;
  std::size_t mapped_ = 0;  // Written by whoever grows.
  std::size_t size_ = 0;    // The storing thread's view of it.
  Granularity granularity_ = Granularity::page;
  pmem2_flush_fn flush_ = nullptr;
  pmem2_drain_fn drain_ = nullptr;
  std::optional<Range> flushed_;
};

Result<void> lock(int fd, short type, const std::string& path) {
  struct flock whole {};
  whole.l_type = type;
  whole.l_whence = SEEK_SET;
  if (::fcntl(fd, F_OFD_SETLK, &whole) == 0) return ok();
  if (errno == EAGAIN || errno == EACCES) {
    return failure(ErrorCode::busy,
                   "the ledger " + path +
                       " is in use by another mapcapd: stop that one, or start this one with "
                       "another --state directory");
  }
  return io_error("lock " + path, errno);
}

Result<std::shared_ptr<Medium>> map_file(Fd fd, const std::string& path, Mode mode,
                                         std::optional<Granularity> pretend) {
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return io_error("stat " + path, errno);
  if (!S_ISREG(status.st_mode)) {
    return failure(ErrorCode::invalid, path + " is not a regular file: the ledger must be one");
  }
  MAPCAP_TRY_VOID(lock(fd.get(), mode == Mode::read_write ? F_WRLCK : F_RDLCK, path));
  // A length that is no whole number of pages is damage at the end; what is missing is found by the
  // superblock.
  const std::size_t size = std::min(static_cast<std::size_t>(status.st_size), kReservation) / kPage * kPage;
  if (size < kSlotsOffset) return read_superblock(std::span<const std::byte>(), path).error();
  auto medium = std::make_shared<FileMedium>(std::move(fd), path, mode, pretend);
  MAPCAP_TRY_VOID(medium->start(size));
  return std::shared_ptr<Medium>(std::move(medium));
}

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Result<void> fill_new(int fd, const std::string& path, std::uint32_t capacity) {
  const std::string what = "making the ledger " + path;
  const std::size_t size = kSlotsOffset + std::size_t{capacity} * kSlotSize;
  Superblock superblock;
  superblock.capacity = capacity;
  if (::getrandom(&superblock.salt, sizeof superblock.salt, 0) != sizeof superblock.salt)
    return io_error(what, errno);
  if (::ftruncate(fd, 0) != 0) return io_error(what, errno);
  if (int failed = ::posix_fallocate(fd, 0, static_cast<off_t>(size))) return io_error(what, failed);
  MAPCAP_TRY_VOID(write_zeros(fd, 0, size, what));
  const SuperblockImage image = encode(superblock);
  for (std::size_t copy : {0U, 1U}) {
    if (::pwrite(fd, image.data(), image.size(), static_cast<off_t>(superblock_range(copy).offset)) !=
        static_cast<ssize_t>(image.size())) {
      return io_error(what, errno);
    }
  }
  if (::fsync(fd) != 0) return io_error(what, errno);
  return ok();
}

Result<void> make_file(const std::string& path, std::uint32_t capacity) {
  const std::string unfinished = path + ".new";
  const Fd fd(::open(unfinished.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return io_error("making the ledger " + path, errno);
  MAPCAP_TRY_VOID(lock(fd.get(), F_WRLCK, path));
  Result<void> made = fill_new(fd.get(), path, capacity);
  // By descriptor, so that what is linked is what was filled. EEXIST: another broker was faster; whoever
  // locks the file first has it.
  const std::string filled = fd_path(fd.borrow());
  if (made && ::linkat(AT_FDCWD, filled.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) != 0 &&
      errno != EEXIST) {
    made = io_error("making the ledger " + path, errno);
  }
  ::unlink(unfinished.c_str());
  MAPCAP_TRY_VOID(std::move(made));
  const Fd directory(::open(directory_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid() || ::fsync(directory.get()) != 0)
    return io_error("making the ledger " + path, errno);
  return ok();
}

}  // namespace

Result<std::shared_ptr<Medium>> open_or_create_file(const std::string& path, const FileOptions& options) {
  Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid() && errno == ENOENT) {
    MAPCAP_TRY_VOID(make_file(path, options.capacity));
    fd = Fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
  }
  if (!fd.valid()) return io_error("opening the ledger " + path, errno);
  return map_file(std::move(fd), path, Mode::read_write, options.pretend);
}

Result<std::shared_ptr<Medium>> open_file_read_only(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid() && errno == ENOENT) {
    return failure(ErrorCode::not_found,
                   "there is no ledger " + path + ": name the state directory of a broker");
  }
  if (!fd.valid()) return io_error("opening the ledger " + path, errno);
  return map_file(std::move(fd), path, Mode::read_only, std::nullopt);
}

}  // namespace mapcap::broker::ledger
