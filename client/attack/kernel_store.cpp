// Stores that the kernel makes at an address of the holder's choice. Into a mapping of a rw grant they are
// the holder's own stores; into one of a ro grant, none may arrive.
#include <fcntl.h>
#include <liburing.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>

#include "client/attack/operation.h"

namespace mapcap::attack {
namespace {

constexpr std::size_t kLength = 512;

using Store = std::function<long(const Context&, std::byte* region, std::span<const std::byte> bytes)>;

// `store` puts `bytes`, all other than what the region holds, at `region`.
void add(Family& family, const char* name, Store kernel_store) {
  family.add(
      name, Rule::tolerated_rw,
      [kernel_store = std::move(kernel_store)](const Context& c) {
        std::byte* region = map_region(c);
        if (region == nullptr) return inconclusive("cannot map");
        (void)*static_cast<const volatile std::byte*>(region);  // so that there is a page to work on
        const std::vector<std::byte> bytes = other_bytes(c, c.page);
        return answered(kernel_store(c, region, bytes));
      },
      Evidence::change);
}

int file_of(std::span<const std::byte> bytes, int flags = 0) {
  const int file = scratch_file(0, 0);
  if (pwrite(file, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) _exit(125);
  if (flags != 0) (void)fcntl(file, F_SETFL, flags);
  return file;
}

void add_calls(Family& family) {
  add(family, "read(2) into it", [](const Context&, std::byte* region, auto bytes) -> long {
    return pread(file_of(bytes), region, kLength, 0);
  });
  add(family, "direct read(2) into it", [](const Context& c, std::byte* region, auto bytes) -> long {
    return pread(file_of(bytes, O_DIRECT), region, c.page, 0);
  });
  add(family, "recv(2) into it", [](const Context&, std::byte* region, auto bytes) -> long {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return -1;
    (void)send(pair[0], bytes.data(), kLength, MSG_DONTWAIT);
    return recv(pair[1], region, kLength, MSG_DONTWAIT);
  });
  add(family, "read(2) of a pipe into it", [](const Context&, std::byte* region, auto bytes) -> long {
    const Pipe pipe = make_pipe();
    if (write(pipe.write_end, bytes.data(), kLength) < 0) return -1;
    return read(pipe.read_end, region, kLength);
  });
  add(family, "vmsplice(2) of a pipe into it", [](const Context&, std::byte* region, auto bytes) -> long {
    const Pipe pipe = make_pipe();
    if (write(pipe.write_end, bytes.data(), kLength) < 0) return -1;
    const iovec part{region, kLength};
    return vmsplice(pipe.read_end, &part, 1, 0);
  });
  add(family, "getrandom(2) into it",
      [](const Context&, std::byte* region, auto) -> long { return getrandom(region, kLength, 0); });
  add(family, "fstat(2) into it", [](const Context& c, std::byte* region, auto) -> long {
    // SAFETY: by system call, with a page-aligned address; the kernel checks that it may store there.
    return syscall(SYS_fstat, c.fd, region);
  });
  add(family, "futex FUTEX_WAKE_OP on it", [](const Context&, std::byte* region, auto) -> long {
    std::uint32_t own = 0;
    // *region = 0x5a5a as a side effect of waking nobody.
    const std::uint32_t operation = FUTEX_OP(FUTEX_OP_SET, 0x5a5, FUTEX_OP_CMP_EQ, 0);
    return syscall(SYS_futex, &own, FUTEX_WAKE_OP, 0, nullptr, region, operation);
  });
  add(family, "clear_child_tid in it", [](const Context&, std::byte* region, auto) -> long {
    // The kernel clears the word when the last but one user of a memory ends: a child that shares this one.
    alignas(16) static std::array<std::byte, 65536> stack;
    const pid_t pid = clone([](void*) { return 0; }, stack.data() + stack.size(),
                            CLONE_VM | CLONE_CHILD_CLEARTID | SIGCHLD, nullptr, nullptr, nullptr, region);
    return pid < 0 ? -1 : wait_for(pid);
  });
}

void add_memory_access(Family& family) {
  add(family, "process_vm_writev to oneself", [](const Context&, std::byte* region, auto bytes) -> long {
    std::vector<std::byte> copy(bytes.begin(), bytes.end());
    const iovec from{copy.data(), kLength};
    const iovec to{region, kLength};
    return process_vm_writev(getpid(), &from, 1, &to, 1, 0);
  });
  add(family, "process_vm_writev to another", [](const Context&, std::byte* region, auto bytes) -> long {
    const pid_t other = spawn([] { pause(); });
    std::vector<std::byte> copy(bytes.begin(), bytes.end());
    const iovec from{copy.data(), kLength};
    const iovec to{region, kLength};
    return process_vm_writev(other, &from, 1, &to, 1, 0);
  });
  // Writing to /proc/PID/mem and poking by ptrace force their way through protections (FOLL_FORCE).
  add(family, "/proc/self/mem", [](const Context&, std::byte* region, auto bytes) -> long {
    const int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    if (memory < 0) return -1;
    return pwrite(memory, bytes.data(), kLength, reinterpret_cast<off_t>(region));
  });
  add(family, "/proc/PID/mem of another", [](const Context&, std::byte* region, auto bytes) -> long {
    const pid_t other = spawn([] { pause(); });
    const int memory = open(("/proc/" + std::to_string(other) + "/mem").c_str(), O_RDWR | O_CLOEXEC);
    if (memory < 0) return -1;
    return pwrite(memory, bytes.data(), kLength, reinterpret_cast<off_t>(region));
  });
  add(family, "PTRACE_POKEDATA", [](const Context&, std::byte* region, auto bytes) -> long {
    const pid_t other = spawn([] { pause(); });
    if (ptrace(PTRACE_ATTACH, other, nullptr, nullptr) != 0) return -1;
    (void)wait_for(other);
    long word = 0;
    std::memcpy(&word, bytes.data(), sizeof word);
    return ptrace(PTRACE_POKEDATA, other, region, word);
  });
  add(family, "PTRACE_POKEDATA of a PROT_NONE mapping",
      [](const Context& c, std::byte* region, auto bytes) -> long {
        const pid_t other = spawn([region, &c] {
          (void)mprotect(region, c.page, PROT_NONE);
          pause();
        });
        if (ptrace(PTRACE_ATTACH, other, nullptr, nullptr) != 0) return -1;
        (void)wait_for(other);
        long word = 0;
        std::memcpy(&word, bytes.data(), sizeof word);
        return ptrace(PTRACE_POKEDATA, other, region, word);
      });
}

// Through a ring: registered buffers are pinned once and trusted afterwards.
long ring_read(std::byte* region, std::span<const std::byte> bytes, std::size_t length, bool registered,
               int flags) {
  io_uring ring{};
  const int made = io_uring_queue_init(4, &ring, 0);
  if (made < 0) {
    errno = made == -EPERM ? ENOSYS : -made;
    return -1;
  }
  const int file = file_of(bytes, flags);
  io_uring_sqe* request = io_uring_get_sqe(&ring);
  if (registered) {
    const iovec part{region, length};
    const int pinned = io_uring_register_buffers(&ring, &part, 1);
    if (pinned < 0) {
      errno = -pinned;
      return -1;
    }
    io_uring_prep_read_fixed(request, file, region, static_cast<unsigned>(length), 0, 0);
  } else {
    io_uring_prep_read(request, file, region, static_cast<unsigned>(length), 0);
  }
  if (io_uring_submit(&ring) != 1) return -1;
  io_uring_cqe* completion = nullptr;
  __kernel_timespec patience{2, 0};
  if (io_uring_wait_cqe_timeout(&ring, &completion, &patience) != 0) return -1;
  if (completion->res < 0) {
    errno = -completion->res;
    return -1;
  }
  return completion->res;
}

void add_rings(Family& family) {
  add(family, "io_uring READ into it", [](const Context&, std::byte* region, auto bytes) -> long {
    return ring_read(region, bytes, kLength, false, 0);
  });
  add(family, "io_uring direct READ into it", [](const Context& c, std::byte* region, auto bytes) -> long {
    return ring_read(region, bytes, c.page, false, O_DIRECT);
  });
  add(family, "io_uring READ_FIXED into it", [](const Context& c, std::byte* region, auto bytes) -> long {
    return ring_read(region, bytes, c.page, true, 0);
  });
}

}  // namespace

void add_kernel_store(std::vector<Operation>& all) {
  Family family(all, "store by the kernel");
  add_calls(family);
  add_memory_access(family);
  add_rings(family);
}

}  // namespace mapcap::attack
