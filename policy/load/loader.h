// From a policy file to a Policy, all or nothing.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "policy/accounts.h"
#include "policy/policy.h"

namespace mapcap::policy {

/// Largest file that is read, in bytes.
inline constexpr std::size_t kMaxPolicyBytes = 1U << 20U;

/// Reads and checks a file. Errors: `not_found`; `denied` for a file that others than its owner and group may
/// write; `invalid`: "FILE:LINE:COLUMN: what is wrong", with every problem (up to 32) as a detail "problem";
/// `io`.
Result<std::shared_ptr<const Policy>> load_file(const std::string& path,
                                                const Accounts& accounts = system_accounts());

/// The same for a text; `source` is the file name that errors and permits say.
Result<std::shared_ptr<const Policy>> load_text(std::string_view text, const std::string& source,
                                                const Accounts& accounts);

/// The policy that is built in (policy/default.toml), for a broker that was given none.
Result<std::shared_ptr<const Policy>> load_default();

/// Its text, for `mapcap policy` to show.
std::string_view default_text();

}  // namespace mapcap::policy
