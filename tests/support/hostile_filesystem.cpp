#include "tests/support/hostile_filesystem.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

namespace mapcap::test {
namespace {

constexpr std::uint64_t kFile = 2;  // Its node; the root has 1.

class Server {
 public:
  Server(int device, int flushes) : device_(device), flushes_(flushes) {}

  void serve() {
    std::vector<char> request(1U << 20U);
    for (;;) {
      const ssize_t got = ::read(device_, request.data(), request.size());
      if (got < 0 && errno != EINTR && errno != ENOENT) return;
      // SAFETY: the kernel writes whole requests, each of which begins with this header.
      if (got > 0) answer(*reinterpret_cast<const fuse_in_header*>(request.data()));
    }
  }

 private:
  static fuse_attr attributes(std::uint64_t node) {
    fuse_attr attr{};
    attr.ino = node;
    attr.size = 4096;
    attr.nlink = 1;
    attr.blksize = 4096;
    attr.mode = node == kFile ? S_IFREG | 0666U : S_IFDIR | 0755U;
    return attr;
  }

  template <typename Body>
  void reply(const fuse_in_header& to, const Body& body) {
    fuse_out_header header{sizeof header + sizeof body, 0, to.unique};
    Body copy = body;
    const std::array<iovec, 2> parts{{{&header, sizeof header}, {&copy, sizeof copy}}};
    (void)!::writev(device_, parts.data(), 2);
  }
  void reply(const fuse_in_header& to, int error) {
    const fuse_out_header header{sizeof header, -error, to.unique};
    (void)!::write(device_, &header, sizeof header);
  }

  void answer(const fuse_in_header& request) {
    fuse_init_out init{};
    fuse_entry_out entry{};
    fuse_attr_out attr{};
    switch (request.opcode) {
      case FUSE_INIT:
        init.major = 7;
        init.minor = 31;
        init.max_write = 4096;
        return reply(request, init);
      case FUSE_LOOKUP:
        entry.nodeid = kFile;
        entry.entry_valid = entry.attr_valid = 1000;
        entry.attr = attributes(kFile);
        return reply(request, entry);
      case FUSE_GETATTR:
        attr.attr_valid = 1000;
        attr.attr = attributes(request.nodeid);
        return reply(request, attr);
      case FUSE_OPEN:
        return reply(request, fuse_open_out{});
      case FUSE_STATFS:
        return reply(request, fuse_statfs_out{});
      case FUSE_FLUSH:
        if (flushes_-- > 0) reply(request, 0);
        return;
      case FUSE_READ:  // Never: a direct read keeps the pages pinned that it is to store into.
      case FUSE_FORGET:
      case FUSE_BATCH_FORGET:
      case FUSE_INTERRUPT:
        return;
      default:
        return reply(request, request.opcode == FUSE_RELEASE ? 0 : ENOSYS);
    }
  }

  int device_;
  int flushes_;
};

[[noreturn]] void run_client(uid_t uid, int news, const std::string& path,
                             const std::function<void(int fd)>& client) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd >= 0 && ::setresgid(uid, uid, uid) == 0 && ::setresuid(uid, uid, uid) == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // Only now: a change of the user clears it.
    try {
      client(fd);
    } catch (const std::exception&) {  // A refusal is what it is for.
    }
    (void)!::write(news, "d", 1);
    ::close(news);
    ::pause();  // Its own end would wait for a FLUSH too.
  }
  ::_exit(1);
}

/// In the server's process, with a mount namespace of its own: the mount goes with it.
void mount_and_serve(int flushes, uid_t uid, int news, const std::function<void(int fd)>& client) {
  const int device = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (device < 0 || ::unshare(CLONE_NEWNS) != 0) return;
  ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  const std::string options = "fd=" + std::to_string(device) + ",rootmode=40000,user_id=0,group_id=0";
  if (::mount("hostile", "/mnt", "fuse", MS_NOSUID | MS_NODEV, options.c_str()) != 0) return;
  (void)!::write(news, "m", 1);
  if (::fork() == 0) {
    ::close(device);
    run_client(uid, news, "/mnt/file", client);
  }
  ::close(news);
  Server(device, flushes).serve();
}

bool hears(int news, char wanted) {
  pollfd waiting{news, POLLIN, 0};
  char byte = 0;
  return ::poll(&waiting, 1, 20'000) == 1 && ::read(news, &byte, 1) == 1 && byte == wanted;
}

}  // namespace

HostileFilesystem::HostileFilesystem(int flushes, uid_t uid, std::function<void(int fd)> client) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return;
  server_ = ::fork();
  if (server_ == 0) {
    ::close(ends[0]);
    mount_and_serve(flushes, uid, ends[1], client);
    ::_exit(1);
  }
  ::close(ends[1]);
  news_ = ends[0];
  mounted_ = hears(news_, 'm');
}

HostileFilesystem::~HostileFilesystem() {
  if (server_ > 0) {
    ::kill(server_, SIGKILL);
    ::waitpid(server_, nullptr, 0);
  }
  if (news_ >= 0) ::close(news_);
}

bool HostileFilesystem::client_is_done() const {
  return hears(news_, 'd');
}

}  // namespace mapcap::test
