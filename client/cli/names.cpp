#include "client/cli/names.h"

#include <grp.h>
#include <pwd.h>

#include <charconv>
#include <limits>
#include <vector>

namespace mapcap::cli {
namespace {

// Groups with many members need more than a page; the reentrant calls say so by ERANGE.
constexpr std::size_t kLargestEntry = 1U << 20U;

template <typename Entry, typename Look>
bool look_up(Entry& entry, std::vector<char>& room, Look look) {
  for (room.resize(4096); room.size() <= kLargestEntry; room.resize(room.size() * 4)) {
    Entry* found = nullptr;
    const int error = look(&entry, room.data(), room.size(), &found);
    if (error == 0) return found != nullptr;
    if (error != ERANGE) return false;
  }
  return false;
}

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
  passwd entry{};
  std::vector<char> room;
  const bool found =
      look_up(entry, room, [uid](passwd* into, char* buffer, std::size_t size, passwd** result) {
        return ::getpwuid_r(uid, into, buffer, size, result);
      });
  return found ? entry.pw_name : std::to_string(uid);
}

std::string group_name(std::uint32_t gid) {
  group entry{};
  std::vector<char> room;
  const bool found = look_up(entry, room, [gid](group* into, char* buffer, std::size_t size, group** result) {
    return ::getgrgid_r(gid, into, buffer, size, result);
  });
  return found ? entry.gr_name : std::to_string(gid);
}

std::optional<std::uint32_t> uid_named(const std::string& text) {
  passwd entry{};
  std::vector<char> room;
  const bool found = look_up(entry, room, [&](passwd* into, char* buffer, std::size_t size, passwd** result) {
    return ::getpwnam_r(text.c_str(), into, buffer, size, result);
  });
  return found ? std::optional(entry.pw_uid) : number(text);
}

std::optional<std::uint32_t> gid_named(const std::string& text) {
  group entry{};
  std::vector<char> room;
  const bool found = look_up(entry, room, [&](group* into, char* buffer, std::size_t size, group** result) {
    return ::getgrnam_r(text.c_str(), into, buffer, size, result);
  });
  return found ? std::optional(entry.gr_gid) : number(text);
}

}  // namespace mapcap::cli
