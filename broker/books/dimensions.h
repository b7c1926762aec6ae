// What is counted, and limited.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "broker/books/quotas.h"

namespace mapcap::broker {

struct Dimension {
  const char* name;
  std::uint64_t Amount::*taken;
  std::optional<std::uint64_t> Limits::*limit;
};

inline constexpr std::array<Dimension, 4> kDimensions{{
    {"bytes", &Amount::bytes, &Limits::bytes},
    {"regions", &Amount::regions, &Limits::regions},
    {"grants", &Amount::grants, &Limits::grants},
    {"connections", &Amount::connections, &Limits::connections},
}};

}  // namespace mapcap::broker
