// A broker for a unit test: private, without root, and gone with the test. Not part of <mapcap/mapcap.h>.
//
//   mapcap::testing::PrivateBroker broker;
//   mapcap::Client client = broker.connect();
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "mapcap/api.h"
#include "mapcap/client.h"

namespace mapcap::testing {

struct PrivateBrokerOptions {
  /// The command line tool, by name (then looked up in PATH) or path. Empty: $MAPCAP_COMMAND, else "mapcap".
  std::string command{};
  /// How long it may take to start; afterwards: `timed_out`.
  std::chrono::milliseconds start_within{60000};
};

/// One `mapcap dev`: a mapcapd that runs as the caller, whose clients may do everything. It ends with this
/// object, or with the process, however that ends; regions that are mapped by then stay mapped. Its grants are
/// mmap-only where the caller is the machine's root and the kernel has FUSE passthrough, else plain sealed
/// descriptors: Grant::info().confinement says which.
///
/// May be used by several threads. A child of fork() must not use it, and need not end it.
class MAPCAP_API PrivateBroker {
 public:
  /// Returns when it serves. Errors: `not_found` where the command is not installed, `unavailable` with its
  /// own words where it cannot start, `timed_out`, `io`.
  explicit PrivateBroker(PrivateBrokerOptions options = {});
  /// Returns when nothing of it is left.
  ~PrivateBroker();
  PrivateBroker(PrivateBroker&&) noexcept;
  PrivateBroker& operator=(PrivateBroker&&) noexcept;

  /// For MAPCAP_SOCKET and ConnectOptions::socket. Usable for this user only.
  [[nodiscard]] const std::string& socket() const;
  /// A new connection. Errors: Client::connect's.
  [[nodiscard]] Client connect(ConnectOptions options = {}) const;

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace mapcap::testing
