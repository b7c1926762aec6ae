#include "broker/foreign/examiner_process.h"

#include <linux/magic.h>
#include <poll.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <memory>
#include <span>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/newer_linux.h"
#include "broker/foreign/examiner_sandbox.h"
#include "broker/foreign/examiner_wire.h"
#include "broker/keeper/setup.h"
#include "broker/wait/scheduling.h"
#include "schema/channel.h"

namespace mapcap::broker::foreign {

using schema::Incoming;

namespace {

/// Local filesystems that no process answers for: a call on them ends. FUSE and network filesystems are out.
constexpr std::array<std::int64_t, 6> kLocal{TMPFS_MAGIC,       EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC,
                                             BTRFS_SUPER_MAGIC, F2FS_SUPER_MAGIC, BCACHEFS_STATFS_MAGIC};
/// A thread looks at one file. Sanitizers need more room than that.
constexpr std::size_t kStack = 512UL * 1024;

/// Blocks until it is said: the broker always listens. Nobody is left to tell when that fails.
void say(int control, const Report& report, BorrowedFd with = {}) {
  const std::span<const BorrowedFd> fds(&with, with.valid() ? 1 : 0);
  for (;;) {
    const Result<bool> sent = schema::send(BorrowedFd(control), std::as_bytes(std::span(&report, 1)), fds);
    if (!sent || sent.value()) return;
    pollfd room{control, POLLOUT, 0};
    ::poll(&room, 1, -1);
  }
}

/// What came with the next packet; empty when there is none.
std::vector<Fd> take_descriptors(BorrowedFd port) {
  char byte = 0;
  iovec data{&byte, 1};
  // One descriptor more than there should be, so that it is seen.
  struct alignas(cmsghdr) {
    std::array<char, CMSG_SPACE(2 * sizeof(int))> bytes{};
  } control;
  msghdr header{};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes.data();
  header.msg_controllen = control.bytes.size();
  std::vector<Fd> taken;
  if (::recvmsg(port.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0) return taken;
  const cmsghdr* part = CMSG_FIRSTHDR(&header);
  if (part == nullptr || part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) return taken;
  const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
  for (std::size_t i = 0; i < count; ++i) {
    int fd = -1;
    // SAFETY: the kernel wrote `count` ints here; they need not be aligned, hence memcpy.
    std::memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
    taken.emplace_back(fd);
  }
  return taken;
}

void look_at(int control, std::uint64_t number, BorrowedFd port) {
  const std::vector<Fd> files = take_descriptors(port);
  Report found;
  found.kind = Report::Kind::found;
  found.number = number;
  found.descriptors = static_cast<std::uint32_t>(files.size());
  struct statfs filesystem {};
  struct stat status {};
  if (files.size() == 1 && ::fstatfs(files.front().get(), &filesystem) == 0) {
    const bool local = std::find(kLocal.begin(), kLocal.end(), filesystem.f_type) != kLocal.end();
    if (local && ::fstat(files.front().get(), &status) == 0) {
      found.local = 1;
      found.mode = status.st_mode;
      found.size = static_cast<std::uint64_t>(status.st_size);
    }
  }
  const bool good = found.local == 1 && S_ISREG(found.mode);
  say(control, found, good ? files.front().borrow() : BorrowedFd());
}

struct Job {
  int control = -1;
  Order order;
  Fd socket;  ///< The receiving end of a port, or what is to be buried.
};

/// A thread's whole life. Everything that it lets go of may take for ever.
void* carry_out(void* given) {
  std::unique_ptr<Job> job(static_cast<Job*>(given));
  const int control = job->control;
  Report done;
  done.kind = Report::Kind::done;
  done.number = job->order.number;
  if (job->order.kind == Order::Kind::look) look_at(control, done.number, job->socket.borrow());
  job.reset();
  timespec worked{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &worked);
  done.cost_ns =
      static_cast<std::uint64_t>(worked.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(worked.tv_nsec);
  say(control, done);
  return nullptr;
}

class Examiner {
 public:
  explicit Examiner(Fd control) : control_(std::move(control)) {}

  /// Until the broker is gone.
  void serve() {
    for (;;) {
      pollfd order{control_.get(), POLLIN, 0};
      if (::poll(&order, 1, -1) < 0 && errno != EINTR) return;
      auto received = schema::receive(control_.borrow(), sizeof(Order), 1);
      if (!received) return;
      if (const auto* nothing = std::get_if<schema::Wait>(&received.value())) {
        if (*nothing == schema::Wait::closed) return;
        continue;
      }
      if (!follow(std::move(std::get<Incoming>(received.value())))) return;
    }
  }

 private:
  bool follow(Incoming packet) {
    Order order;
    if (packet.bytes.size() != sizeof order) return false;
    std::memcpy(&order, packet.bytes.data(), sizeof order);
    if (order.kind == Order::Kind::open) return open(order.number);
    if (order.kind == Order::Kind::bury) {
      if (packet.fds.size() == 1) ports_[order.number] = std::move(packet.fds.front());
      return true;
    }
    Fd socket;
    if (auto port = ports_.extract(order.number)) {
      socket = std::move(port.mapped());
    }
    return hand_over(std::make_unique<Job>(Job{control_.get(), order, std::move(socket)}));
  }

  bool open(std::uint64_t number) {
    auto pair = schema::socket_pair();
    if (!pair) return false;
    Report report;
    report.number = number;
    ports_[number] = std::move(pair.value().first);
    // Nothing was ever sent to the client's end, so closing it here takes no time.
    say(control_.get(), report, pair.value().second.borrow());
    return true;
  }

  /// False where no thread can be had: this process ends then, and with it all that it holds.
  static bool hand_over(std::unique_ptr<Job> job) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, kStack);
    pthread_t thread{};
    Job* given = job.release();
    const int failed = pthread_create(&thread, &attributes, carry_out, given);
    pthread_attr_destroy(&attributes);
    return failed == 0;  // Otherwise `given` stays as it is: letting go of it here might take for ever.
  }

  Fd control_;
  std::unordered_map<std::uint64_t, Fd> ports_;
};

[[noreturn]] void run_examiner(Fd control) {
  const BorrowedFd kept = control.borrow();
  ::prctl(PR_SET_NAME, "mapcapd-examine", 0, 0, 0);
  run_patiently();
  const bool ready = keeper::leave_broker(std::span(&kept, 1)).has_value() &&
                     keeper::give_up_power().has_value() && sandbox_examiner().has_value();
  // Never destroyed: ports are let go of by the end of the process, where nothing lingers.
  if (ready) (new Examiner(std::move(control)))->serve();
  ::_exit(ready ? 0 : 3);
}

}  // namespace

ExaminerProcess::~ExaminerProcess() {
  if (pid <= 0) return;
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

Result<ExaminerProcess> start_examiner() {
  MAPCAP_TRY(auto ends, schema::socket_pair());
  // No handler of the broker's may run in the child, before it has let go of what they use.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t child = ::fork();
  const int failed = errno;
  if (child == 0) {
    ends.first.reset();
    run_examiner(std::move(ends.second));
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (child < 0) return io_error("fork of the examiner", failed);
  return ExaminerProcess{child, std::move(ends.first)};
}

}  // namespace mapcap::broker::foreign
