// The steps of quickstart.sh that need a program: what a process does with a grant that `mapcap run` passed
// to it.
//
//     tour bytes              the region's bytes on stdout, read through the mapping: pipe them to sha256sum
//     tour refused            tries what a grant must refuse, a line each; exit status 1 when anything gets
//     through tour await OFFSET WORD  waits (10 s) until WORD stands at OFFSET of the mapping tour store
//     OFFSET WORD  stores WORD there tour hold FILE          touches FILE, then reads the mapping again and
//     again until FILE is removed
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mapcap/mapcap.h>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <thread>

namespace {

using namespace std::chrono_literals;

mapcap::Grant first_grant() {
  auto all = mapcap::inherited();
  if (all.empty()) throw std::runtime_error("no grant was passed: start me by `mapcap run NAME -- tour ...`");
  return mapcap::inherited(all.front().name);
}

int bytes(const mapcap::Grant& grant) {
  const mapcap::Mapping mapping(grant, mapcap::Access::read_only);
  auto left = mapping.bytes();
  while (!left.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, left.data(), left.size());
    if (written < 0) throw std::runtime_error(std::string("write: ") + std::strerror(errno));
    left = left.subspan(static_cast<std::size_t>(written));
  }
  return 0;
}

/// One attempt: `attempt` returns -1 and sets errno when the kernel refuses.
bool refused(const char* what, const std::function<long()>& attempt) {
  const long result = attempt();
  const int failed = errno;
  std::printf("   %-34s %s\n", what,
              result < 0 ? (std::string("refused: ") + std::strerror(failed)).c_str() : "GOT THROUGH");
  return result < 0;
}

int try_everything(const mapcap::Grant& grant) {
  const int fd = grant.fd();
  const mapcap::Mapping mapping(grant, mapcap::Access::read_only);
  void* address = const_cast<std::byte*>(mapping.bytes().data());
  const std::string self = "/proc/self/fd/" + std::to_string(fd);
  char byte = 'x';
  bool all = true;
  all &= refused("read(fd)", [&] { return ::pread(fd, &byte, 1, 0); });
  all &= refused("write(fd)", [&] { return ::pwrite(fd, &byte, 1, 0); });
  all &= refused("ftruncate(fd, 0)", [&] { return long{::ftruncate(fd, 0)}; });
  all &= refused("fallocate(fd, PUNCH_HOLE)",
                 [&] { return long{::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096)}; });
  all &= refused("open(/proc/self/fd/N, O_RDONLY)",
                 [&] { return long{::open(self.c_str(), O_RDONLY | O_CLOEXEC)}; });
  all &= refused("open(/proc/self/fd/N, O_RDWR)",
                 [&] { return long{::open(self.c_str(), O_RDWR | O_CLOEXEC)}; });
  all &= refused("fchmod(fd, 0666)", [&] { return long{::fchmod(fd, 0666)}; });
  if (grant.rights() == mapcap::Access::read_only) {
    all &= refused("mprotect(mapping, PROT_WRITE)",
                   [&] { return long{::mprotect(address, 4096, PROT_READ | PROT_WRITE)}; });
  }
  all &= refused("mprotect(mapping, PROT_EXEC)",
                 [&] { return long{::mprotect(address, 4096, PROT_READ | PROT_EXEC)}; });
  return all ? 0 : 1;
}

int await_word(const mapcap::Grant& grant, std::size_t offset, std::string_view word) {
  const mapcap::Mapping mapping(grant, mapcap::Access::read_only);
  const auto place = mapping.bytes().subspan(offset, word.size());
  for (auto waited = 0ms; waited < 10s; waited += 5ms) {
    if (std::memcmp(place.data(), word.data(), word.size()) == 0) return 0;
    std::this_thread::sleep_for(5ms);
  }
  std::fprintf(stderr, "tour: %s did not appear within 10 s\n", std::string(word).c_str());
  return 1;
}

int store_word(const mapcap::Grant& grant, std::size_t offset, std::string_view word) {
  mapcap::Mapping mapping(grant);
  mapping.memcpy_persist(offset, std::as_bytes(std::span(word)));
  return 0;
}

int hold(const mapcap::Grant& grant, const char* file) {
  const mapcap::Mapping mapping(grant, mapcap::Access::read_only);
  const int touched = ::open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
  if (touched < 0) throw std::runtime_error(std::string(file) + ": " + std::strerror(errno));
  ::close(touched);
  unsigned long sum = 0;
  while (::access(file, F_OK) == 0) {
    for (std::size_t at = 0; at < mapping.size(); at += 4096)
      sum += std::to_integer<unsigned long>(mapping.bytes()[at]);
    std::this_thread::sleep_for(10ms);
  }
  std::printf("   still reading after all of that (%lu)\n", sum);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string_view verb = argc > 1 ? argv[1] : "";
    const mapcap::Grant grant = first_grant();
    if (verb == "bytes") return bytes(grant);
    if (verb == "refused") return try_everything(grant);
    if (verb == "await" && argc == 4) return await_word(grant, std::stoul(argv[2]), argv[3]);
    if (verb == "store" && argc == 4) return store_word(grant, std::stoul(argv[2]), argv[3]);
    if (verb == "hold" && argc == 3) return hold(grant, argv[2]);
    std::fprintf(stderr, "usage: tour bytes|refused|await OFFSET WORD|store OFFSET WORD|hold FILE\n");
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tour: %s\n", error.what());
    return 1;
  }
}
