#include "broker/pool/truncate.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <ctime>
#include <utility>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid  // glibc 2.36 has the field without its documented name.
#endif

namespace mapcap::broker::pool {

namespace {

/// No library here uses real-time signals; glibc keeps the first two for itself.
int wake_signal() {
  return SIGRTMIN + 7;
}

extern "C" void mapcap_wake_handler(int) {}

/// While it lives, the calling thread's interruptible waits end after `deadline`, with EINTR.
class Alarm {
 public:
  static Result<Alarm> set(std::chrono::milliseconds deadline) {
    struct sigaction handler {};
    handler.sa_handler = mapcap_wake_handler;  // Without SA_RESTART: the call must end, not begin again.
    if (::sigaction(wake_signal(), &handler, nullptr) != 0) return io_error("sigaction", errno);
    Alarm alarm;
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = wake_signal();
    event.sigev_notify_thread_id = static_cast<pid_t>(::syscall(SYS_gettid));
    if (::timer_create(CLOCK_MONOTONIC, &event, &alarm.timer_) != 0) {
      return io_error("timer_create", errno);
    }
    alarm.armed_ = true;
    sigset_t wake;
    sigemptyset(&wake);
    sigaddset(&wake, wake_signal());
    ::pthread_sigmask(SIG_UNBLOCK, &wake, &alarm.before_);
    // Again and again: the first may come just before the wait begins.
    constexpr long kAgain = 20'000'000;
    itimerspec when{};
    when.it_value.tv_sec = deadline.count() / 1000;
    when.it_value.tv_nsec = deadline.count() % 1000 * 1'000'000 + 1;
    when.it_interval.tv_nsec = kAgain;
    if (::timer_settime(alarm.timer_, 0, &when, nullptr) != 0) return io_error("timer_settime", errno);
    return alarm;
  }
  Alarm(Alarm&& other) noexcept
      : timer_(other.timer_), before_(other.before_), armed_(std::exchange(other.armed_, false)) {}
  Alarm& operator=(Alarm&&) = delete;
  ~Alarm() {
    if (!armed_) return;
    ::timer_delete(timer_);
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  Alarm() = default;
  timer_t timer_{};
  sigset_t before_{};
  bool armed_ = false;
};

/// A file that is mapped by the broker as long as this lives.
class KeptMapped {
 public:
  static Result<KeptMapped> whole(BorrowedFd fd, Watched watched) {
    struct statx status {};
    if (::statx(fd.get(), "", AT_EMPTY_PATH, STATX_SIZE, &status) != 0) {
      return io_error("statx of a region's file", errno);
    }
    KeptMapped mapped;
    mapped.size_ = status.stx_size;
    // Elsewhere truncation leaves the pinned page to whoever pins it, and the page goes to nobody else.
    const bool dax = (status.stx_attributes & STATX_ATTR_DAX) != 0;
    const int populate = dax && watched == Watched::with_gaps ? MAP_POPULATE : 0;
    // SAFETY: never read through; a new mapping at an address of the kernel's choice. Pages that populating
    // cannot reach (bad blocks) are left out without an error.
    mapped.address_ = ::mmap(nullptr, mapped.size_, PROT_READ, MAP_SHARED | populate, fd.get(), 0);
    if (mapped.address_ == MAP_FAILED) return io_error("mmap of a region's file", errno);
    return mapped;
  }
  KeptMapped(KeptMapped&& other) noexcept
      : address_(std::exchange(other.address_, MAP_FAILED)), size_(other.size_) {}
  KeptMapped& operator=(KeptMapped&&) = delete;
  ~KeptMapped() {
    if (address_ != MAP_FAILED) ::munmap(address_, size_);
  }

 private:
  KeptMapped() = default;
  void* address_ = MAP_FAILED;
  std::uint64_t size_ = 0;
};

}  // namespace

Result<void> truncate_within(BorrowedFd fd, Watched watched, std::chrono::milliseconds deadline) {
  MAPCAP_TRY(const KeptMapped mapped, KeptMapped::whole(fd, watched));
  MAPCAP_TRY(const Alarm alarm, Alarm::set(deadline));
  if (::ftruncate(fd.get(), 0) == 0) return ok();
  if (errno != EINTR) return io_error("truncating a region's file", errno);
  return failure(ErrorCode::timed_out,
                 "somebody pins pages of the region's file (direct I/O, io_uring or vmsplice); its "
                 "memory comes back when they let go");
}

Result<void> set_append_only(BorrowedFd fd, AppendOnly wanted) {
  int flags = 0;
  // SAFETY: despite their declarations these calls read and write one int.
  if (::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) != 0) {
    if (wanted == AppendOnly::off && (errno == ENOTTY || errno == EOPNOTSUPP)) return ok();
    return io_error("reading the attributes of a region's file", errno);
  }
  const bool is_on = (flags & FS_APPEND_FL) != 0;
  if (is_on == (wanted == AppendOnly::on)) return ok();
  flags ^= FS_APPEND_FL;
  // SAFETY: as above.
  if (::ioctl(fd.get(), FS_IOC_SETFLAGS, &flags) != 0) {
    return io_error("changing the append-only attribute of a region's file", errno);
  }
  return ok();
}

}  // namespace mapcap::broker::pool
