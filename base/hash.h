// A hash that must come out the same in every build: it is kept in records and names.
#pragma once

#include <cstdint>

namespace mapcap {

/// FNV-1a, 64 bits (Fowler, Noll, Vo; RFC 9923). Tells things apart; no defence against whoever chooses them.
template <typename Bytes>
constexpr std::uint64_t fnv1a(const Bytes& bytes) {
  std::uint64_t hash = 14695981039346656037ULL;
  for (const auto byte : bytes) hash = (hash ^ static_cast<std::uint8_t>(byte)) * 1099511628211ULL;
  return hash;
}

}  // namespace mapcap
