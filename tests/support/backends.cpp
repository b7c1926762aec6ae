#include "tests/support/backends.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "mapcap/fd.h"

namespace mapcap::test {

const char* to_string(Backend backend) {
  constexpr std::array kNames{"Sealed",     "Revocable",   "Huge",      "Secret",
                              "Unconfined", "FileOnTmpfs", "FileOnDisk"};
  return kNames.at(static_cast<std::size_t>(backend));
}

SealKind seal_of(Backend backend) {
  const bool sealed =
      backend == Backend::sealed || backend == Backend::secret || backend == Backend::unconfined;
  return sealed ? SealKind::sealed : SealKind::revocable;
}

bool survives_both(Backend backend) {
  return backend == Backend::file_on_tmpfs || backend == Backend::file_on_disk;
}

std::string what_lacks(Backend backend) {
  if (::geteuid() != 0) return "needs root: it starts mapcapd";
  if (backend == Backend::secret) {
    const int fd = static_cast<int>(::syscall(SYS_memfd_secret, 0));
    if (fd < 0) return "memfd_secret: not enabled in this kernel (secretmem.enable=1)";
    ::close(fd);
  }
  if (backend == Backend::huge && !std::filesystem::exists("/sys/kernel/mm/transparent_hugepage"))
    return "transparent huge pages: not built into this kernel";
  return "";
}

BackendScratch::BackendScratch(Backend backend) : backend_(backend) {
  if (!survives_both(backend)) return;
  std::string pattern =
      std::string(backend == Backend::file_on_disk ? "/var/tmp" : "/dev/shm") + "/mapcap-pool.XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) ADD_FAILURE() << "mkdtemp " << pattern;
  directory_ = pattern;
}

namespace {

/// With what a broker that was killed left: its regions' files may only grow, and stay until they are told otherwise.
void remove_pool(const std::string& directory) {
  std::error_code ignored;
  for (std::filesystem::directory_iterator entry(directory, ignored), end; !ignored && entry != end;
       entry.increment(ignored)) {
    const Fd file(::open(entry->path().c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    unsigned flags = 0;
    if (file.valid()) ::ioctl(file.get(), FS_IOC_SETFLAGS, &flags);
  }
  std::filesystem::remove_all(directory, ignored);
}

}  // namespace

BackendScratch::~BackendScratch() {
  if (directory_.empty()) return;
  remove_pool(directory_);
  remove_pool(away());
}

std::string BackendScratch::policy(const std::string& capacity) const {
  std::string text = "[broker]\ngrace = \"1s\"\n[pool.pool]\ncapacity = \"" + capacity + "\"\n";
  text += directory_.empty() ? "backing = \"memory\"\n"
                             : "backing = \"dax-file\"\npath = \"" + directory_ + "\"\n";
  if (backend_ == Backend::sealed || backend_ == Backend::revocable)
    text += "seals = [\"sealed\", \"revocable\"]\n";
  if (backend_ == Backend::huge) text += "huge = \"always\"\n";
  if (backend_ == Backend::secret) text += "secret = true\n";
  if (backend_ == Backend::unconfined) text += "confinement = \"sealed\"\n";
  return text + "[[rule]]\nuser = 0\n";
}

std::size_t BackendScratch::files() const {
  std::size_t count = 0;
  if (directory_.empty()) return count;
  for (const auto& entry : std::filesystem::directory_iterator(directory_))
    count += entry.path().filename().string().starts_with("region-") ? 1U : 0U;
  return count;
}

}  // namespace mapcap::test
