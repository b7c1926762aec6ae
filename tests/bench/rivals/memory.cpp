#include "tests/bench/rivals/memory.h"

#include <fcntl.h>
#include <mapcap/mapcap.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <stdexcept>
#include <vector>

#include "mapcap/fd.h"

namespace mapcap::bench {
namespace {

constexpr std::uint64_t kBytes = 64U << 20U;
constexpr std::uint64_t kPage = 4096;

struct Figures {
  double first_touch = 0;  ///< Of a page that nobody touched before, nanoseconds.
  double again = 0;        ///< Of a page that is there, in a mapping that is new, nanoseconds.
  double stores = 0;       ///< memset, GB/s
  double loads = 0;        ///< a sum, GB/s
};

/// Of this thread's processor time: nobody who runs meanwhile is in it.
double worked() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

template <typename Work>
double seconds(Work work) {
  const double begin = worked();
  work();
  return worked() - begin;
}

class View {
 public:
  explicit View(int fd) : at_(::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) {
    if (at_ == MAP_FAILED) throw std::runtime_error("mmap of what is measured");
  }
  View(const View&) = delete;
  View& operator=(const View&) = delete;
  ~View() { ::munmap(at_, kBytes); }
  [[nodiscard]] volatile char* bytes() const { return static_cast<char*>(at_); }
  [[nodiscard]] std::uint64_t* words() const { return static_cast<std::uint64_t*>(at_); }

 private:
  void* at_;
};

Figures measure(int fd) {
  constexpr double kPages = static_cast<double>(kBytes / kPage);
  constexpr double kGiga = static_cast<double>(kBytes) / 1e9;
  Figures figures;
  const auto touch = [](const View& view) {
    for (std::uint64_t at = 0; at < kBytes; at += kPage) view.bytes()[at] = 1;
  };
  {
    const View view(fd);
    figures.first_touch = seconds([&] { touch(view); }) * 1e9 / kPages;
  }
  const View view(fd);
  figures.again = seconds([&] { touch(view); }) * 1e9 / kPages;
  figures.stores = kGiga / seconds([&] { std::memset(view.words(), 7, kBytes); });
  std::atomic<std::uint64_t> sum = 0;
  figures.loads = kGiga / seconds([&] {
                    std::uint64_t own = 0;
                    for (std::uint64_t i = 0; i < kBytes / sizeof own; ++i) own += view.words()[i];
                    sum = own;
                  });
  return figures;
}

/// As the pool makes its own: a file every byte of which was written.
Fd bare(const std::string& directory) {
  Fd fd(directory.empty() ? ::memfd_create("bare", MFD_CLOEXEC)
                          : ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!fd.valid() || ::ftruncate(fd.get(), kBytes) != 0)
    throw std::runtime_error("no bare file in " + directory);
  if (directory.empty()) return fd;
  const std::vector<char> zeros(1U << 20U);
  for (std::uint64_t done = 0; done < kBytes; done += zeros.size()) {
    if (::write(fd.get(), zeros.data(), zeros.size()) < 0)
      throw std::runtime_error("cannot fill a bare file");
  }
  if (::fsync(fd.get()) != 0) throw std::runtime_error("cannot sync a bare file");
  return fd;
}

void tell(const std::string& way, const char* through, int round, const Figures& figures) {
  std::printf(
      "{\"kind\": \"memory\", \"way\": \"%s\", \"through\": \"%s\", \"round\": %d, \"first_touch_ns\": %.1f, "
      "\"again_ns\": %.1f, \"stores\": %.2f, \"loads\": %.2f}\n",
      way.c_str(), through, round, figures.first_touch, figures.again, figures.stores, figures.loads);
}

Figures granted(const Servers::Kind& kind) {
  ConnectOptions options;
  options.socket = kind.from.socket;
  Client client = Client::connect(options);
  RegionSpec spec;
  spec.name = "memory/one";
  spec.pool = kind.from.pool;
  spec.seal = kind.from.seal;
  spec.size = kBytes;
  Figures figures;
  {
    const Grant grant = client.create(spec, Access::read_write);
    figures = measure(grant.fd());
  }
  client.revoke(spec.name);
  return figures;
}

}  // namespace

void measure_memory(const std::vector<Servers::Kind>& kinds, int rounds) {
  std::fprintf(stderr, "memory: faults and bandwidth\n");
  for (int round = 0; round < rounds; ++round) {
    for (const Servers::Kind& kind : kinds) {
      // Who comes first has colder caches.
      const bool bare_first = round % 2 == 0;
      const auto measure_bare = [&] { tell(kind.way, "file", round, measure(bare(kind.from.beside).get())); };
      if (bare_first) measure_bare();
      tell(kind.way, "grant", round, granted(kind));
      if (!bare_first) measure_bare();
      std::fflush(stdout);
    }
  }
}

}  // namespace mapcap::bench
