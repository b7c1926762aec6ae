#include "broker/sandbox/landlock.h"

#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "mapcap/fd.h"

namespace mapcap::broker::sandbox {
namespace {

// linux/landlock.h of Linux 6.12; Debian 12's is older. The kernel takes the first so many bytes of it.
struct RulesetAttributes {
  std::uint64_t handled_files = 0;
  std::uint64_t handled_network = 0;  // 6.7
  std::uint64_t scoped = 0;           // 6.12
};
constexpr unsigned kVersion = 1;  // LANDLOCK_CREATE_RULESET_VERSION
constexpr std::uint64_t kExecute = 1U << 0U;
constexpr std::uint64_t kMakeCharacterDevice = 1U << 6U;
constexpr std::uint64_t kMakeFifo = 1U << 10U;
constexpr std::uint64_t kMakeBlockDevice = 1U << 11U;
constexpr std::uint64_t kMakeSymlink = 1U << 12U;
constexpr std::uint64_t kBindTcp = 1U << 0U;
constexpr std::uint64_t kConnectTcp = 1U << 1U;
constexpr std::uint64_t kAbstractSockets = 1U << 0U;
constexpr long kWithNetwork = 4;
constexpr long kWithScopes = 6;

}  // namespace

Result<void> restrict_by_landlock(AbstractSockets abstract_sockets) {
  // SAFETY of the raw calls: no libc has wrappers; they take plain structs and numbers.
  const long version = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, kVersion);
  if (version < 1) return ok();
  RulesetAttributes attributes;
  attributes.handled_files = kExecute | kMakeCharacterDevice | kMakeFifo | kMakeBlockDevice | kMakeSymlink;
  std::size_t size = offsetof(RulesetAttributes, handled_network);
  if (version >= kWithNetwork) {
    attributes.handled_network = kBindTcp | kConnectTcp;
    size = offsetof(RulesetAttributes, scoped);
  }
  if (version >= kWithScopes) {
    if (abstract_sockets == AbstractSockets::refused) attributes.scoped = kAbstractSockets;
    size = sizeof attributes;
  }
  const Fd ruleset(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, size, 0)));
  if (!ruleset.valid()) return io_error("landlock_create_ruleset", errno);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return io_error("setting no-new-privs", errno);
  if (::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0)
    return io_error("landlock_restrict_self", errno);
  return ok();
}

}  // namespace mapcap::broker::sandbox
