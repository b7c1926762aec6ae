// What libmapcap throws.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "mapcap/api.h"
#include "mapcap/error_code.h"

namespace mapcap {

/// what() is one sentence that says what is wrong, where, and what to do.
class MAPCAP_API Error : public std::runtime_error {
 public:
  /// One fact for programs: {"slot", "user alice in pool dram"}, {"asked", "1048576"}.
  using Details = std::vector<std::pair<std::string, std::string>>;

  Error(ErrorCode code, const std::string& sentence, Details details = {});
  ~Error() override;
  Error(const Error&) = default;
  Error& operator=(const Error&) = default;

  [[nodiscard]] ErrorCode code() const noexcept { return code_; }
  [[nodiscard]] const Details& details() const noexcept { return details_; }
  /// The value of one detail, or an empty string.
  [[nodiscard]] std::string detail(const std::string& key) const;

 private:
  ErrorCode code_;
  Details details_;
};

}  // namespace mapcap
