#include "tests/faults/step.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <semaphore>
#include <utility>

namespace mapcap::broker::parts {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::string_view kStop = "stop ";
constexpr std::string_view kDie = "die ";

[[noreturn]] void wait_for_ever() {
  std::binary_semaphore never(0);  // No pause(2): the broker's filter of system calls does not know it.
  for (;;) never.acquire();
}

[[noreturn]] void die() {
  ::kill(::getpid(), SIGKILL);
  wait_for_ever();  // The signal may reach another thread a moment earlier than this one.
}

/// Before main: the broker's filter is not there yet.
char* map_page() {
  const char* const path = std::getenv("MAPCAP_STEP_PAGE");  // NOLINT(concurrency-mt-unsafe): before main.
  if (path == nullptr) return nullptr;
  const int fd = ::open(path, O_RDWR | O_CLOEXEC);
  // SAFETY: a new mapping at an address of the kernel's choice, kept to the end; the file has a page.
  void* const at = fd < 0 ? MAP_FAILED : ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) {
    std::perror("mapcapd_faults: MAPCAP_STEP_PAGE");
    std::_Exit(2);
  }
  ::close(fd);
  return static_cast<char*>(at);
}
char* const g_page = map_page();
std::mutex g_page_mutex;

/// Others only add to the page: what this found it may change.
bool stops_by_page(std::string_view name, std::string_view pool) {
  if (g_page == nullptr) return false;
  const std::string where = std::string(pool) + " " + std::string(name) + "\n";
  const std::lock_guard lock(g_page_mutex);
  const std::string_view text(g_page, kPage);
  if (text.find(std::string(kDie) + where) != std::string_view::npos) die();
  const std::size_t found = text.find(std::string(kStop) + where);
  if (found == std::string_view::npos) return false;
  std::string_view("done").copy(g_page + found, 4);
  return true;
}

void obey_environment(std::string_view name) {
  static const char* const given =
      std::getenv("MAPCAP_DIE_AT");  // NOLINT(concurrency-mt-unsafe): nobody sets it.
  if (given == nullptr) return;
  static const std::string_view wanted(given);
  static const std::size_t colon = wanted.find(':');
  if (name != wanted.substr(0, colon)) return;
  static const int last = colon == std::string_view::npos ? 1 : std::atoi(given + colon + 1);
  static std::atomic<int> passed{0};
  if (++passed == last) die();
}

thread_local std::string t_acting_for;

}  // namespace

bool stops_at(std::string_view name, std::string_view pool) {
  obey_environment(name);
  return stops_by_page(name, pool);
}

void step(std::string_view name, std::string_view pool) {
  if (stops_at(name, pool)) wait_for_ever();
}

Acting::Acting(std::string pool) {
  t_acting_for = std::move(pool);
}
Acting::~Acting() {
  t_acting_for.clear();
}
const std::string& Acting::pool() {
  return t_acting_for;
}

}  // namespace mapcap::broker::parts
