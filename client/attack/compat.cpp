// The 32-bit system calls of a 64-bit kernel: entry points of their own, and ioctls with a hook of their own.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "client/attack/operation.h"

namespace mapcap::attack {

#if defined(__x86_64__)
namespace {

// Numbers of the i386 table, asm/unistd_32.h.
enum class Call32 : std::uint32_t {
  read = 3,
  write = 4,
  open = 5,
  getpid = 20,
  ioctl = 54,
  fchmod = 94,
  pread64 = 180,
  pwrite64 = 181,
  sendfile = 187,
  mmap2 = 192,
  ftruncate64 = 194,
  fcntl64 = 221,
};

// What a 32-bit call can address: one page below 4 GiB.
std::byte* low_page() {
  // SAFETY: anonymous memory of this process.
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  return page == MAP_FAILED ? nullptr : static_cast<std::byte*>(page);
}

std::uint32_t low_address(const void* address) {
  return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(address));
}

// SAFETY: the i386 gate takes its arguments in these registers, and leaves r8 to r11 undefined. Faults on a
// kernel without 32-bit calls.
std::int32_t gate(Call32 call, std::array<std::uint32_t, 5> a) {
  std::int64_t value = 0;
  asm volatile("int $0x80"
               : "=a"(value)
               : "a"(static_cast<std::uint64_t>(call)), "b"(std::uint64_t{a[0]}), "c"(std::uint64_t{a[1]}),
                 "d"(std::uint64_t{a[2]}), "S"(std::uint64_t{a[3]}), "D"(std::uint64_t{a[4]})
               : "r8", "r9", "r10", "r11", "memory");
  return static_cast<std::int32_t>(value);
}

struct Answer {
  bool available;
  long value;  // -1 with errno set
};

Answer call32(Call32 call, std::array<std::uint32_t, 5> arguments) {
  if (!survives([] { (void)gate(Call32::getpid, {}); })) return {false, -1};
  const std::int32_t answer = gate(call, arguments);
  if (answer < 0 && answer > -4096) {
    errno = -answer;
    return {true, -1};
  }
  return {true, static_cast<long>(static_cast<std::uint32_t>(answer))};
}

Attempt answered(const Answer& answer) {
  if (!answer.available) return unsupported("no 32-bit system calls");
  return attack::answered(answer.value);
}

using Arguments =
    std::function<std::array<std::uint32_t, 5>(const Context&, std::uint32_t fd, std::byte* page)>;

// Calls with what `arguments` prepares in a page of low memory.
Try calling(Call32 call, const Arguments& arguments) {
  return [call, arguments](const Context& c) {
    std::byte* page = low_page();
    if (page == nullptr) return inconclusive("no low memory");
    return answered(call32(call, arguments(c, static_cast<std::uint32_t>(c.fd), page)));
  };
}

Try reading(Call32 call) {
  return [call](const Context& c) {
    std::byte* page = low_page();
    if (page == nullptr) return inconclusive("no low memory");
    const Answer answer = call32(call, {static_cast<std::uint32_t>(c.fd), low_address(page), 512, 0, 0});
    if (!answer.available) return unsupported("no 32-bit system calls");
    return delivered(c, answer.value, {page, 512});
  };
}

struct [[gnu::packed]] SpaceArgument32 {
  std::int16_t type;
  std::int16_t whence;
  std::int64_t start;
  std::int64_t length;
  std::int32_t system_id;
  std::uint32_t pid;
  std::int32_t reserved[4];
};

}  // namespace

void add_compat(std::vector<Operation>& all) {
  Family family(all, "32-bit");
  family.refused("read", reading(Call32::read));
  family.refused("pread64", reading(Call32::pread64));
  for (const Call32 call : {Call32::write, Call32::pwrite64}) {
    family.unchanged(call == Call32::write ? "write" : "pwrite64",
                     calling(call, [](const Context& c, std::uint32_t fd, std::byte* page) {
                       const std::vector<std::byte> bytes = other_bytes(c, 512);
                       std::copy(bytes.begin(), bytes.end(), page);
                       return std::array<std::uint32_t, 5>{fd, low_address(page), 512, 0, 0};
                     }));
  }
  family.unchanged("ftruncate64",
                   calling(Call32::ftruncate64, [](const Context&, std::uint32_t fd, std::byte*) {
                     return std::array<std::uint32_t, 5>{fd, 0, 0, 0, 0};
                   }));
  family.unchanged("fchmod", calling(Call32::fchmod, [](const Context&, std::uint32_t fd, std::byte*) {
                     return std::array<std::uint32_t, 5>{fd, 0123, 0, 0, 0};
                   }));
  family.refused("open /proc/self/fd O_RDWR",
                 calling(Call32::open, [](const Context& c, std::uint32_t, std::byte* page) {
                   const std::string path = fd_path(c.fd);
                   std::memcpy(page, path.c_str(), path.size() + 1);
                   return std::array<std::uint32_t, 5>{low_address(page), O_RDWR, 0, 0, 0};
                 }));
  family.refused("ioctl FS_IOC32_SETFLAGS",
                 calling(Call32::ioctl, [](const Context&, std::uint32_t fd, std::byte* page) {
                   const std::uint32_t flags = FS_NODUMP_FL;
                   std::memcpy(page, &flags, sizeof flags);
                   return std::array<std::uint32_t, 5>{fd, static_cast<std::uint32_t>(FS_IOC32_SETFLAGS),
                                                       low_address(page), 0, 0};
                 }));
  family.unchanged("ioctl FS_IOC_UNRESVSP64",
                   calling(Call32::ioctl, [](const Context& c, std::uint32_t fd, std::byte* page) {
                     SpaceArgument32 argument{};
                     argument.length = static_cast<std::int64_t>(c.page);
                     std::memcpy(page, &argument, sizeof argument);
                     return std::array<std::uint32_t, 5>{
                         fd, static_cast<std::uint32_t>(_IOW('X', 43, SpaceArgument32)), low_address(page), 0,
                         0};
                   }));
  family.add("fcntl64 F_SETLEASE", Rule::private_inode,
             calling(Call32::fcntl64, [](const Context&, std::uint32_t fd, std::byte*) {
               return std::array<std::uint32_t, 5>{fd, F_SETLEASE, F_RDLCK, 0, 0};
             }));
  family.refused("sendfile to a file", [](const Context& c) {
    const int file = scratch_file();
    const Answer answer = call32(
        Call32::sendfile, {static_cast<std::uint32_t>(file), static_cast<std::uint32_t>(c.fd), 0, 512, 0});
    if (!answer.available) return unsupported("no 32-bit system calls");
    if (answer.value <= 0) return answered(Answer{true, answer.value < 0 ? -1 : 0});
    (void)lseek(file, 0, SEEK_SET);
    return delivered(c, answer.value, drain(file, 512));
  });
  family.refused("mmap2 exec", calling(Call32::mmap2, [](const Context& c, std::uint32_t fd, std::byte*) {
                   return std::array<std::uint32_t, 5>{0, static_cast<std::uint32_t>(c.page),
                                                       PROT_READ | PROT_EXEC, MAP_SHARED, fd};
                 }));
}
#else
void add_compat(std::vector<Operation>&) {}
#endif

}  // namespace mapcap::attack
