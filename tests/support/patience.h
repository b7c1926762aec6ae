// How long tests wait for what does happen: for an event, however busy the machine is, and never for a time to
// pass. Whoever waits that long has found something that hangs.
#pragma once

#include <chrono>
#include <thread>

namespace mapcap::test {

#ifdef MAPCAP_SANITIZED
inline constexpr std::chrono::seconds kPatience{240};
#else
inline constexpr std::chrono::seconds kPatience{60};
#endif
/// The same for poll(2).
inline constexpr int kPatienceMs = std::chrono::milliseconds(kPatience).count();

/// Waits for what other threads and processes bring about: true as soon as it `holds`.
template <typename Condition>
bool comes_true(Condition holds) {
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

}  // namespace mapcap::test
