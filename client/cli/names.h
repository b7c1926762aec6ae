// User and group names of this machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace mapcap::cli {

/// The name, or the number as text when there is none.
std::string user_name(std::uint32_t uid);
std::string group_name(std::uint32_t gid);
/// By name, or by number for an id that has no name.
std::optional<std::uint32_t> uid_named(const std::string& text);
std::optional<std::uint32_t> gid_named(const std::string& text);

}  // namespace mapcap::cli
