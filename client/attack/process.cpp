// Handing the grant, or its mapping, to another process: a holder may share what it has, and nothing more
// arrives.
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "client/attack/operation.h"

namespace mapcap::attack {
namespace {

constexpr std::size_t kLength = 512;

// Sends the fd through a socket to oneself; the number it arrives under, or -1.
int pass_on(int fd) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return -1;
  char byte = 'x';
  iovec data{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  if (sendmsg(pair[0], &message, 0) != 1) return -1;
  message.msg_controllen = control.size();
  if (recvmsg(pair[1], &message, MSG_CMSG_CLOEXEC) != 1) return -1;
  header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return -1;
  int arrived = -1;
  std::memcpy(&arrived, CMSG_DATA(header), sizeof arrived);
  return arrived;
}

int taken_from_another(const Context& c) {
  const pid_t other = spawn([] { pause(); });
  const long pidfd = syscall(SYS_pidfd_open, other, 0);
  if (pidfd < 0) return -1;
  return static_cast<int>(syscall(SYS_pidfd_getfd, pidfd, c.fd, 0));
}

Attempt read_through(const Context& c, int fd) {
  if (fd < 0) return refused(errno, "the fd did not arrive");
  std::array<std::byte, kLength> bytes{};
  const ssize_t count = pread(fd, bytes.data(), bytes.size(), 0);
  return delivered(c, count, bytes);
}

Attempt maps_through(const Context& c, int fd, int protection) {
  if (fd < 0) return refused(errno, "the fd did not arrive");
  Context through = c;
  through.fd = fd;
  return map(through, protection) != nullptr ? allowed() : refused(errno);
}

void add_passing(Family& family) {
  family.allowed("SCM_RIGHTS, then mmap",
                 [](const Context& c) { return maps_through(c, pass_on(c.fd), PROT_READ); });
  family.add("SCM_RIGHTS, then mmap for writing", Rule::allowed_rw,
             [](const Context& c) { return maps_through(c, pass_on(c.fd), PROT_READ | PROT_WRITE); });
  family.refused("SCM_RIGHTS, then read", [](const Context& c) { return read_through(c, pass_on(c.fd)); });
  family.harmless("pidfd_getfd from another process",
                  [](const Context& c) { return maps_through(c, taken_from_another(c), PROT_READ); });
  family.refused("pidfd_getfd, then read",
                 [](const Context& c) { return read_through(c, taken_from_another(c)); });
  family.add("pidfd_getfd, then mmap for writing", Rule::tolerated_rw,
             [](const Context& c) { return maps_through(c, taken_from_another(c), PROT_READ | PROT_WRITE); });
  family.harmless("kcmp KCMP_FILE", [](const Context& c) {
    return answered(syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, c.fd, c.fd));
  });
  family.harmless("/proc/self/fdinfo", [](const Context& c) {
    return answered(open(("/proc/self/fdinfo/" + std::to_string(c.fd)).c_str(), O_RDONLY | O_CLOEXEC));
  });
  family.harmless("readlink /proc/self/fd", [](const Context& c) {
    std::array<char, 256> name;
    return answered(readlink(fd_path(c.fd).c_str(), name.data(), name.size()));
  });
}

// Copying bytes out of a mapping that one may read.
void add_copies(Family& family) {
  family.harmless("process_vm_readv of one's own mapping", [](const Context& c) {
    std::byte* region = map_region(c);
    if (region == nullptr) return inconclusive("cannot map");
    std::array<std::byte, kLength> bytes{};
    const iovec to{bytes.data(), kLength};
    const iovec from{region, kLength};
    return answered(process_vm_readv(getpid(), &to, 1, &from, 1, 0));
  });
  family.harmless("read /proc/self/mem", [](const Context& c) {
    std::byte* region = map_region(c);
    if (region == nullptr) return inconclusive("cannot map");
    const int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    if (memory < 0) return refused(errno);
    std::array<std::byte, kLength> bytes{};
    return answered(pread(memory, bytes.data(), kLength, reinterpret_cast<off_t>(region)));
  });
  family.harmless("read /proc/self/pagemap", [](const Context& c) {
    std::byte* region = map_region(c);
    if (region == nullptr) return inconclusive("cannot map");
    const int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap < 0) return refused(errno);
    std::uint64_t entry = 0;
    return answered(
        pread(pagemap, &entry, sizeof entry,
              static_cast<off_t>(reinterpret_cast<std::uintptr_t>(region) / c.page * sizeof entry)));
  });
}

}  // namespace

void add_process(std::vector<Operation>& all) {
  Family family(all, "process");
  add_passing(family);
  add_copies(family);
}

}  // namespace mapcap::attack
