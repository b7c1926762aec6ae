#include "policy/accounts.h"

#include <grp.h>
#include <pwd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fstream>
#include <sstream>

#include "policy/peer_label.h"

namespace mapcap::policy {
namespace {

constexpr std::size_t kFirstBuffer = 1024;
constexpr std::size_t kLargestBuffer = 1U << 20U;  // a group of tens of thousands of members

/// Calls `look_up(buffer, size, &found)` with ever larger buffers. Null: unknown, or the lookup failed.
template <typename Entry, typename LookUp>
const Entry* with_buffer(std::vector<char>& buffer, LookUp look_up) {
  for (std::size_t size = kFirstBuffer; size <= kLargestBuffer; size *= 4) {
    buffer.resize(size);
    Entry* found = nullptr;
    const int fault = look_up(buffer.data(), buffer.size(), &found);
    if (fault == EINTR) size /= 4;
    if (fault != ERANGE && fault != EINTR) return found;
  }
  return nullptr;
}

template <typename LookUp>
std::optional<Account> account_from(LookUp look_up) {
  std::vector<char> buffer;
  passwd entry{};
  const auto* found = with_buffer<passwd>(buffer, [&](char* data, std::size_t size, passwd** result) {
    return look_up(&entry, data, size, result);
  });
  if (found == nullptr) return std::nullopt;
  return Account{found->pw_name, found->pw_uid, found->pw_gid};
}

template <typename LookUp>
std::optional<Group> group_from(LookUp look_up) {
  std::vector<char> buffer;
  group entry{};
  const auto* found = with_buffer<group>(buffer, [&](char* data, std::size_t size, group** result) {
    return look_up(&entry, data, size, result);
  });
  if (found == nullptr) return std::nullopt;
  return Group{found->gr_name, found->gr_gid};
}

std::atomic<NameService*>& asked_service() {
  static std::atomic<NameService*> service{nullptr};
  return service;
}

}  // namespace

void ask_names_of(NameService* service) {
  asked_service().store(service);
}

std::optional<Account> find_account(const std::string& name) {
  if (NameService* service = asked_service().load()) return service->account(name);
  return account_from([&](passwd* entry, char* data, std::size_t size, passwd** result) {
    return ::getpwnam_r(name.c_str(), entry, data, size, result);
  });
}

std::optional<Account> find_account(std::uint32_t uid) {
  if (NameService* service = asked_service().load()) return service->account(uid);
  return account_from([&](passwd* entry, char* data, std::size_t size, passwd** result) {
    return ::getpwuid_r(uid, entry, data, size, result);
  });
}

std::optional<Group> find_group(const std::string& name) {
  if (NameService* service = asked_service().load()) return service->group(name);
  return group_from([&](group* entry, char* data, std::size_t size, group** result) {
    return ::getgrnam_r(name.c_str(), entry, data, size, result);
  });
}

std::optional<Group> find_group(std::uint32_t gid) {
  if (NameService* service = asked_service().load()) return service->group(gid);
  return group_from([&](group* entry, char* data, std::size_t size, group** result) {
    return ::getgrgid_r(gid, entry, data, size, result);
  });
}

std::string subuid_text() {
  if (NameService* service = asked_service().load()) return service->subuid_text();
  std::ifstream file("/etc/subuid");
  std::ostringstream text;
  text << file.rdbuf();  // Iterators would throw at a directory.
  return text.str();
}

std::vector<std::uint32_t> groups_of(const Account& account) {
  if (NameService* service = asked_service().load()) return service->groups_of(account);
  std::vector<gid_t> groups(64);
  int count = static_cast<int>(groups.size());
  while (::getgrouplist(account.name.c_str(), account.gid, groups.data(), &count) < 0) {
    // It says how many there are; one that does not is asked with twice the room.
    groups.resize(std::max(static_cast<std::size_t>(count), groups.size() * 2));
    count = static_cast<int>(groups.size());
    if (groups.size() > kLargestBuffer) return {account.gid};
  }
  groups.resize(static_cast<std::size_t>(count));
  return groups;
}

Accounts system_accounts() {
  return Accounts{[](const std::string& name) -> std::optional<std::uint32_t> {
                    const std::optional<Account> account = find_account(name);
                    if (!account) return std::nullopt;
                    return account->uid;
                  },
                  [](const std::string& name) -> std::optional<std::uint32_t> {
                    const auto group = find_group(name);
                    if (!group) return std::nullopt;
                    return group->gid;
                  },
                  [](std::uint32_t uid) {
                    const std::optional<Account> account = find_account(uid);
                    return account ? groups_of(*account) : std::vector<std::uint32_t>();
                  },
                  // Asked once, and early: a broker that serves makes no sockets.
                  [told = kernel_tells_cgroups()] { return told; }};
}

}  // namespace mapcap::policy
