#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <string>

#include "broker/ledger/ledger.h"
#include "mapcap/fd.h"

namespace mapcap::broker::ledger {

Result<BootId> current_boot() {
  constexpr const char* kPath = "/proc/sys/kernel/random/boot_id";
  const Fd fd(::open(kPath, O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return io_error(std::string("open ") + kPath, errno);
  std::array<char, 64> text{};
  const ssize_t length = ::read(fd.get(), text.data(), text.size());
  if (length < 0) return io_error(std::string("read ") + kPath, errno);
  std::string digits;
  for (char c : std::string_view(text.data(), static_cast<std::size_t>(length))) {
    if (c != '-' && c != '\n') digits += c;
  }
  BootId boot{};
  bool good = digits.size() == 2 * boot.size();
  for (std::size_t i = 0; good && i < boot.size(); ++i) {
    const char* first = digits.data() + 2 * i;
    good = std::from_chars(first, first + 2, boot[i], 16).ptr == first + 2;
  }
  if (!good) return failure(ErrorCode::io, std::string(kPath) + " does not hold a UUID");
  return boot;
}

}  // namespace mapcap::broker::ledger
