// io_uring: many system calls again, on a road of their own through the kernel.
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <optional>

#include "client/attack/operation.h"

namespace mapcap::attack {
namespace {

constexpr unsigned kLength = 4096;

// Opcodes newer than Debian 12's liburing; an older kernel answers EINVAL.
constexpr int kReadMultishot = 49;
constexpr int kFixedFdInstall = 54;
constexpr int kFtruncate = 55;
constexpr int kReadvFixed = 58;
constexpr int kWritevFixed = 59;

struct alignas(4096) Buffer {
  std::array<std::byte, kLength> bytes;
};

class Ring {
 public:
  explicit Ring(unsigned flags = 0) { made_ = io_uring_queue_init(8, &ring_, flags); }

  [[nodiscard]] bool ok() const { return made_ == 0; }
  [[nodiscard]] Attempt why_not() const {
    return unsupported("io_uring_setup: errno " + std::to_string(-made_));
  }
  [[nodiscard]] io_uring* get() { return &ring_; }
  [[nodiscard]] io_uring_sqe* next() { return io_uring_get_sqe(&ring_); }

  // The result of the one request prepared, with errno set when it is an error.
  [[nodiscard]] long run() {
    const int submitted = io_uring_submit(&ring_);
    if (submitted < 1) return failed(submitted < 0 ? -submitted : EAGAIN);
    io_uring_cqe* completion = nullptr;
    __kernel_timespec patience{2, 0};
    const int waited = io_uring_wait_cqe_timeout(&ring_, &completion, &patience);
    if (waited < 0) return failed(-waited);
    const int result = completion->res;
    flags_ = completion->flags;
    io_uring_cqe_seen(&ring_, completion);
    return result < 0 ? failed(-result) : result;
  }
  // The flags of the last completion.
  [[nodiscard]] unsigned flags() const { return flags_; }

 private:
  static long failed(int error) {
    errno = error;
    return -1;
  }

  io_uring ring_{};
  int made_;
  unsigned flags_ = 0;
};

using Prepare = std::function<void(const Context&, io_uring_sqe*, Buffer&)>;

Attempt read_by(const Context& context, Ring& ring, const Prepare& prepare) {
  if (!ring.ok()) return ring.why_not();
  Buffer buffer{};
  prepare(context, ring.next(), buffer);
  const long count = ring.run();
  return delivered(context, count, buffer.bytes);
}

Attempt write_by(const Context& context, Ring& ring, const Prepare& prepare) {
  if (!ring.ok()) return ring.why_not();
  Buffer buffer{};
  const std::vector<std::byte> bytes = other_bytes(context, kLength);
  std::copy(bytes.begin(), bytes.end(), buffer.bytes.begin());
  prepare(context, ring.next(), buffer);
  return answered(ring.run());
}

void prepare_read(const Context& c, io_uring_sqe* request, Buffer& buffer) {
  io_uring_prep_read(request, c.fd, buffer.bytes.data(), kLength, 0);
}
void prepare_write(const Context& c, io_uring_sqe* request, Buffer& buffer) {
  io_uring_prep_write(request, c.fd, buffer.bytes.data(), kLength, 0);
}

// A request that needs no buffer.
Try simple(const std::function<void(const Context&, io_uring_sqe*)>& prepare) {
  return [prepare](const Context& c) {
    Ring ring;
    if (!ring.ok()) return ring.why_not();
    prepare(c, ring.next());
    return answered(ring.run());
  };
}

void add_reads(Family& ring_family) {
  struct Setup {
    const char* name;
    unsigned flags;
  };
  for (const Setup setup : {Setup{"READ", 0}, Setup{"READ by the SQPOLL thread", IORING_SETUP_SQPOLL},
                            Setup{"READ on an IOPOLL ring", IORING_SETUP_IOPOLL}}) {
    ring_family.refused(setup.name, [setup](const Context& c) {
      Ring ring(setup.flags);
      return read_by(c, ring, prepare_read);
    });
  }
  ring_family.refused("READ by a worker (IOSQE_ASYNC)", [](const Context& c) {
    Ring ring;
    return read_by(c, ring, [](const Context& ctx, io_uring_sqe* request, Buffer& buffer) {
      prepare_read(ctx, request, buffer);
      request->flags |= IOSQE_ASYNC;
    });
  });
  ring_family.refused("READ RWF_NOWAIT", [](const Context& c) {
    Ring ring;
    return read_by(c, ring, [](const Context& ctx, io_uring_sqe* request, Buffer& buffer) {
      prepare_read(ctx, request, buffer);
      request->rw_flags = RWF_NOWAIT;
    });
  });
  ring_family.refused("READV", [](const Context& c) {
    Ring ring;
    iovec one{};
    return read_by(c, ring, [&one](const Context& ctx, io_uring_sqe* request, Buffer& buffer) {
      one = {buffer.bytes.data(), kLength};
      io_uring_prep_readv(request, ctx.fd, &one, 1, 0);
    });
  });
  ring_family.refused("READ_FIXED", [](const Context& c) {
    Ring ring;
    return read_by(c, ring, [&ring](const Context& ctx, io_uring_sqe* request, Buffer& buffer) {
      const iovec one{buffer.bytes.data(), kLength};
      (void)io_uring_register_buffers(ring.get(), &one, 1);
      io_uring_prep_read_fixed(request, ctx.fd, buffer.bytes.data(), kLength, 0, 0);
    });
  });
  ring_family.refused("READV_FIXED", [](const Context& c) {
    Ring ring;
    iovec one{};
    return read_by(c, ring, [&ring, &one](const Context& ctx, io_uring_sqe* request, Buffer& buffer) {
      one = {buffer.bytes.data(), kLength};
      (void)io_uring_register_buffers(ring.get(), &one, 1);
      io_uring_prep_rw(kReadvFixed, request, ctx.fd, &one, 1, 0);
    });
  });
  ring_family.refused("READ through a registered file", [](const Context& c) {
    Ring ring;
    return read_by(c, ring, [&ring](const Context& ctx, io_uring_sqe* request, Buffer& buffer) {
      (void)io_uring_register_files(ring.get(), &ctx.fd, 1);
      io_uring_prep_read(request, 0, buffer.bytes.data(), kLength, 0);
      request->flags |= IOSQE_FIXED_FILE;
    });
  });
  ring_family.refused("READ with a provided buffer", [](const Context& c) {
    Ring ring;
    if (!ring.ok()) return ring.why_not();
    Buffer buffer{};
    io_uring_prep_provide_buffers(ring.next(), buffer.bytes.data(), static_cast<int>(kLength), 1, 7, 0);
    if (ring.run() < 0) return refused(errno, "could not provide buffers");
    io_uring_sqe* request = ring.next();
    io_uring_prep_read(request, c.fd, nullptr, kLength, 0);
    request->flags |= IOSQE_BUFFER_SELECT;
    request->buf_group = 7;
    const long count = ring.run();
    return delivered(c, count, buffer.bytes);
  });
  ring_family.refused("READ_MULTISHOT", [](const Context& c) {
    Ring ring;
    if (!ring.ok()) return ring.why_not();
    Buffer buffer{};
    io_uring_prep_provide_buffers(ring.next(), buffer.bytes.data(), static_cast<int>(kLength), 1, 7, 0);
    if (ring.run() < 0) return refused(errno, "could not provide buffers");
    io_uring_sqe* request = ring.next();
    io_uring_prep_rw(kReadMultishot, request, c.fd, nullptr, 0, 0);
    request->flags |= IOSQE_BUFFER_SELECT;
    request->buf_group = 7;
    const long count = ring.run();
    return delivered(c, count, buffer.bytes);
  });
}

void add_writes(Family& ring_family) {
  ring_family.unchanged("WRITE", [](const Context& c) {
    Ring ring;
    return write_by(c, ring, prepare_write);
  });
  ring_family.unchanged("WRITE by the SQPOLL thread", [](const Context& c) {
    Ring ring(IORING_SETUP_SQPOLL);
    return write_by(c, ring, prepare_write);
  });
  ring_family.unchanged("WRITE by a worker (IOSQE_ASYNC)", [](const Context& c) {
    Ring ring;
    return write_by(c, ring, [](const Context& ctx, io_uring_sqe* request, Buffer& buffer) {
      prepare_write(ctx, request, buffer);
      request->flags |= IOSQE_ASYNC;
    });
  });
  ring_family.unchanged("WRITEV", [](const Context& c) {
    Ring ring;
    iovec one{};
    return write_by(c, ring, [&one](const Context& ctx, io_uring_sqe* request, Buffer& buffer) {
      one = {buffer.bytes.data(), kLength};
      io_uring_prep_writev(request, ctx.fd, &one, 1, 0);
    });
  });
  ring_family.unchanged("WRITE_FIXED", [](const Context& c) {
    Ring ring;
    return write_by(c, ring, [&ring](const Context& ctx, io_uring_sqe* request, Buffer& buffer) {
      const iovec one{buffer.bytes.data(), kLength};
      (void)io_uring_register_buffers(ring.get(), &one, 1);
      io_uring_prep_write_fixed(request, ctx.fd, buffer.bytes.data(), kLength, 0, 0);
    });
  });
  ring_family.unchanged("WRITEV_FIXED", [](const Context& c) {
    Ring ring;
    iovec one{};
    return write_by(c, ring, [&ring, &one](const Context& ctx, io_uring_sqe* request, Buffer& buffer) {
      one = {buffer.bytes.data(), kLength};
      (void)io_uring_register_buffers(ring.get(), &one, 1);
      io_uring_prep_rw(kWritevFixed, request, ctx.fd, &one, 1, 0);
    });
  });
  ring_family.unchanged("WRITE through a registered file", [](const Context& c) {
    Ring ring;
    return write_by(c, ring, [&ring](const Context& ctx, io_uring_sqe* request, Buffer& buffer) {
      (void)io_uring_register_files(ring.get(), &ctx.fd, 1);
      io_uring_prep_write(request, 0, buffer.bytes.data(), kLength, 0);
      request->flags |= IOSQE_FIXED_FILE;
    });
  });
}

void add_splices(Family& ring_family) {
  ring_family.refused("SPLICE to a pipe", [](const Context& c) {
    Ring ring;
    if (!ring.ok()) return ring.why_not();
    const Pipe pipe = make_pipe();
    io_uring_prep_splice(ring.next(), c.fd, 0, pipe.write_end, -1, kLength, 0);
    const long count = ring.run();
    return delivered(c, count, drain(pipe.read_end, kLength));
  });
  ring_family.unchanged("SPLICE from a pipe", [](const Context& c) {
    Ring ring;
    if (!ring.ok()) return ring.why_not();
    const Pipe pipe = make_pipe();
    const std::vector<std::byte> bytes = other_bytes(c, kLength);
    if (write(pipe.write_end, bytes.data(), bytes.size()) < 0) return inconclusive("pipe");
    io_uring_prep_splice(ring.next(), pipe.read_end, -1, c.fd, 0, kLength, 0);
    return answered(ring.run());
  });
  ring_family.refused("TEE from the fd", [](const Context& c) {
    Ring ring;
    if (!ring.ok()) return ring.why_not();
    const Pipe pipe = make_pipe();
    io_uring_prep_tee(ring.next(), c.fd, pipe.write_end, kLength, 0);
    const long count = ring.run();
    return delivered(c, count, drain(pipe.read_end, kLength));
  });
}

void add_changes(Family& ring_family) {
  ring_family.unchanged("FALLOCATE punch", simple([](const Context& c, io_uring_sqe* request) {
                          io_uring_prep_fallocate(request, c.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                                  0, static_cast<off_t>(c.page));
                        }));
  ring_family.unchanged("FALLOCATE past the end", simple([](const Context& c, io_uring_sqe* request) {
                          io_uring_prep_fallocate(request, c.fd, 0, static_cast<off_t>(c.size),
                                                  static_cast<off_t>(c.page));
                        }));
  ring_family.unchanged("FTRUNCATE", simple([](const Context& c, io_uring_sqe* request) {
                          io_uring_prep_rw(kFtruncate, request, c.fd, nullptr, 0, 0);
                        }));
  ring_family.harmless("FSYNC", simple([](const Context& c, io_uring_sqe* request) {
                         io_uring_prep_fsync(request, c.fd, 0);
                       }));
  ring_family.harmless("SYNC_FILE_RANGE", simple([](const Context& c, io_uring_sqe* request) {
                         io_uring_prep_sync_file_range(request, c.fd, kLength, 0, 0);
                       }));
  ring_family.harmless("FADVISE DONTNEED", simple([](const Context& c, io_uring_sqe* request) {
                         io_uring_prep_fadvise(request, c.fd, 0, kLength, POSIX_FADV_DONTNEED);
                       }));
  ring_family.unchanged("MADVISE REMOVE", [](const Context& c) {
    std::byte* region = map_region(c);
    if (region == nullptr) return inconclusive("cannot map");
    Ring ring;
    if (!ring.ok()) return ring.why_not();
    io_uring_prep_madvise(ring.next(), region, static_cast<off_t>(c.page), MADV_REMOVE);
    return answered(ring.run());
  });
  ring_family.refused("FSETXATTR user.attack", simple([](const Context& c, io_uring_sqe* request) {
                        io_uring_prep_fsetxattr(request, c.fd, "user.attack", "x", 0, 1);
                      }));
  ring_family.refused("URING_CMD", simple([](const Context& c, io_uring_sqe* request) {
                        io_uring_prep_rw(IORING_OP_URING_CMD, request, c.fd, nullptr, 0, 0);
                      }));
  ring_family.harmless("STATX", [](const Context& c) {
    Ring ring;
    if (!ring.ok()) return ring.why_not();
    struct statx answer {};
    io_uring_prep_statx(ring.next(), c.fd, "", AT_EMPTY_PATH, STATX_ALL, &answer);
    return answered(ring.run());
  });
  ring_family.harmless("POLL_ADD", simple([](const Context& c, io_uring_sqe* request) {
                         io_uring_prep_poll_add(request, c.fd, POLLIN);
                       }));
}

void add_handles(Family& ring_family) {
  ring_family.refused("OPENAT /proc/self/fd O_RDWR", [](const Context& c) {
    Ring ring;
    if (!ring.ok()) return ring.why_not();
    const std::string path = fd_path(c.fd);
    io_uring_prep_openat(ring.next(), AT_FDCWD, path.c_str(), O_RDWR | O_CLOEXEC, 0);
    return answered(ring.run());
  });
  ring_family.refused("OPENAT2 /proc/self/fd O_RDONLY", [](const Context& c) {
    Ring ring;
    if (!ring.ok()) return ring.why_not();
    const std::string path = fd_path(c.fd);
    open_how how{};
    how.flags = O_RDONLY | O_CLOEXEC;
    io_uring_prep_openat2(ring.next(), AT_FDCWD, path.c_str(), &how);
    return answered(ring.run());
  });
  ring_family.refused("LINKAT AT_EMPTY_PATH", [](const Context& c) {
    Ring ring;
    if (!ring.ok()) return ring.why_not();
    io_uring_prep_linkat(ring.next(), c.fd, "", AT_FDCWD, "uring-link", AT_EMPTY_PATH);
    return answered(ring.run());
  });
  ring_family.harmless("FIXED_FD_INSTALL", [](const Context& c) {
    Ring ring;
    if (!ring.ok()) return ring.why_not();
    (void)io_uring_register_files(ring.get(), &c.fd, 1);
    io_uring_sqe* request = ring.next();
    io_uring_prep_rw(kFixedFdInstall, request, 0, nullptr, 0, 0);
    request->flags |= IOSQE_FIXED_FILE;
    return answered(ring.run());
  });
  ring_family.refused("read of an installed fixed fd", [](const Context& c) {
    Ring ring;
    if (!ring.ok()) return ring.why_not();
    (void)io_uring_register_files(ring.get(), &c.fd, 1);
    io_uring_sqe* request = ring.next();
    io_uring_prep_rw(kFixedFdInstall, request, 0, nullptr, 0, 0);
    request->flags |= IOSQE_FIXED_FILE;
    const long installed = ring.run();
    if (installed < 0) return refused(errno, "could not install");
    Buffer buffer{};
    return delivered(c, pread(static_cast<int>(installed), buffer.bytes.data(), kLength, 0), buffer.bytes);
  });
  ring_family.refused("SEND to the fd", simple([](const Context& c, io_uring_sqe* request) {
                        io_uring_prep_send(request, c.fd, "x", 1, 0);
                      }));
}

}  // namespace

void add_io_uring(std::vector<Operation>& all) {
  Family ring_family(all, "io_uring");
  add_reads(ring_family);
  add_writes(ring_family);
  add_splices(ring_family);
  add_changes(ring_family);
  add_handles(ring_family);
}

}  // namespace mapcap::attack
