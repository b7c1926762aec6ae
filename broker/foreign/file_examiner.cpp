#include "broker/foreign/file_examiner.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <variant>

#include "policy/subject.h"
#include "schema/channel.h"

namespace mapcap::broker {

using namespace std::chrono_literals;
using foreign::Order;
using foreign::Report;

namespace {

/// An examiner that has made no port by then hangs as a whole.
constexpr std::chrono::nanoseconds kOpenPatience = 5s;
/// A file that nobody has told about by then hangs.
constexpr std::chrono::nanoseconds kLookPatience = 2s;
constexpr std::chrono::nanoseconds kReapEvery = 100ms;
/// Reports that are taken before others have their turn.
constexpr int kReportsAtOnce = 16;
/// Sockets that the examiner lets go of at a time.
constexpr std::size_t kMostBurials = 128;

Failure silent() {
  return failure(ErrorCode::unsupported,
                 "the file's filesystem did not answer in time; copy the file to a local filesystem");
}

Failure port_gone() {
  return failure(ErrorCode::unavailable, "the port that the file was sent to is gone; ask for another one",
                 {{"port", "gone"}});
}

Failure no_examiner() {
  return failure(ErrorCode::unavailable,
                 "the process that looks at files to clone does not answer and is being replaced; ask again");
}

/// Why a file is not cloned, if it is not.
Result<void> judge(const Report& found) {
  if (found.descriptors != 1) {
    return failure(ErrorCode::invalid, found.descriptors == 0
                                           ? "no file was sent to the port before its clone was asked for"
                                           : "more than one file was sent to the port");
  }
  if (found.local == 0) {
    return failure(
        ErrorCode::unsupported,
        "files of this filesystem cannot be cloned: only local ones (tmpfs, memfd, ext4, XFS, btrfs, "
        "f2fs, bcachefs); copy the file there");
  }
  if (!S_ISREG(found.mode)) return failure(ErrorCode::invalid, "only a regular file can be cloned");
  if (found.size == 0) return failure(ErrorCode::invalid, "the file is empty: there is nothing to map");
  return ok();
}

}  // namespace

struct FileExaminer::Process {
  pid_t pid = 0;
  Fd control;
  std::optional<Loop::Watch> watch;
  bool abandoned = false;  ///< Whoever started it is no more.
};

/// A port from when it is asked for until everything that was sent to it is let go of; or a burial.
struct FileExaminer::Job {
  Job(Loop& loop, Meter::Account payer, std::shared_ptr<Process> by)
      : account(payer), process(std::move(by)), changed(loop) {}
  Meter::Account account;
  std::shared_ptr<Process> process;
  bool asked = false;  ///< Its end has begun: look, drop or bury.
  bool burial = false;
  bool waited = false;  ///< Somebody waits for a report.
  bool late = false;
  bool gone = false;  ///< With its examiner.
  std::optional<Report> report;
  Fd fd;  ///< What rode on the report.
  Event changed;
};

FileExaminer::FileExaminer(Loop& loop, Worker& worker, foreign::ExaminerProcess first)
    : loop_(loop), worker_(worker), closing_(loop), started_(loop) {
  adopt(std::move(first));
}

FileExaminer::~FileExaminer() {
  if (!process_) return;
  foreign::ExaminerProcess(process_->pid, Fd());
  process_->abandoned = true;
  process_->watch->cancel();
}

void FileExaminer::adopt(foreign::ExaminerProcess started) {
  process_ = std::make_shared<Process>();
  process_->pid = std::exchange(started.pid, 0);
  process_->control = std::move(started.control);
  process_->watch.emplace(loop_, process_->control.borrow());
  started_.notify();
  spawn(hear(process_));
  bury_more();
}

Task<void> FileExaminer::hear(std::shared_ptr<Process> process) {
  for (bool more = true; more;) {
    more = co_await process->watch->readable();
    if (process->abandoned) co_return;  // And this is gone.
    if (more) more = take_reports(*process);
  }
  replace(process);
  process->watch.reset();
  closing_.close(std::move(process->control));  // A report that nobody took may have a file on it.
}

/// False when the examiner has ended.
bool FileExaminer::take_reports(Process& process) {
  for (int i = 0; i < kReportsAtOnce; ++i) {
    auto received = schema::receive(process.control.borrow(), sizeof(Report), 1);
    if (!received) return false;
    if (const auto* nothing = std::get_if<schema::Wait>(&received.value())) {
      return *nothing == schema::Wait::would_block;
    }
    auto& packet = std::get<schema::Incoming>(received.value());
    Report report;
    if (packet.bytes.size() != sizeof report) return false;
    std::memcpy(&report, packet.bytes.data(), sizeof report);
    take(report, packet.fds.empty() ? Fd() : std::move(packet.fds.front()));
  }
  return true;
}

void FileExaminer::take(const Report& report, Fd fd) {
  const auto found = jobs_.find(report.number);
  if (found == jobs_.end()) return closing_.close(std::move(fd));
  const JobPointer job = found->second;
  if (report.kind == Report::Kind::done) {
    if (job->account) loop_.meter().charge(*job->account, std::chrono::nanoseconds(report.cost_ns));
    jobs_.erase(found);
    if (!job->burial) return;
    --burials_;
    buried_one_ = true;
    return bury_more();
  }
  const Meter::Scope scope(loop_.meter(), job->account);
  if (!job->waited) return closing_.close(std::move(fd));
  job->report = report;
  job->fd = std::move(fd);
  job->changed.notify();
}

/// False when it was not sent; then the examiner is being replaced.
bool FileExaminer::order(const Order& order, BorrowedFd with) {
  const std::shared_ptr<Process> process = process_;
  if (!process) return false;
  const std::span<const BorrowedFd> fds(&with, with.valid() ? 1 : 0);
  const Result<bool> sent = schema::send(process->control.borrow(), std::as_bytes(std::span(&order, 1)), fds);
  if (sent && sent.value()) return true;
  replace(process);
  return false;
}

void FileExaminer::replace(const std::shared_ptr<Process>& process) {
  if (process_ != process) return;
  process_.reset();
  ::kill(process->pid, SIGKILL);  // Not reaped yet, so the number is still its own.
  process->watch->cancel();
  dying_.push_back(process);
  for (auto one = jobs_.begin(); one != jobs_.end();) {
    const JobPointer job = one->second;
    job->gone = true;
    job->changed.notify();
    // What hangs there counts until the process is gone.
    one = job->asked ? std::next(one) : jobs_.erase(one);
  }
  const Meter::Scope nobodys(loop_.meter(), std::nullopt);
  reap();
  spawn(start_another());
}

Task<void> FileExaminer::start_another() {
  for (;;) {
    auto started = co_await worker_.run(foreign::start_examiner);
    if (started) {
      adopt(std::move(started.value()));
      co_return;
    }
    co_await loop_.sleep(100ms);
  }
}

void FileExaminer::reap() {
  std::erase_if(dying_, [this](const std::shared_ptr<Process>& process) {
    if (::waitpid(process->pid, nullptr, WNOHANG) == 0) return false;
    std::erase_if(jobs_, [&](const auto& entry) {
      const Job& job = *entry.second;
      if (job.process != process) return false;
      if (job.burial) --burials_;
      return true;
    });
    return true;
  });
  reap_timer_ = dying_.empty() ? Loop::Timer() : loop_.after(kReapEvery, [this] { reap(); });
}

bool FileExaminer::has_room(std::uint32_t account) const {
  const auto own = std::count_if(jobs_.begin(), jobs_.end(), [account](const auto& entry) {
    return entry.second->account == account && !entry.second->burial;
  });
  const std::size_t ports = jobs_.size() - burials_;
  return static_cast<std::size_t>(own) < kMostOfUser &&
         ports < kMost + (account == policy::kAdministrators ? kForRoot : 0);
}

/// What has just been answered needs a moment to end.
Task<Result<void>> FileExaminer::make_room(std::uint32_t account) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    if (has_room(account)) co_return ok();
    co_await loop_.sleep(10ms);
  }
  co_return failure(ErrorCode::exhausted,
                    "too many files that were to be cloned lie on filesystems that do not answer, or "
                    "were announced and not asked for; end those filesystems and connections, then try "
                    "again");
}

/// Until there is a report, the patience is over, or the examiner is gone.
Task<void> FileExaminer::wait(JobPointer job, std::chrono::nanoseconds patience) {
  job->waited = true;
  const Loop::Timer timer = loop_.after(patience, [job] {
    job->late = true;
    job->changed.notify();
  });
  while (!job->report && !job->late && !job->gone) co_await job->changed.wait();
  job->waited = false;
}

Task<Result<FileExaminer::Port>> FileExaminer::open_port(std::uint32_t account) {
  Result<Port> port = no_examiner();
  for (int attempt = 0; attempt < 3 && !port; ++attempt) {
    port = co_await try_open(account);
    if (!port && port.error().code != ErrorCode::unavailable) break;
  }
  co_return port;
}

Task<Result<FileExaminer::Port>> FileExaminer::try_open(std::uint32_t account) {
  while (!process_) co_await started_.wait();
  MAPCAP_CO_TRY_VOID(co_await make_room(account));
  const std::shared_ptr<Process> process = process_;
  if (!process) co_return no_examiner();
  const std::uint64_t number = next_++;
  const auto job = std::make_shared<Job>(loop_, account, process);
  jobs_.emplace(number, job);
  if (!order({Order::Kind::open, 0, number})) co_return no_examiner();
  co_await wait(job, kOpenPatience);
  if (!job->report) {
    replace(process);
    co_return no_examiner();
  }
  job->report.reset();
  co_return Port{number, std::move(job->fd)};
}

Task<Result<PassedFile>> FileExaminer::examine(std::uint64_t port) {
  const auto found = jobs_.find(port);
  if (found == jobs_.end() || found->second->asked) co_return port_gone();
  const JobPointer job = found->second;
  job->asked = true;
  if (!order({Order::Kind::look, 0, port})) co_return port_gone();
  co_await wait(job, kLookPatience);
  if (!job->report) co_return job->gone ? port_gone() : silent();
  ClosedElsewhere file(closing_, std::move(job->fd));
  MAPCAP_CO_TRY_VOID(judge(*job->report));
  if (!file.borrow().valid()) co_return silent();
  co_return PassedFile{std::move(file), {job->report->size}};
}

void FileExaminer::drop(std::uint64_t port) {
  const auto found = jobs_.find(port);
  if (found == jobs_.end() || found->second->asked) return;
  found->second->asked = true;
  order({Order::Kind::drop, 0, port});
}

void FileExaminer::bury(Fd socket, Meter::Account account) {
  unburied_.emplace_back(std::move(socket), account);
  bury_more();
}

void FileExaminer::bury_more() {
  while (process_ && burials_ < kMostBurials && !unburied_.empty()) {
    auto [socket, account] = std::move(unburied_.front());
    unburied_.pop_front();
    const std::uint64_t number = next_++;
    const auto job = std::make_shared<Job>(loop_, account, process_);
    job->asked = job->burial = true;
    jobs_.emplace(number, job);
    ++burials_;
    if (!order({Order::Kind::bury, 0, number}, socket.borrow())) {
      unburied_.emplace_back(std::move(socket), account);
      continue;
    }
    // The packet, or the examiner, keeps it from here on until it is told to let go: closing it here is not the last time.
    socket.reset();
    order({Order::Kind::drop, 0, number});
  }
  if (burials_ == kMostBurials) watch_burials();
}

/// When nothing ends any more although there is no room, the examiner ends, and with it all that hangs there.
void FileExaminer::watch_burials() {
  if (watching_burials_) return;
  watching_burials_ = true;
  buried_one_ = false;
  burial_timer_ = loop_.after(kLookPatience, [this] {
    watching_burials_ = false;
    if (burials_ < kMostBurials) return;
    if (buried_one_ || !process_) return watch_burials();
    replace(process_);
  });
}

}  // namespace mapcap::broker
