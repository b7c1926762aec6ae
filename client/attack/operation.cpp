#include "client/attack/operation.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

namespace mapcap::attack {

std::vector<Operation> all_operations() {
  std::vector<Operation> all;
  add_read_write(all);
  add_transfer(all);
  add_io_uring(all);
  add_aio(all);
  add_size(all);
  add_attributes(all);
  add_descriptor(all);
  add_ioctl(all);
  add_reopen(all);
  add_mapping(all);
  add_advice(all);
  add_kernel_store(all);
  add_process(all);
  add_mount(all);
  add_watch(all);
  add_misuse(all);
  add_compat(all);
  add_seals(all);
  return all;
}

bool is_operation(std::string_view title) {
  const std::vector<Operation> all = all_operations();
  return std::any_of(all.begin(), all.end(), [&](const Operation& operation) {
    return operation.family + "/" + operation.name == title;
  });
}

std::size_t operation_count() {
  return all_operations().size();
}

Attempt refused(int error, std::string note) {
  return {Seen::refused, error, std::move(note)};
}
Attempt allowed(std::string note) {
  return {Seen::allowed, 0, std::move(note)};
}
Attempt unsupported(std::string note) {
  return {Seen::unsupported, 0, std::move(note)};
}
Attempt inconclusive(std::string note) {
  return {Seen::inconclusive, errno, std::move(note)};
}

Attempt answered(long answer) {
  if (answer >= 0) return allowed();
  if (errno == ENOSYS) return {Seen::unsupported, ENOSYS, "no such system call"};
  return refused(errno);
}

Attempt delivered(const Context& context, long answer, std::span<const std::byte> bytes) {
  if (answer < 0) return answered(answer);
  if (answer == 0) return refused(0, "delivered nothing");
  const auto count = std::min({static_cast<std::size_t>(answer), bytes.size(), context.contents.size()});
  const bool own =
      std::equal(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count), context.contents.begin());
  return allowed(std::to_string(answer) + (own ? " bytes of the region came out" : " bytes came out"));
}

std::vector<std::byte> other_bytes(const Context& context, std::size_t count) {
  std::vector<std::byte> bytes(count, std::byte{0x5a});
  for (std::size_t i = 0; i < std::min(count, context.contents.size()); ++i) bytes[i] = ~context.contents[i];
  return bytes;
}

std::byte* map(const Context& context, int protection, int flags) {
  // SAFETY: a fresh mapping at an address of the kernel's choice; it ends with the attempt's process.
  void* address = mmap(nullptr, static_cast<std::size_t>(context.size), protection, flags, context.fd, 0);
  return address == MAP_FAILED ? nullptr : static_cast<std::byte*>(address);
}

std::byte* map_region(const Context& context) {
  return map(context, context.writable() ? PROT_READ | PROT_WRITE : PROT_READ);
}

bool survives(const std::function<void()>& touch) {
  const pid_t pid = fork();
  if (pid < 0) return false;
  if (pid == 0) {
    for (const int number : {SIGBUS, SIGSEGV}) signal(number, SIG_DFL);
    touch();
    _exit(0);
  }
  return wait_for(pid) == 0;
}

bool readable(const std::byte* address) {
  return survives([address] { (void)*static_cast<const volatile std::byte*>(address); });
}

bool store(std::byte* address, std::byte value) {
  return survives([=] { *static_cast<volatile std::byte*>(address) = value; });
}

bool is_executable(const void* address) {
  // Executing what lies there would be the other proof; the kernel's own word is safer to have.
  std::ifstream maps("/proc/self/maps");
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    char rights[5] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, rights) != 3) continue;
    if (begin <= wanted && wanted < end) return rights[2] == 'x';
  }
  return false;
}

std::string fd_path(int fd) {
  return "/proc/self/fd/" + std::to_string(fd);
}

int scratch_file(std::size_t bytes, int extra_flags) {
  static int next = 0;
  const std::string name = "file-" + std::to_string(getpid()) + "-" + std::to_string(next++);
  const int fd = open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | extra_flags, 0600);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
    std::fprintf(stderr, "attack: cannot make a scratch file: %s\n", strerrordesc_np(errno));
    _exit(122);
  }
  return fd;
}

Pipe make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) _exit(123);
  return {ends[0], ends[1]};
}

std::vector<std::byte> drain(int fd, std::size_t most) {
  std::vector<std::byte> bytes(most);
  const ssize_t count = read(fd, bytes.data(), most);
  bytes.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return bytes;
}

pid_t spawn(const std::function<void()>& body) {
  const pid_t pid = fork();
  if (pid < 0) _exit(124);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    body();
    _exit(0);
  }
  return pid;
}

int wait_for(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

}  // namespace mapcap::attack
