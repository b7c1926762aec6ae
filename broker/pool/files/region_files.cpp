#include "broker/pool/files/region_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <filesystem>

#include "base/fd_path.h"

namespace mapcap::broker::pool {

namespace {

/// Where the number of a damaged file counts those of the same region; ids of regions do not come that far.
constexpr unsigned kDamagedBit = 48;
/// One pwrite: large enough to cost nothing a byte, small enough to tell progress by.
constexpr std::uint64_t kChunk = 4U << 20U;

constexpr std::string_view kRegion = "region-";
constexpr std::string_view kDisowned = "region-disowned-";
constexpr std::string_view kDamaged = "damaged-";
constexpr std::size_t kDigits = 16;

}  // namespace

RegionFiles::RegionFiles(Fd directory, std::string where, std::uint32_t ledger, Fault fault)
    : directory_(std::move(directory)),
      where_(std::move(where)),
      region_prefix_(std::string(kRegion) + tag_of(ledger) + "-"),
      fault_(std::move(fault)) {}

std::string RegionFiles::name_of(FileKind kind, std::uint64_t number) const {
  std::array<char, kDigits + 1> digits{};
  std::snprintf(digits.data(), digits.size(), "%016" PRIx64, number);
  return (kind == FileKind::region ? region_prefix_ : std::string(kDamaged)) + digits.data();
}

std::optional<std::uint64_t> RegionFiles::number_of(FileKind kind, const std::string& name) const {
  if (name.size() <= kDigits) return std::nullopt;
  std::uint64_t number = 0;
  const char* end = name.data() + name.size();
  const auto [rest, fault] = std::from_chars(end - kDigits, end, number, 16);
  if (fault != std::errc() || rest != end || name_of(kind, number) != name) return std::nullopt;
  return number;
}

Result<void> RegionFiles::may(std::string_view call) const {
  const int fault = fault_ ? fault_(call) : 0;
  if (fault != 0) return failed(call, fault);
  return ok();
}

Failure RegionFiles::failed(std::string_view what, int error) const {
  if (error == ENOSPC || error == EDQUOT) {
    return failure(ErrorCode::pool_full, where_ + ": its filesystem has no room left for the region",
                   {{"call", std::string(what)}, {"errno", std::to_string(error)}});
  }
  return io_error(where_ + ": " + std::string(what), error);
}

Result<Fd> RegionFiles::make(std::uint64_t number) const {
  MAPCAP_TRY_VOID(may("make"));
  const std::string name = name_of(FileKind::region, number);
  Fd fd(::openat(directory_.get(), name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (fd.valid()) return fd;
  if (errno == EEXIST) return failure(ErrorCode::exists, where_ + " already has a file " + name);
  return failed("making a file", errno);
}

Result<Fd> RegionFiles::open(std::uint64_t number, FileKind kind) const {
  const std::string name = name_of(kind, number);
  Fd fd(::openat(directory_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (fd.valid()) return fd;
  if (errno == ENOENT) return failure(ErrorCode::lost, where_ + " has no file " + name + " any more");
  return failed("opening " + name, errno);
}

Result<Fd> RegionFiles::open_for_writing(std::uint64_t number) const {
  MAPCAP_TRY_VOID(may("open for writing"));
  const std::string name = name_of(FileKind::region, number);
  Fd fd(::openat(directory_.get(), name.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return failed("opening " + name, errno);
  return fd;
}

Result<void> RegionFiles::allocate(BorrowedFd fd, ByteCount size) const {
  MAPCAP_TRY_VOID(may("allocate"));
  int done = 0;
  do {
    done = ::fallocate(fd.get(), 0, 0, static_cast<off_t>(size.value));
  } while (done != 0 && errno == EINTR);
  if (done != 0) return failed("allocating a region", errno);
  return ok();
}

Result<void> RegionFiles::write_zeros(BorrowedFd fd, ByteCount size, const Progress& progress) const {
  static const std::vector<std::byte> zeros(kChunk);
  for (std::uint64_t done = 0; done < size.value;) {
    MAPCAP_TRY_VOID(may("write"));
    const std::uint64_t step = std::min(kChunk, size.value - done);
    const ssize_t written = ::pwrite(fd.get(), zeros.data(), step, static_cast<off_t>(done));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return failed("writing a region's zeros", written < 0 ? errno : EIO);
    done += static_cast<std::uint64_t>(written);
    if (progress) progress({done}, size);
  }
  return ok();
}

Result<void> RegionFiles::sync(BorrowedFd fd) const {
  MAPCAP_TRY_VOID(may("sync"));
  if (::fsync(fd.get()) != 0) return failed("fsync of a region's file", errno);
  MAPCAP_TRY_VOID(may("sync directory"));
  if (::fsync(directory_.get()) != 0) return failed("fsync of the directory", errno);
  return ok();
}

Result<void> RegionFiles::set_aside(BorrowedFd fd, std::uint64_t number, ByteCount size,
                                    const std::vector<ByteRange>& damaged) const {
  std::uint64_t healthy = 0;
  const auto give_back = [&](std::uint64_t to) -> Result<void> {
    if (to > healthy && ::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                    static_cast<off_t>(healthy), static_cast<off_t>(to - healthy)) != 0) {
      return failed("giving back what is not damaged", errno);
    }
    return ok();
  };
  MAPCAP_TRY_VOID(may("set aside"));
  for (const ByteRange& range : damaged) {
    MAPCAP_TRY_VOID(give_back(range.offset / kPageSize * kPageSize));
    const std::uint64_t end = range.offset + range.size;
    healthy = std::max(healthy, (end + kPageSize - 1) / kPageSize * kPageSize);
  }
  MAPCAP_TRY_VOID(give_back(size.value));
  // Not over another: its damaged blocks would be free again.
  const std::string name = name_of(FileKind::region, number);
  for (std::uint64_t other = number;; other += std::uint64_t{1} << kDamagedBit) {
    const std::string kept = name_of(FileKind::damaged, other);
    if (::renameat2(directory_.get(), name.c_str(), directory_.get(), kept.c_str(), RENAME_NOREPLACE) == 0)
      return sync(fd);
    if (errno != EEXIST) return failed("renaming a damaged file", errno);
  }
}

bool RegionFiles::is_blank(BorrowedFd fd) const {
  std::vector<char> chunk(kChunk);
  for (off_t at = 0;;) {
    const ssize_t got = ::pread(fd.get(), chunk.data(), chunk.size(), at);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got == 0;
    if (std::any_of(chunk.begin(), chunk.begin() + got, [](char each) { return each != 0; })) return false;
    at += got;
  }
}

Result<void> RegionFiles::disown(std::uint64_t number) const {
  MAPCAP_TRY_VOID(may("disown"));
  const std::string name = name_of(FileKind::region, number);
  const std::string nobodys = std::string(kDisowned) + name.substr(kRegion.size());
  if (::renameat2(directory_.get(), name.c_str(), directory_.get(), nobodys.c_str(), RENAME_NOREPLACE) != 0) {
    if (errno == EEXIST) return failure(ErrorCode::exists, where_ + " already has a file " + nobodys);
    return failed("renaming " + name, errno);
  }
  MAPCAP_TRY_VOID(may("sync directory"));
  if (::fsync(directory_.get()) != 0) return failed("fsync of the directory", errno);
  return ok();
}

Result<void> RegionFiles::unlink(std::uint64_t number, FileKind kind) const {
  MAPCAP_TRY_VOID(may("unlink"));
  const std::string name = name_of(kind, number);
  if (::unlinkat(directory_.get(), name.c_str(), 0) != 0 && errno != ENOENT) {
    return failed("removing " + name, errno);
  }
  MAPCAP_TRY_VOID(may("sync directory"));
  if (::fsync(directory_.get()) != 0) return failed("fsync of the directory", errno);
  return ok();
}

Result<std::vector<std::string>> RegionFiles::names() const {
  std::vector<std::string> names;
  std::error_code error;
  // The descriptor, not the path: the directory may have been moved since.
  const std::string path = fd_path(directory_.borrow());
  std::filesystem::directory_iterator entry(path, error);
  const std::filesystem::directory_iterator end;
  for (; !error && entry != end; entry.increment(error)) names.push_back(entry->path().filename().string());
  if (error) return failed("listing the directory", error.value());
  return names;
}

Result<std::vector<std::uint64_t>> RegionFiles::list(FileKind kind) const {
  MAPCAP_TRY(const std::vector<std::string> all, names());
  std::vector<std::uint64_t> numbers;
  for (const std::string& name : all) {
    if (const auto number = number_of(kind, name)) numbers.push_back(*number);
  }
  return numbers;
}

Result<std::vector<std::string>> RegionFiles::of_other_ledgers() const {
  MAPCAP_TRY(std::vector<std::string> others, names());
  std::erase_if(others, [this](const std::string& name) {
    return !name.starts_with(kRegion) || number_of(FileKind::region, name).has_value();
  });
  return others;
}

}  // namespace mapcap::broker::pool
