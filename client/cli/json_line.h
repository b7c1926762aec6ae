// Inside json.cpp and json_policy.cpp only: one line of JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace mapcap::cli {

/// Names and sentences are checked text, but a broken byte must not end the program here.
inline std::string line(const nlohmann::ordered_json& value) {
  return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace mapcap::cli
