// probe: the few system calls that the rig's own cases need and no standard tool makes.
//
//   probe map-sync FILE             a MAP_SYNC mapping of FILE works and what it stores is in FILE
//   probe no-map-sync FILE          a MAP_SYNC mapping of FILE is refused with EOPNOTSUPP
//   probe store FILE TEXT [fsync]   stores TEXT through a mapping and writes its cache lines back
//   probe expect FILE TEXT          FILE, mapped read-only, begins with TEXT
//   probe map-only FILE             read, write and truncation of FILE's device are refused
//   probe bar FILE [MEMTYPE]        a PCI BAR holds what is stored; debugfs calls its mapping MEMTYPE
//   probe pmr-enable FILE           sets PMRCTL.EN in an NVMe controller's BAR 0
//   probe attached PIN COMMAND...   runs COMMAND while the BPF program pinned at PIN is attached
//   probe hold FD READY UNTIL       maps the inherited FD, makes the file READY, waits for UNTIL, touches
//   probe hold-mapped FD READY UNTIL  the same, but closes FD once it is mapped
//   probe pin FD READY UNTIL        the same, but pins a page by vmsplice and neither maps nor opens it more
//   probe fd-store FD TEXT          stores TEXT through a mapping of the inherited FD, and writes it back
//   probe fd-expect FD TEXT         the inherited FD, mapped read-only, begins with TEXT
//   probe fd-zero FD                the inherited FD reads as zeros to its end
//   probe fd-map-sync FD            the inherited FD can be mapped with MAP_SYNC, and keeps what is stored so
//   probe fd-no-map-sync FD         a MAP_SYNC mapping of the inherited FD is refused with EOPNOTSUPP
//   probe fd-attribute FD NAME      prints an extended attribute of the inherited FD
//   probe fd-touch FD               every page of the inherited FD can be stored to
//   probe hold-touch FD READY UNTIL the same, once mapped and again after UNTIL is there
//   probe commit BYTES READY UNTIL  has the kernel promise so much memory, and touches none of it
//   probe passthrough               the kernel knows FUSE_DEV_IOC_BACKING_OPEN
//
// Exit status 0 when it is so, 1 with one sentence on stderr when not, 2 on wrong usage.

#include <fcntl.h>
#include <immintrin.h>
#include <linux/bpf.h>
#include <linux/mman.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>

namespace {

// A multiple of every alignment that a guest's DAX device has.
constexpr std::size_t map_length = 2U << 20U;
constexpr std::string_view synchronous = "synchronous";

[[noreturn]] void fail(std::string_view what, const std::string& where, int error = 0) {
  std::string sentence = "probe: " + where + ": " + std::string(what);
  if (error != 0) sentence += ": " + std::generic_category().message(error);
  std::fprintf(stderr, "%s\n", sentence.c_str());
  std::exit(1);
}

int open_file(const std::string& path, int flags) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC);
  if (fd < 0) fail("cannot be opened", path, errno);
  return fd;
}

void* map(int fd, int protection, int flags) {
  // SAFETY: a new mapping at an address of the kernel's choice; callers test for MAP_FAILED.
  return mmap(nullptr, map_length, protection, flags, fd, 0);
}

char* map_or_fail(const std::string& path, int open_flags, int protection, int flags) {
  const int fd = open_file(path, open_flags);
  void* at = map(fd, protection, flags);
  if (at == MAP_FAILED) fail("cannot be mapped", path, errno);
  close(fd);
  return static_cast<char*>(at);
}

void write_back(const char* at, std::size_t size) {
  for (std::size_t line = 0; line < size; line += 64) _mm_clflush(at + line);
  _mm_sfence();
}

int map_sync(const std::string& path) {
  char* at = map_or_fail(path, O_RDWR, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC);
  std::ranges::copy(synchronous, at);
  write_back(at, synchronous.size());
  char back[synchronous.size()] = {};
  const int fd = open_file(path, O_RDONLY);
  // A DAX device has no read(2); there a second mapping has to do.
  if (pread(fd, back, sizeof back, 0) != sizeof back) {
    void* other = map(fd, PROT_READ, MAP_SHARED);
    if (other == MAP_FAILED) fail("cannot be mapped again", path, errno);
    std::memcpy(back, other, sizeof back);
  }
  if (std::string_view(back, sizeof back) != synchronous) fail("does not hold what was stored", path);
  return 0;
}

int no_map_sync(const std::string& path) {
  const int fd = open_file(path, O_RDWR);
  if (map(fd, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC) != MAP_FAILED)
    fail("was mapped with MAP_SYNC", path);
  if (errno != EOPNOTSUPP) fail("MAP_SYNC was refused, but not with EOPNOTSUPP", path, errno);
  return 0;
}

int store(const std::string& path, const std::string& text, bool sync) {
  char* at = map_or_fail(path, O_RDWR, PROT_READ | PROT_WRITE, MAP_SHARED);
  std::ranges::copy(text, at);
  write_back(at, text.size());
  if (sync) {
    const int fd = open_file(path, O_RDWR);
    if (fsync(fd) != 0) fail("fsync failed", path, errno);
  }
  return 0;
}

int expect(const std::string& path, const std::string& text) {
  const char* at = map_or_fail(path, O_RDONLY, PROT_READ, MAP_SHARED);
  if (std::string_view(at, text.size()) != text) fail("does not begin with \"" + text + "\"", path);
  return 0;
}

int map_only(const std::string& path) {
  char byte = 1;
  int fd = open_file(path, O_RDWR);
  if (pread(fd, &byte, 1, 0) >= 0) fail("can be read", path);
  if (pwrite(fd, &byte, 1, 0) >= 0) fail("can be written", path);
  if (ftruncate(fd, 0) == 0) fail("can be truncated", path);
  return 0;
}

int bar(const std::string& path, const std::string& memtype) {
  // Devices behind BARs may insist on whole words, so no memcpy.
  auto* words = reinterpret_cast<volatile std::uint32_t*>(  // SAFETY: page-aligned, and longer than used
      map_or_fail(path, O_RDWR, PROT_READ | PROT_WRITE, MAP_SHARED));
  words[3] = 0x6d617063;
  words[4] = ~words[3];
  if (words[3] != 0x6d617063 || words[4] != ~0x6d617063U) fail("does not hold what was stored", path);
  if (memtype.empty()) return 0;

  // Lines read "PAT: [mem 0x...-0x...] write-combining"; sysfs's "resource" file knows our address.
  const auto slash = path.rfind('/');
  const int index = std::stoi(path.substr(slash + 1 + std::strlen("resource")));
  std::ifstream resources(path.substr(0, slash) + "/resource");
  std::string line;
  for (int i = 0; i <= index; ++i) std::getline(resources, line);
  char start[40];
  std::snprintf(start, sizeof start, "[mem 0x%016llx-", std::strtoull(line.c_str(), nullptr, 16));
  std::ifstream types("/sys/kernel/debug/x86/pat_memtype_list");
  while (std::getline(types, line))
    if (line.find(start) != std::string::npos && line.ends_with(" " + memtype)) return 0;
  fail(std::string("has no ") + memtype + " entry for " + start + "...]", "pat_memtype_list");
}

int pmr_enable(const std::string& path) {
  constexpr std::size_t pmrcap = 0xE00 / 4, pmrctl = 0xE04 / 4, pmrsts = 0xE08 / 4;  // NVMe 1.4, 3.1
  const int fd = open_file(path, O_RDWR);
  // SAFETY: the controller's registers, of which NVMe guarantees the first 4 KiB.
  void* at = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) fail("cannot be mapped", path, errno);
  auto* registers = static_cast<volatile std::uint32_t*>(at);
  if (registers[pmrcap] == 0) fail("this controller has no PMR", path);
  registers[pmrctl] = 1;
  for (int i = 0; i < 1000; ++i) {
    if ((registers[pmrsts] & (1U << 8U)) == 0) return 0;  // NRDY
    usleep(1000);
  }
  fail("the PMR did not become ready within a second", path);
}

int attached(const std::string& pin, char** command) {
  bpf_attr get{};
  // SAFETY: the kernel reads the path during the call only.
  get.pathname = reinterpret_cast<std::uintptr_t>(pin.c_str());
  const long program = syscall(SYS_bpf, BPF_OBJ_GET, &get, sizeof get);
  if (program < 0) fail("no BPF program is pinned here", pin, errno);
  bpf_attr open{};
  open.raw_tracepoint.prog_fd = static_cast<std::uint32_t>(program);
  // An LSM program knows its hook; the link is its fd, which the command keeps open.
  const long link = syscall(SYS_bpf, BPF_RAW_TRACEPOINT_OPEN, &open, sizeof open);
  if (link < 0) fail("the BPF program cannot be attached", pin, errno);
  if (fcntl(static_cast<int>(link), F_SETFD, 0) != 0) fail("the link cannot be inherited", pin, errno);
  execvp(command[0], command);
  fail("cannot be run", command[0], errno);
}

void wait_for(const std::string& ready, const std::string& until) {
  if (std::ofstream made(ready); !made) fail("cannot be made", ready);
  while (access(until.c_str(), F_OK) != 0) usleep(50'000);
}

/// Pages of what an inherited descriptor maps.
char* map_inherited(const std::string& number, std::size_t size, int protection) {
  // SAFETY: a new mapping at an address of the kernel's choice.
  void* at = mmap(nullptr, size, protection, MAP_SHARED, std::stoi(number), 0);
  if (at == MAP_FAILED) fail("cannot be mapped", "descriptor " + number, errno);
  return static_cast<char*>(at);
}

std::size_t size_of_inherited(const std::string& number) {
  struct stat status {};
  if (fstat(std::stoi(number), &status) != 0) fail("fstat", "descriptor " + number, errno);
  if (S_ISREG(status.st_mode)) return static_cast<std::size_t>(status.st_size);
  return map_length;
}

int hold(const std::string& number, const std::string& ready, const std::string& until, bool only_mapped) {
  volatile char* at = map_inherited(number, size_of_inherited(number), PROT_READ | PROT_WRITE);
  at[0] = 'h';
  if (only_mapped) close(std::stoi(number));
  wait_for(ready, until);
  at[0] = 'H';  // SIGBUS once it was revoked.
  return 0;
}

int pin(const std::string& number, const std::string& ready, const std::string& until) {
  const std::size_t size = size_of_inherited(number);
  char* at = map_inherited(number, size, PROT_READ | PROT_WRITE);
  at[0] = 'p';
  int ends[2];
  if (pipe(ends) != 0) fail("pipe", "pin", errno);
  iovec page{at, 4096};
  if (vmsplice(ends[1], &page, 1, 0) != 4096) fail("vmsplice", "descriptor " + number, errno);
  munmap(at, size);
  close(std::stoi(number));
  wait_for(ready, until);
  return 0;
}

int fd_store(const std::string& number, const std::string& text) {
  char* at = map_inherited(number, size_of_inherited(number), PROT_READ | PROT_WRITE);
  std::ranges::copy(text, at);
  write_back(at, text.size());
  return 0;
}

int fd_expect(const std::string& number, const std::string& text) {
  const char* at = map_inherited(number, size_of_inherited(number), PROT_READ);
  if (std::string_view(at, text.size()) != text) fail("does not begin with \"" + text + "\"", number);
  return 0;
}

int fd_zero(const std::string& number) {
  const std::size_t size = size_of_inherited(number);
  const auto* words =  // SAFETY: page-aligned, and whole pages long
      reinterpret_cast<const volatile std::uint64_t*>(map_inherited(number, size, PROT_READ));
  for (std::size_t i = 0; i < size / 8; ++i)
    if (words[i] != 0) fail("is not zero at byte " + std::to_string(i * 8), "descriptor " + number);
  return 0;
}

int fd_map_sync(const std::string& number) {
  const std::size_t size = size_of_inherited(number);
  // SAFETY: a new mapping at an address of the kernel's choice.
  void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, std::stoi(number), 0);
  if (at == MAP_FAILED) fail("cannot be mapped with MAP_SYNC", "descriptor " + number, errno);
  std::ranges::copy(synchronous, static_cast<char*>(at));
  write_back(static_cast<char*>(at), synchronous.size());
  return fd_expect(number, std::string(synchronous));
}

int fd_no_map_sync(const std::string& number) {
  const std::size_t size = size_of_inherited(number);
  // SAFETY: as above.
  void* at = mmap(nullptr, size, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, std::stoi(number), 0);
  if (at != MAP_FAILED) fail("was mapped with MAP_SYNC", "descriptor " + number);
  if (errno != EOPNOTSUPP) fail("MAP_SYNC was refused, but not with EOPNOTSUPP", "descriptor " + number, errno);
  return 0;
}

int fd_attribute(const std::string& number, const std::string& name) {
  char value[256];
  const ssize_t length = fgetxattr(std::stoi(number), name.c_str(), value, sizeof value);
  if (length < 0) fail("has no " + name, "descriptor " + number, errno);
  std::printf("%.*s\n", static_cast<int>(length), value);
  return 0;
}

/// Waits for somebody to make the file.
void await(const std::string& file) {
  while (access(file.c_str(), F_OK) != 0) usleep(20000);
}

int fd_touch(const std::string& number, const std::string& ready, const std::string& until) {
  const int fd = std::stoi(number);
  struct stat status {};
  if (fstat(fd, &status) != 0) fail("has no size", "descriptor " + number, errno);
  const auto size = static_cast<std::size_t>(status.st_size);
  // SAFETY: a new mapping at an address of the kernel's choice, used within its size.
  void* mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) fail("cannot be mapped", "descriptor " + number, errno);
  const auto touch = [&] {
    for (std::size_t at = 0; at < size; at += 4096) static_cast<volatile char*>(mapped)[at] = 1;
  };
  if (!ready.empty()) {
    touch();
    std::ofstream(ready).flush();
    await(until);
  }
  touch();
  return 0;
}

int commit(const std::string& bytes, const std::string& ready, const std::string& until) {
  // SAFETY: a new mapping that nobody touches.
  void* promised =
      mmap(nullptr, std::stoull(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (promised == MAP_FAILED) fail("are not promised", bytes + " bytes", errno);
  std::ofstream(ready).flush();
  await(until);
  return 0;
}

int passthrough() {
  struct BackingMap {
    std::int32_t fd;
    std::uint32_t flags;
    std::uint64_t padding;
  } request{-1, 0, 0};
  const int fd = open_file("/dev/fuse", O_RDWR);
  // FUSE_DEV_IOC_BACKING_OPEN, which linux-libc-dev 6.1 does not have. On a device that serves no
  // mount it fails either way: with ENOTTY only where the kernel does not know it.
  if (ioctl(fd, _IOW(229, 1, BackingMap), &request) != 0 && (errno == ENOTTY || errno == EOPNOTSUPP))
    fail("FUSE_DEV_IOC_BACKING_OPEN is unknown to this kernel", "/dev/fuse", errno);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string verb = argc > 1 ? argv[1] : "";
  const std::string path = argc > 2 ? argv[2] : "";
  const std::string text = argc > 3 ? argv[3] : "";
  const std::string until = argc > 4 ? argv[4] : "";
  if (verb == "hold" && argc == 5) return hold(path, text, until, false);
  if (verb == "hold-mapped" && argc == 5) return hold(path, text, until, true);
  if (verb == "pin" && argc == 5) return pin(path, text, until);
  if (verb == "fd-store" && argc == 4) return fd_store(path, text);
  if (verb == "fd-expect" && argc == 4) return fd_expect(path, text);
  if (verb == "fd-zero" && argc == 3) return fd_zero(path);
  if (verb == "fd-touch" && argc == 3) return fd_touch(path, "", "");
  if (verb == "hold-touch" && argc == 5) return fd_touch(path, text, until);
  if (verb == "commit" && argc == 5) return commit(path, text, until);
  if (verb == "fd-map-sync" && argc == 3) return fd_map_sync(path);
  if (verb == "fd-no-map-sync" && argc == 3) return fd_no_map_sync(path);
  if (verb == "fd-attribute" && argc == 4) return fd_attribute(path, text);
  if (verb == "passthrough" && argc == 2) return passthrough();
  if (verb == "map-sync" && argc == 3) return map_sync(path);
  if (verb == "no-map-sync" && argc == 3) return no_map_sync(path);
  if (verb == "store" && (argc == 4 || argc == 5)) return store(path, text, argc == 5);
  if (verb == "expect" && argc == 4) return expect(path, text);
  if (verb == "map-only" && argc == 3) return map_only(path);
  if (verb == "bar" && (argc == 3 || argc == 4)) return bar(path, text);
  if (verb == "pmr-enable" && argc == 3) return pmr_enable(path);
  if (verb == "attached" && argc >= 4) return attached(path, argv + 3);
  std::fprintf(stderr, "probe: wrong usage; see the head of tests/vm/probe.cpp\n");
  return 2;
}
