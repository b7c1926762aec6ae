#include "broker/keeper/node_name.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>

namespace mapcap::broker::keeper {
namespace {

/// Of the region's name, so that the whole is one that every filesystem knows (NAME_MAX).
constexpr std::size_t kMostOfName = 200;

bool plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
         c == '-';
}

}  // namespace

std::string node_name(std::string_view region_name, confine::GrantId grant) {
  std::string name(region_name.substr(0, kMostOfName));
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !plain(c); }, ':');
  // The upper bits are the same for all grants of one keeper.
  constexpr confine::GrantId kOwn = (confine::GrantId{1} << 48U) - 1;
  std::array<char, 16> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), grant & kOwn, 16).ptr;
  return name + '#' + std::string(digits.data(), end);
}

}  // namespace mapcap::broker::keeper
