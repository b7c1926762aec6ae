// From a policy file to a Policy, all or nothing.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "policy/accounts.h"
#include "policy/policy.h"
#include "policy/problem.h"

namespace mapcap::policy {

/// Largest file that is read, in bytes.
inline constexpr std::size_t kMaxPolicyBytes = 4U << 20U;

/// What a text says, and all that is wrong or odd in it, in the file's order.
struct Examined {
  std::shared_ptr<const Policy> policy;  ///< Null when a problem is an error.
  std::vector<Problem> problems;
};
/// `source` is the file name that permits say.
Examined examine_text(std::string_view text, const std::string& source, const Accounts& accounts);

/// The text of a file that a broker would read. Errors: `not_found`; `denied` for a file that somebody else than root or
/// this process's user could change or replace (base/trusted_path.h); `invalid` for no regular file; `io`.
Result<std::string> read_file(const std::string& path);
/// The same of a file that decides over nobody: whoever may change it.
Result<std::string> read_anybodys_file(const std::string& path);
/// Whether a broker of root would take the file. Errors: as read_file.
Result<void> check_trusted(const std::string& path);

/// Errors: `invalid`: "FILE:LINE:COLUMN: what is wrong", with every error (up to 32) as a detail "problem".
Result<std::shared_ptr<const Policy>> load_text(std::string_view text, const std::string& source,
                                                const Accounts& accounts);

/// What two pools share ("the directory /mnt/a", "a device"), or nothing.
std::string shared_backing(const PoolSettings& a, const PoolSettings& b);

/// "FILE:LINE:COLUMN: what"
std::string told(const Problem& problem, const std::string& source);

/// The policy that is built in (policy/default.toml), for a broker that was given none.
Result<std::shared_ptr<const Policy>> load_default();

/// Its text, for `mapcap policy` to show.
std::string_view default_text();

}  // namespace mapcap::policy
