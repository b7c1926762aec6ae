// The machine's users and groups, by name.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace mapcap::policy {

/// How names become ids. Tests and the fuzzer put their own in.
struct Accounts {
  std::function<std::optional<std::uint32_t>(const std::string& name)> uid_of;
  std::function<std::optional<std::uint32_t>(const std::string& name)> gid_of;
  /// All of that user; may be null, for none.
  std::function<std::vector<std::uint32_t>(std::uint32_t uid)> groups_of = nullptr;
  /// Whether the machine tells which cgroup a peer is in; null: it does.
  std::function<bool()> tells_cgroups = nullptr;
};

/// getpwnam_r and getgrnam_r: may ask a directory service, and block for as long as that takes.
Accounts system_accounts();

struct Account {
  std::string name;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};
/// Absent: unknown, or the lookup failed.
std::optional<Account> find_account(const std::string& name);
std::optional<Account> find_account(std::uint32_t uid);

struct Group {
  std::string name;
  std::uint32_t gid = 0;
};
/// Absent: unknown, or the lookup failed.
std::optional<Group> find_group(const std::string& name);
std::optional<Group> find_group(std::uint32_t gid);

/// Every group that the account is a member of, its primary one included.
std::vector<std::uint32_t> groups_of(const Account& account);

/// The text of /etc/subuid; empty when it cannot be read.
std::string subuid_text();

/// Whom this process asks instead of its own C library: one that can open no file has nothing to look names up in. Its
/// calls are the functions above, from any thread.
class NameService {
 public:
  virtual ~NameService() = default;
  virtual std::optional<Account> account(const std::string& name) = 0;
  virtual std::optional<Account> account(std::uint32_t uid) = 0;
  virtual std::optional<Group> group(const std::string& name) = 0;
  virtual std::optional<Group> group(std::uint32_t gid) = 0;
  virtual std::vector<std::uint32_t> groups_of(const Account& account) = 0;
  virtual std::string subuid_text() = 0;
};

/// All of the above go to `service` from now on, which outlives every use; null: to the C library again.
void ask_names_of(NameService* service);

}  // namespace mapcap::policy
