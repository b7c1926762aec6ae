#include "broker/pool/files/dax_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <set>

#include "base/newer_linux.h"
#include "broker/pool/bad_blocks.h"
#include "broker/pool/files/region_files.h"
#include "broker/pool/lease.h"
#include "broker/pool/persistence.h"
#include "broker/pool/truncate.h"

namespace mapcap::broker::pool {

namespace {

/// Files that overlap bad blocks before the pool gives a create up. Each keeps some of them back, and the
/// kernel lists 512 stretches at most (MAX_BADBLOCKS in include/linux/badblocks.h).
constexpr int kDamagedInARow = 1024;
/// Places where the pool looks for a page without bad blocks to read its cache mode from.
constexpr std::size_t kPagesTried = 8;
/// Each attempt leaves its number to a leftover that could not be removed; more than one never happens.
constexpr std::uint64_t kAttempts = 8;
/// A wait for a pin that has outlasted the deadline once, or while another is waited for: one file's pins
/// must not keep the worker from everybody else's regions.
constexpr std::chrono::milliseconds kShortWait{50};

Result<ByteCount> capacity_of(const DaxFileOptions& options, BorrowedFd directory);

class DaxFilePool final : public Pool {
 public:
  DaxFilePool(DaxFileOptions options, Facts facts, RegionFiles files, const std::filesystem::path& device)
      : options_(std::move(options)),
        facts_(std::move(facts)),
        files_(std::move(files)),
        bad_blocks_(device),
        cut_deadline_(options_.cut_deadline) {}

  [[nodiscard]] const Facts& facts() const override { return facts_; }
  [[nodiscard]] bool quick() const override { return false; }

  Result<ByteCount> capacity_for(const Wanted& wanted) override {
    DaxFileOptions options = options_;
    options.capacity = wanted;
    return capacity_of(options, files_.directory());
  }
  void set_cut_deadline(std::chrono::milliseconds deadline) override { cut_deadline_ = deadline; }

  Result<Extent> carve(const Carving& carving, const Progress& progress) override {
    MAPCAP_TRY_VOID(free_discarded());
    std::uint64_t number = carving.id.value;
    for (int damaged = 0; damaged < kDamagedInARow; ++damaged) {
      MAPCAP_TRY(Fd fd, make(number));
      Result<bool> healthy = fill(fd.borrow(), number, carving.size, progress);
      if (healthy && healthy.value()) {
        Result<Fd> kept = files_.open(number);
        if (kept) {
          carved(number);
          return Extent(*this, std::move(kept.value()), carving.size, number);
        }
        healthy = kept.error();
      }
      if (!healthy) {
        undo(number);
        Failure error = healthy.error();
        if (damaged > 0) error.sentence += "; bad blocks of its device are kept back";
        return error;
      }
    }
    return failure(ErrorCode::io, "pool " + options_.name +
                                      ": its device has bad blocks wherever the region would lie; see "
                                      "its badblocks in sysfs");
  }

  Result<Extent> reattach(const ledger::RegionRecord& record, Fd) override {
    remember(record.extent);  // Whatever is wrong with it, it is not the sweep's.
    MAPCAP_TRY(Fd fd, files_.open(record.extent));
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return io_error("fstat of a region's file", errno);
    const bool whole = static_cast<std::uint64_t>(status.st_size) == record.size.value;
    if (record.state == RegionState::live && !whole) {
      return failure(ErrorCode::lost, "the file of region " + record.name + " has " +
                                          std::to_string(status.st_size) + " bytes, its record says " +
                                          std::to_string(record.size.value));
    }
    Extent extent(*this, std::move(fd), record.size, record.extent);
    extent.keep();
    return extent;
  }

  Result<void> cut(Extent& extent, SealKind) override { return truncate(extent.fd(), extent.word()); }

  Result<bool> held(const Extent& extent) override {
    // The extent's description is the only one that the broker keeps, and reclaim has detached the
    // confiner's.
    return open_elsewhere(extent.fd());
  }

  Result<void> free(Extent& extent, const Progress&) override {
    // A power cut may have brought back what cut() took.
    MAPCAP_TRY_VOID(truncate(extent.fd(), extent.word()));
    MAPCAP_TRY_VOID(files_.unlink(extent.word()));
    forget(extent.word());
    extent.take_fd().reset();
    return ok();
  }

  void discard(Extent& extent) noexcept override {
    extent.take_fd().reset();
    const std::lock_guard lock(mutex_);
    carved_.erase(extent.word());
    discarded_.insert(extent.word());
  }

  Result<void> free_discarded() override {
    std::set<std::uint64_t> numbers;
    {
      const std::lock_guard lock(mutex_);
      numbers.swap(discarded_);
    }
    Result<void> all = ok();
    for (const std::uint64_t number : numbers) {
      // Never granted, so nobody pins it.
      if (Result<void> gone = files_.unlink(number); !gone) {
        all = gone;
        const std::lock_guard lock(mutex_);
        discarded_.insert(number);
      }
    }
    return all;
  }

  Result<void> sweep(const Recorded& recorded) override {
    MAPCAP_TRY(const std::vector<std::uint64_t> found, files_.list(FileKind::region));
    MAPCAP_TRY(const std::vector<std::uint64_t> damaged, files_.list(FileKind::damaged));
    Result<void> all = ok();
    for (const std::uint64_t number : found) {
      if (remembered(number) || recorded.contains(number)) continue;
      Result<void> gone = recorded.complete ? remove_leftover(number) : put_by(number);
      if (!gone) all = gone;
    }
    for (const std::uint64_t number : damaged) {
      if (Result<void> done = remove_repaired(number); !done) all = done;
    }
    if (!all) return all;
    return check_strangers();
  }

  [[nodiscard]] bool wears_out() const override { return true; }
  std::uint32_t bad_blocks(std::uint64_t word) override {
    const Result<Fd> file = files_.open(word);
    if (!file) return 0;
    std::uint64_t sectors = 0;
    for (const ByteRange& range : bad_blocks_.in(file.value().borrow(), Reading::recent))
      sectors += range.size / kSector;
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(sectors, ~0U));
  }

 private:
  /// A new file; `number` becomes the one that it got.
  Result<Fd> make(std::uint64_t& number) {
    for (std::uint64_t attempt = 1;; ++attempt) {
      Result<Fd> made = files_.make(number);
      if (made || made.error().code != ErrorCode::exists || attempt == kAttempts) return made;
      number = (number & ~0ULL >> 8U) | attempt << 56U;
    }
  }

  /// False: the file lay on bad blocks, which have been set aside.
  Result<bool> fill(BorrowedFd fd, std::uint64_t number, ByteCount size, const Progress& progress) {
    MAPCAP_TRY_VOID(files_.allocate(fd, size));
    std::vector<ByteRange> damaged = bad_blocks_.in(fd, Reading::now);
    if (damaged.empty()) {
      Result<void> filled = files_.write_zeros(fd, size, progress);
      if (filled) filled = files_.sync(fd);
      if (filled) return true;
      damaged = bad_blocks_.in(fd, Reading::now);  // It may have become known by writing.
      if (damaged.empty()) return filled.error();
    }
    MAPCAP_TRY_VOID(files_.set_aside(fd, number, size, damaged));
    return false;
  }

  /// After a failed carve.
  void undo(std::uint64_t number) {
    if (files_.unlink(number)) return;
    const std::lock_guard lock(mutex_);
    discarded_.insert(number);
  }

  Result<void> truncate(BorrowedFd fd, std::uint64_t number) {
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return io_error("fstat of a region's file", errno);
    if (status.st_size == 0) return ok();  // The size changes last, after all pins were waited for.
    MAPCAP_TRY_VOID(set_append_only(fd, AppendOnly::off));
    MAPCAP_TRY(const Fd writable, files_.open_for_writing(number));
    const bool patient = !outlasted(number) && !waiting_.exchange(true);
    const std::chrono::seconds for_size(status.st_size >> 32U);  // 0.2 ms per MiB of touched pages
    const Watched watched = carved_here(number) ? Watched::always : Watched::with_gaps;
    Result<void> done =
        truncate_within(writable.borrow(), watched, (patient ? cut_deadline_.load() : kShortWait) + for_size);
    if (patient) waiting_ = false;
    if (!done && done.error().code == ErrorCode::timed_out) {
      const std::lock_guard lock(mutex_);
      outlasted_.insert(number);
    }
    return done;
  }

  Result<void> check_strangers() {
    MAPCAP_TRY(const std::vector<std::string> strangers, files_.of_other_ledgers());
    if (strangers.empty()) return ok();
    return nobodys(options_.path, "files", strangers);
  }

  Result<void> remove_leftover(std::uint64_t number) {
    MAPCAP_TRY(const Fd fd, files_.open(number));
    // It may have been granted, so it is truncated first like any other.
    MAPCAP_TRY_VOID(truncate(fd.borrow(), number));
    return files_.unlink(number);
  }

  /// Its record may be one of the damaged: then its bytes are somebody's. A create that was cut short has
  /// written nothing but zeros.
  Result<void> put_by(std::uint64_t number) {
    MAPCAP_TRY(const Fd fd, files_.open(number));
    if (files_.is_blank(fd.borrow())) return remove_leftover(number);
    MAPCAP_TRY_VOID(set_append_only(fd.borrow(), AppendOnly::off));
    return files_.disown(number);
  }

  /// The device may have been repaired or replaced.
  Result<void> remove_repaired(std::uint64_t number) {
    MAPCAP_TRY(const Fd fd, files_.open(number, FileKind::damaged));
    if (!bad_blocks_.in(fd.borrow(), Reading::recent).empty()) return ok();
    return files_.unlink(number, FileKind::damaged);
  }

  void remember(std::uint64_t number) {
    const std::lock_guard lock(mutex_);
    recorded_.insert(number);
  }
  void forget(std::uint64_t number) {
    const std::lock_guard lock(mutex_);
    recorded_.erase(number);
    carved_.erase(number);
    outlasted_.erase(number);
  }
  void carved(std::uint64_t number) {
    const std::lock_guard lock(mutex_);
    carved_.insert(number);
  }
  bool carved_here(std::uint64_t number) {
    const std::lock_guard lock(mutex_);
    return carved_.contains(number);
  }
  bool remembered(std::uint64_t number) {
    const std::lock_guard lock(mutex_);
    return recorded_.contains(number);
  }
  bool outlasted(std::uint64_t number) {
    const std::lock_guard lock(mutex_);
    return outlasted_.contains(number);
  }

  DaxFileOptions options_;
  Facts facts_;
  RegionFiles files_;
  BadBlocks bad_blocks_;
  std::atomic<std::chrono::milliseconds> cut_deadline_;
  std::atomic<bool> waiting_ = false;  ///< A truncation may take its whole deadline.
  std::mutex mutex_;
  std::set<std::uint64_t> recorded_;   ///< Files that records named at start.
  std::set<std::uint64_t> carved_;     ///< Files that this broker made and has kept open.
  std::set<std::uint64_t> discarded_;  ///< Files of carvings that were undone.
  std::set<std::uint64_t> outlasted_;  ///< Files whose pins have passed a deadline.
};

/// The directory, locked for this broker.
Result<Fd> claim_directory(const DaxFileOptions& options) {
  const std::string where = "pool " + options.name + ": ";
  Fd directory = options.open_directory
                     ? options.open_directory(options.name)
                     : Fd(::open(options.path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!directory.valid() && errno == ENOENT) {
    return failure(ErrorCode::not_found, where + "its path " + options.path +
                                             " does not exist; mount its filesystem and make it with "
                                             "install -d -m 0700 " +
                                             options.path);
  }
  if (!directory.valid() && (errno == ENOTDIR || errno == ELOOP)) {
    return failure(ErrorCode::invalid, where + "its path " + options.path + " is not a directory");
  }
  if (!directory.valid()) return io_error(where + "opening its path " + options.path, errno);
  struct stat status {};
  if (::fstat(directory.get(), &status) != 0) return io_error(where + "fstat of its path", errno);
  if (status.st_uid != ::geteuid() || (status.st_mode & 077U) != 0) {
    return failure(ErrorCode::invalid, where + "its path " + options.path + " belongs to user " +
                                           std::to_string(status.st_uid) + " with mode " +
                                           format_mode(status.st_mode & 0777U) +
                                           "; it must be root's alone: chown root " + options.path +
                                           " && chmod 0700 " + options.path);
  }
  if (::flock(directory.get(), LOCK_EX | LOCK_NB) != 0) {
    return failure(ErrorCode::busy, where + "another mapcapd serves " + options.path);
  }
  return directory;
}

Result<ByteCount> capacity_of(const DaxFileOptions& options, BorrowedFd directory) {
  struct statfs filesystem {};
  const std::string where = "pool " + options.name + ": ";
  if (::fstatfs(directory.get(), &filesystem) != 0) return io_error(where + "statfs of its path", errno);
  const ByteCount whole{static_cast<std::uint64_t>(filesystem.f_blocks) *
                        static_cast<std::uint64_t>(filesystem.f_frsize)};
  if (!options.capacity) return ByteCount{whole.value / kPageSize * kPageSize};
  if (const auto* percent = std::get_if<std::uint32_t>(&*options.capacity)) {
    return ByteCount{whole.value / 100 * *percent / kPageSize * kPageSize};
  }
  const ByteCount asked = std::get<ByteCount>(*options.capacity);
  if (asked > whole) {
    return failure(ErrorCode::invalid, where + "capacity " + format_bytes(asked) + " is more than the " +
                                           format_bytes(whole) + " of the filesystem of " + options.path +
                                           "; lower it in the policy");
  }
  return asked;
}

/// A page of the filesystem under no name, written: a hole would show the kernel's page of zeros instead.
/// False, with errno: it cannot be had.
bool write_page(const Fd& file) {
  const std::array<char, kPageSize> zeros{};
  return file.valid() && ::fallocate(file.get(), 0, 0, zeros.size()) == 0 &&
         ::write(file.get(), zeros.data(), zeros.size()) == static_cast<ssize_t>(zeros.size());
}

/// Looks at a file of its own, which is gone afterwards. On a filesystem that is full or damaged there is
/// none to look at, and the cache mode stays told as not verified: regions that are there must be served all
/// the same.
Result<void> verify_files(const DaxFileOptions& options, BorrowedFd directory, Facts& facts) {
  std::vector<Fd> damaged;  // Kept, so that the next lies elsewhere.
  while (damaged.size() < kPagesTried) {
    Fd file(::openat(directory.get(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (write_page(file)) {
      verify_cache(options.cache_reader, file.borrow(), facts);
      return ok();
    }
    if (errno == ENOSPC || errno == EDQUOT) return ok();
    if (errno != EIO) return io_error("pool " + options.name + ": writing a file in its path", errno);
    damaged.push_back(std::move(file));
  }
  return ok();
}

Result<void> check_filesystem(const DaxFileOptions& options, std::int64_t filesystem) {
  if (filesystem == EXT4_SUPER_MAGIC || filesystem == XFS_SUPER_MAGIC || filesystem == TMPFS_MAGIC) {
    return ok();
  }
  return failure(ErrorCode::invalid, "pool " + options.name + ": its path " + options.path +
                                         " is on a filesystem that cannot hold regions; use ext4 or XFS, "
                                         "mounted with -o dax on persistent memory");
}

}  // namespace

Result<std::unique_ptr<Pool>> open_dax_file(DaxFileOptions options) {
  MAPCAP_TRY(Fd directory, claim_directory(options));
  struct statfs filesystem {};
  struct stat status {};
  if (::fstatfs(directory.get(), &filesystem) != 0 || ::fstat(directory.get(), &status) != 0) {
    return io_error("pool " + options.name + ": statfs of its path", errno);
  }
  MAPCAP_TRY_VOID(check_filesystem(options, filesystem.f_type));
  Result<FileFacts> examined = examine_directory(directory.borrow());
  if (!examined) {
    Failure error = examined.error();
    error.sentence = "pool " + options.name + " (" + options.path + "): " + error.sentence;
    return error;
  }
  Facts facts;
  MAPCAP_TRY(facts.capacity, capacity_of(options, directory.borrow()));
  facts.name = options.name;
  facts.backing = "dax-file";
  facts.seals = {SealKind::revocable};
  facts.cache_modes = {CacheMode::write_back};
  facts.durability = examined.value().durability;
  // The clone's files are not the filesystem's own, and the kernel refuses MAP_SYNC on them.
  if (options.confinement == Confinement::clone) facts.durability.map_sync = false;
  facts.volatile_memory = false;
  facts.may_return = true;
  MAPCAP_TRY_VOID(verify_files(options, directory.borrow(), facts));
  RegionFiles files(std::move(directory), "pool " + options.name + " (" + options.path + ")", options.ledger,
                    options.fault);
  auto device = sysfs_of(DeviceKind::block, status.st_dev);
  return std::unique_ptr<Pool>(std::make_unique<DaxFilePool>(
      std::move(options), std::move(facts), std::move(files), device.value_or(std::filesystem::path())));
}

}  // namespace mapcap::broker::pool
