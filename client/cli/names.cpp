#include "client/cli/names.h"

#include <charconv>
#include <limits>

#include "policy/accounts.h"

namespace mapcap::cli {
namespace {

std::optional<std::uint32_t> number(const std::string& text) {
  std::uint32_t value = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  // The largest id means "none" to the kernel.
  if (parsed.ec != std::errc() || parsed.ptr != end || value == std::numeric_limits<std::uint32_t>::max())
    return std::nullopt;
  return value;
}

}  // namespace

std::string user_name(std::uint32_t uid) {
  const auto account = policy::find_account(uid);
  return account ? account->name : std::to_string(uid);
}

std::string group_name(std::uint32_t gid) {
  const auto group = policy::find_group(gid);
  return group ? group->name : std::to_string(gid);
}

std::optional<std::uint32_t> uid_named(const std::string& text) {
  const auto account = policy::find_account(text);
  return account ? std::optional(account->uid) : number(text);
}

std::optional<std::uint32_t> gid_named(const std::string& text) {
  const auto group = policy::find_group(text);
  return group ? std::optional(group->gid) : number(text);
}

}  // namespace mapcap::cli
