#include "broker/pool/reservation.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <vector>

#include "base/machine/memory.h"
#include "base/newer_linux.h"

namespace mapcap::broker::pool {

namespace {

/// Between two looks at what room is left, and two words to whoever waits.
constexpr std::uint64_t kStep = 64U << 20U;

/// What is left alone: broker and keeper need some for themselves, in the cgroup and on the machine.
constexpr std::uint64_t kLeftToTheCgroup = 8U << 20U;
std::uint64_t left_to_the_machine(ByteCount total) {
  return std::min<std::uint64_t>(total.value / 32, 256U << 20U);
}

std::string said(ByteCount bytes) {
  return round_bytes(bytes);
}

Failure no_room(const std::string& name, const std::string& sentence, ByteCount asked,
                std::vector<Detail> more = {}) {
  std::vector<Detail> details{{"limit_name", name}, {"asked", std::to_string(asked.value)}};
  details.insert(details.end(), more.begin(), more.end());
  return failure(ErrorCode::pool_full, sentence, std::move(details));
}

std::vector<Detail> figures(ByteCount limit, ByteCount used) {
  return {{"limit", std::to_string(limit.value)}, {"used", std::to_string(used.value)}};
}

/// A mapping for a moment.
class Glance {
 public:
  Glance(BorrowedFd fd, ByteCount size)
      // SAFETY: a new mapping at an address of the kernel's choice; this object unmaps it.
      : size_(size.value), address_(::mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd.get(), 0)) {}
  Glance(const Glance&) = delete;
  Glance& operator=(const Glance&) = delete;
  ~Glance() {
    if (valid()) ::munmap(address_, size_);
  }
  [[nodiscard]] bool valid() const { return address_ != MAP_FAILED; }
  [[nodiscard]] bool advise(int advice) const { return ::madvise(address_, size_, advice) == 0; }

  /// How much of it huge pages map (smaps(5)).
  [[nodiscard]] ByteCount mapped_huge(const std::string& proc) const {
    std::ifstream file(proc + "/self/smaps");
    std::ostringstream first;
    first << std::hex << reinterpret_cast<std::uintptr_t>(address_) << '-';
    bool here = false;
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with(first.str())) here = true;
      if (!here) continue;
      std::istringstream words(line);
      std::string key;
      std::uint64_t kibibytes = 0;
      if (words >> key >> kibibytes && key == "ShmemPmdMapped:") return {kibibytes * 1024};
    }
    return {};
  }

 private:
  std::size_t size_;
  void* address_;
};

}  // namespace

Reservation::Reservation(Places places)
    : places_(std::move(places)),
      overcommit_(::open((places_.proc + "/sys/vm/overcommit_memory").c_str(), O_RDONLY | O_CLOEXEC)) {}

bool Reservation::strict() const {
  // Every create asks, and more than once.
  constexpr std::chrono::nanoseconds kBelieved = std::chrono::milliseconds(100);
  const std::chrono::nanoseconds now = std::chrono::steady_clock::now().time_since_epoch();
  if (now - asked_.load() >= kBelieved) {
    strict_.store(strict_now());
    asked_.store(now);
  }
  return strict_.load();
}

bool Reservation::strict_now() const {
  char mode = 0;
  return overcommit_.valid() && ::pread(overcommit_.get(), &mode, 1, 0) == 1 && mode == '2';
}

Result<void> Reservation::check_room(ByteCount step, ByteCount asked) const {
  const auto cgroup = machine::tightest_cgroup(places_.proc, places_.cgroups);
  if (cgroup && cgroup->room().value < step.value + kLeftToTheCgroup) {
    return no_room("memory cgroup",
                   "the broker's memory cgroup " + cgroup->group + " may have " + said(cgroup->limit) +
                       " and uses " + said(cgroup->used) + ": no room to allocate a region of " +
                       said(asked) + "; raise its limit (MemoryMax=), or ask for less",
                   asked, figures(cgroup->limit, cgroup->used));
  }
  const machine::Memory machine = machine::memory(places_.proc);
  const std::uint64_t room = machine.available.value + machine.swap_free.value;
  if (machine.total.value != 0 && room < step.value + left_to_the_machine(machine.total)) {
    return no_room("memory",
                   "the machine has " + said({room}) + " of memory left: no room to allocate a region of " +
                       said(asked) + "; ask for less",
                   asked,
                   figures(machine.total, {machine.total.value - std::min(machine.total.value, room)}));
  }
  return ok();
}

Failure Reservation::refused_by_kernel(int errno_value, ByteCount asked) const {
  const machine::Memory machine = machine::memory(places_.proc);
  if (errno_value != ENOMEM && errno_value != ENOSPC)
    return io_error("allocating the pages of a region", errno_value);
  if (strict_now()) {
    return no_room("commit limit",
                   "the machine's commit limit has no room for a region of " + said(asked) + ": of " +
                       said(machine.commit_limit) + " are " + said(machine.commit_room()) +
                       " left, and vm.overcommit_memory is 2; ask for less, or raise vm.overcommit_ratio",
                   asked, figures(machine.commit_limit, machine.committed));
  }
  return no_room("memory",
                 "the machine has no memory left to allocate a region of " + said(asked) + "; ask for less",
                 asked);
}

Result<void> Reservation::allocate(BorrowedFd fd, ByteCount size, const Progress& progress) const {
  for (std::uint64_t done = 0; done < size.value;) {
    const std::uint64_t step = std::min(kStep, size.value - done);
    MAPCAP_TRY_VOID(check_room({step}, size));
    if (::fallocate(fd.get(), 0, static_cast<off_t>(done), static_cast<off_t>(step)) != 0) {
      if (errno == EINTR) continue;
      return refused_by_kernel(errno, size);
    }
    done += step;
    if (progress) progress({done}, size);
  }
  return ok();
}

bool Reservation::complete(BorrowedFd fd, ByteCount size) {
  struct stat status {};
  return ::fstat(fd.get(), &status) == 0 && static_cast<std::uint64_t>(status.st_blocks) * 512 >= size.value;
}

Result<void> Reservation::zero_in_place(BorrowedFd fd, ByteCount size) {
  const std::vector<char> zeros(1U << 20U);
  for (std::uint64_t at = 0; at < size.value;) {
    const std::uint64_t step = std::min<std::uint64_t>(zeros.size(), size.value - at);
    const ssize_t written = ::pwrite(fd.get(), zeros.data(), step, static_cast<off_t>(at));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return io_error("zeroing a region", written < 0 ? errno : EIO);
    at += static_cast<std::uint64_t>(written);
  }
  return ok();
}

Result<void> Reservation::make_huge(BorrowedFd fd, ByteCount size) const {
  const Glance glance(fd, size);
  if (!glance.valid()) return io_error("mapping a region of huge pages", errno);
  if (!glance.advise(MADV_POPULATE_READ)) return refused_by_kernel(errno, size);
  if (glance.mapped_huge(places_.proc) == size) return ok();
  // The kernel took small pages where no huge one was free at once. This makes room, by moving other pages.
  if (glance.advise(MADV_COLLAPSE) && glance.mapped_huge(places_.proc) == size) return ok();
  return no_room(
      "huge pages",
      "no huge page is free for a region of " + said(size) +
          ": the machine's memory is in use or in small pieces (/proc/buddyinfo); ask for less, or let "
          "the kernel put it together (vm.compact_memory)",
      size);
}

}  // namespace mapcap::broker::pool
