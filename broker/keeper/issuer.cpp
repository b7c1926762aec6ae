#include "broker/keeper/issuer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <mutex>
#include <string>
#include <unordered_set>
#include <utility>

#include "base/fd_path.h"
#include "broker/keeper/device.h"
#include "broker/keeper/fuse/mount.h"
#include "broker/keeper/label_blob.h"
#include "broker/keeper/node_name.h"

namespace mapcap::broker::keeper {
namespace {

/// How long a destructor waits for an open that hangs.
constexpr std::chrono::milliseconds kFarewell{500};

Failure open_error(int failed) {
  switch (failed) {
    case ECONNABORTED:
    case ENOTCONN:
    case ENODEV:
      return failure(ErrorCode::unavailable, "the keeper ended while it was asked for a grant; ask again");
    case EMFILE:
    case ENFILE:
      return failure(
          ErrorCode::exhausted,
          "no descriptor is left for a grant; raise the broker's limit on open files (RLIMIT_NOFILE)");
    default:
      return io_error("opening a clone through the keeper", failed);
  }
}

/// The owner of a file that is cloned may have a lease on it, and an open that conflicts with that waits for
/// up to 45 s (/proc/sys/fs/lease-break-time); one with O_NONBLOCK, which the kernel passes on to the file
/// behind the clone (fs/fuse/passthrough.c), fails instead.
constexpr int kNoLeaseBreak = O_NONBLOCK;

Result<Fd> without_nonblock(Fd fd) {
  // None of the other flags that can be set is on.
  if (::fcntl(fd.get(), F_SETFL, 0) != 0) return io_error("clearing O_NONBLOCK of a clone", errno);
  return fd;
}

/// While it lives, the calling thread may open that and nothing else.
class Slot {
 public:
  Slot(IssuingPage& page, const Opening& opening) : page_(page) {
    static thread_local const pid_t self = ::gettid();  // A thread that opens never forks.
    page_.let_open(opening, self);
  }
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;
  ~Slot() { page_.clear(); }

 private:
  IssuingPage& page_;
};

/// A region's memory is the broker's alone: nobody has a lease on it.
int lease_flags(const Opening& opening) {
  return opening.region.value >= confine::kForeignIds ? kNoLeaseBreak : 0;
}

/// A node that is opened by name need not be opened for writing first, as O_TMPFILE wants. A blank has none: nobody knows
/// what it will be called.
bool has_name(const IssuePath& path, const Opening& opening) {
  return path.by_name && opening.rights == Access::read_only && (!opening.place || opening.of_region);
}

}  // namespace

Result<Fd> open_with_name(IssuePath& path, const Opening& opening) {
  if (!has_name(path, opening)) return open_clone(path, opening);
  const Slot slot(path.page, opening);
  const int no_wait = lease_flags(opening);
  const std::string name = node_name(name_in(opening.label), opening.grant);
  Fd clone(::openat(path.root.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | no_wait | O_CLOEXEC));
  if (!clone.valid()) return open_error(errno);
  return no_wait == 0 ? Result<Fd>(std::move(clone)) : without_nonblock(std::move(clone));
}

Result<void> take_name(IssuePath& path, const Opening& opening) {
  if (!has_name(path, opening)) return ok();
  return path.device->forget_name(node_name(name_in(opening.label), opening.grant));
}

Result<Fd> open_clone(IssuePath& path, const Opening& opening) {
  if (has_name(path, opening)) {
    Result<Fd> open = open_with_name(path, opening);
    const Result<void> taken = take_name(path, opening);
    if (open && !taken) return taken.error();
    return open;
  }
  const Slot slot(path.page, opening);
  const int no_wait = lease_flags(opening);
  Fd clone(::openat(path.root.get(), ".", O_TMPFILE | O_RDWR | no_wait | O_CLOEXEC, 0600));
  if (!clone.valid()) return open_error(errno);
  if (opening.rights == Access::read_write)
    return no_wait == 0 ? Result<Fd>(std::move(clone)) : without_nonblock(std::move(clone));
  // O_TMPFILE must be writable: a read-only grant is a second open of the same node.
  const std::string link = fd_path(clone.borrow());
  Fd read_only(::open(link.c_str(), O_RDONLY | no_wait | O_CLOEXEC));
  if (!read_only.valid()) return open_error(errno);
  return no_wait == 0 ? Result<Fd>(std::move(read_only)) : without_nonblock(std::move(read_only));
}

struct Issuer::Waits {
  std::unordered_set<std::shared_ptr<Job>> jobs;
};

// Shared with the thread, which may hang in an open for longer than the Issuer lives.
struct Issuer::Queue {
  explicit Queue(Loop& posts_to) : loop(&posts_to) {}

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> work;
  std::deque<std::shared_ptr<Ahead>> ahead;  ///< Done while there is no work.
  Loop* loop;                                ///< Null once the Issuer is gone.
  bool busy = false;

  void submit(std::function<void()> one) {
    {
      std::lock_guard lock(mutex);
      work.push_back(std::move(one));
    }
    changed.notify_all();
  }

  /// From the thread: `one` runs on the loop, or never when the Issuer is gone.
  void post(std::function<void()> one) {
    std::lock_guard lock(mutex);
    if (loop != nullptr) loop->post(std::move(one));
  }

  /// The lock is held, as it was, afterwards.
  void go_on_ahead(std::unique_lock<std::mutex>& lock) {
    const std::shared_ptr<Ahead> first = ahead.front();
    lock.unlock();
    const bool more = first->step();
    lock.lock();
    if (more || loop == nullptr) return;
    std::erase(ahead, first);
    loop->post([first] { first->done(); });
  }

  void serve() {
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [this] { return loop == nullptr || !work.empty() || !ahead.empty(); });
      if (loop == nullptr) return;
      busy = true;
      if (work.empty()) {
        go_on_ahead(lock);
      } else {
        std::function<void()> one = std::move(work.front());
        work.pop_front();
        lock.unlock();
        one();
        one = nullptr;
        lock.lock();
      }
      busy = false;
      changed.notify_all();
    }
  }
};

Issuer::Issuer(Loop& loop, std::chrono::nanoseconds deadline)
    : loop_(loop),
      deadline_(deadline),
      waits_(std::make_shared<Waits>()),
      queue_(std::make_shared<Queue>(loop)) {
  // The thread inherits the mask: signals stay with the loop.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([queue = queue_] { queue->serve(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Issuer::~Issuer() {
  bool idle = false;
  {
    std::unique_lock lock(queue_->mutex);
    queue_->loop = nullptr;
    queue_->work.clear();
    // What is made ahead goes with the queue, and so with the thread where that hangs: what was begun takes names away at
    // its end, which waits for an open that hangs in the keeper.
    idle = queue_->changed.wait_for(lock, kFarewell, [this] { return !queue_->busy; });
  }
  queue_->changed.notify_all();
  if (idle) {
    thread_.join();
  } else {
    thread_.detach();
  }
  for (const std::shared_ptr<Job>& job : waits_->jobs) {
    // What was posted already must not resume the caller with a grant that nobody tracks any more.
    job->abandoned.store(true);
    loop_.post([waits = waits_, job] {
      finish(waits, job, failure(ErrorCode::unavailable, "mapcapd is shutting down"));
    });
  }
}

void Issuer::open_root(std::shared_ptr<IssuePath> path, std::function<void(Result<Fd>)> done) {
  queue_->submit([queue = queue_, path = std::move(path), done = std::move(done)] {
    Result<Fd> root = keeper::open_root(path->root.borrow());
    if (root) {
      path->root = std::move(root.value());
      const int copy = ::fcntl(path->root.get(), F_DUPFD_CLOEXEC, 3);
      root = copy >= 0 ? Result<Fd>(Fd(copy)) : io_error("fcntl(F_DUPFD_CLOEXEC)", errno);
    }
    auto answer = std::make_shared<Result<Fd>>(std::move(root));
    queue->post([done, answer] { done(std::move(*answer)); });
  });
}

void Issuer::run(std::function<void()> work) {
  queue_->submit(std::move(work));
}

void Issuer::make(Ahead ahead) {
  auto work = std::make_shared<Ahead>(std::move(ahead));
  {
    const std::lock_guard lock(queue_->mutex);
    queue_->ahead.push_back(std::move(work));
  }
  queue_->changed.notify_all();
}

void Issuer::start(const std::shared_ptr<Job>& job) {
  waits_->jobs.insert(job);
  job->deadline = loop_.after(deadline_, [waits = waits_, job] {
    job->abandoned.store(true);
    finish(waits, job,
           failure(ErrorCode::timed_out,
                   "the keeper did not answer in time; mapcapd replaces it if this goes on: ask again"));
  });
  queue_->submit([queue = queue_, waits = waits_, job] {
    if (job->abandoned.load()) return;
    auto result = std::make_shared<Result<Fd>>(open_clone(*job->path, job->opening));
    queue->post([waits, job, result] {
      // Abandoned meanwhile: the result dies unused and closes its descriptor.
      if (!job->abandoned.load()) finish(waits, job, std::move(*result));
    });
  });
}

void Issuer::finish(const std::shared_ptr<Waits>& waits, const std::shared_ptr<Job>& job, Result<Fd> result) {
  if (job->result) return;
  // The deadline's callback, which ends below, may hold the last other reference.
  const std::shared_ptr<Job> kept = job;  // NOLINT(performance-unnecessary-copy-initialization)
  kept->result.emplace(std::move(result));
  waits->jobs.erase(kept);
  kept->deadline = {};
  kept->waiting->resume();
}

}  // namespace mapcap::broker::keeper
