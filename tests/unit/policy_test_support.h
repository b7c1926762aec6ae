// Policies and people for the policy's tests: nothing of the machine.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>

#include "policy/load/loader.h"

namespace mapcap::policy {

inline constexpr std::uint32_t kAlice = 1000;
inline constexpr std::uint32_t kBob = 1001;
inline constexpr std::uint32_t kStaff = 50;
inline constexpr std::uint32_t kDevelopers = 60;

inline Accounts fake_accounts() {
  return Accounts{[](const std::string& name) -> std::optional<std::uint32_t> {
                    if (name == "root") return 0;
                    if (name == "alice") return kAlice;
                    if (name == "bob") return kBob;
                    return std::nullopt;
                  },
                  [](const std::string& name) -> std::optional<std::uint32_t> {
                    if (name == "staff") return kStaff;
                    if (name == "developers") return kDevelopers;
                    return std::nullopt;
                  }};
}

inline Subject root() {
  return Subject::for_explanation(0, 0, {}, "root");
}
inline Subject alice() {
  return Subject::for_explanation(kAlice, kAlice, {kStaff}, "alice");
}
inline Subject bob() {
  return Subject::for_explanation(kBob, kBob, {kDevelopers}, "bob");
}

/// Of a region in the pool of kOnePool.
inline Action open(std::string_view name, Access rights = Access::read_only) {
  Action action = action_of(Verb::open);
  action.name = name;
  action.pool = "dram";
  action.rights = rights;
  return action;
}

inline constexpr std::string_view kOnePool = "[pool.dram]\nbacking=\"memory\"\ncapacity=\"1G\"\n";

inline Result<std::shared_ptr<const Policy>> try_load(std::string_view text) {
  return load_text(text, "p.toml", fake_accounts());
}
/// kOnePool's three lines, then `rest`: its first line is line 4.
inline std::shared_ptr<const Policy> load_with_pool(const std::string& rest) {
  auto loaded = try_load(std::string(kOnePool) + rest);
  if (!loaded) {
    ADD_FAILURE() << loaded.error().sentence;
    return nullptr;
  }
  return loaded.value();
}
/// The sentence of the error, or "accepted".
inline std::string why(std::string_view text) {
  const auto loaded = try_load(text);
  return loaded ? "accepted" : loaded.error().sentence;
}
inline std::string why_with_pool(const std::string& rest) {
  return why(std::string(kOnePool) + rest);
}

}  // namespace mapcap::policy
