#include "policy/subordinates.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "base/pieces.h"
#include "policy/accounts.h"
#include "policy/endpoint.h"

namespace mapcap::policy {
namespace {

std::optional<std::uint32_t> number(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// No account is called so, and what is no account's would else count for containers: "# alice:100000:65536".
bool may_be_an_owner(std::string_view name) {
  return !name.empty() && name.find_first_of("# \t") == std::string_view::npos;
}

/// Whose ranges are for all the machine's containers, whether or not there is such a user: Kubernetes, and what
/// containers-storage(5) suggests for podman's and CRI-O's automatic user namespaces.
bool lends_to_containers(std::string_view owner) {
  return owner == "kubelet" || owner == "containers";
}

std::shared_ptr<const Lender> make_lender(std::uint32_t uid, const std::string& name,
                                          const Accounts& accounts) {
  Lender lender{uid, name, {}};
  if (accounts.groups_of) lender.groups = accounts.groups_of(uid);
  std::sort(lender.groups.begin(), lender.groups.end());
  return std::make_shared<const Lender>(std::move(lender));
}

}  // namespace

Subordinates Subordinates::parse(std::string_view subuid, const Accounts& accounts) {
  Subordinates all;
  std::map<std::uint32_t, std::shared_ptr<const Lender>>
      lenders;  // Who has several ranges is looked up once.
  while (!subuid.empty()) {
    std::string_view line = take_until('\n', subuid);
    const std::string owner_name(take_until(':', line));
    const auto first = number(take_until(':', line));
    const auto count = number(line);
    if (!may_be_an_owner(owner_name) || !first || !count || *count == 0) continue;
    if (*count - 1 > std::numeric_limits<std::uint32_t>::max() - *first) continue;
    std::optional<std::uint32_t> owner = number(owner_name);
    const bool named = !owner;
    if (named && accounts.uid_of) owner = accounts.uid_of(owner_name);
    Range range{*first, *first + (*count - 1), lends_to_containers(owner_name), nullptr};
    const bool of_nobody = !owner || *owner == 0;
    if (of_nobody) {
      range.in_pieces = true;
    } else {
      std::shared_ptr<const Lender>& lender = lenders[*owner];
      if (!lender) lender = make_lender(*owner, named ? owner_name : "", accounts);
      range.lender = lender;
    }
    add(of_nobody ? all.unowned_ : all.lent_, std::move(range));
  }
  return all;
}

void Subordinates::add(Ranges& ranges, Range range) {
  const auto behind = std::partition_point(ranges.begin(), ranges.end(),
                                           [&](const Range& other) { return other.last < range.first; });
  if (behind != ranges.end() && behind->first <= range.last) return;
  ranges.insert(behind, std::move(range));
}

Subordinates Subordinates::of_machine() {
  return parse(subuid_text(), system_accounts());
}

const Subordinates::Range* Subordinates::range_of(std::uint32_t uid) const {
  if (is_principal(uid)) return nullptr;  // Nobody lends those.
  for (const Ranges* ranges : {&lent_, &unowned_}) {
    const auto found = std::partition_point(ranges->begin(), ranges->end(),
                                            [uid](const Range& range) { return range.last < uid; });
    if (found != ranges->end() && found->first <= uid) return &*found;
  }
  return nullptr;
}

std::uint32_t Subordinates::account_of(std::uint32_t uid) const {
  const Range* range = range_of(uid);
  if (range == nullptr) return uid;
  return range->in_pieces ? uid - (uid - range->first) % kPiece : range->lender->uid;
}

std::shared_ptr<const Lender> Subordinates::lender_of(std::uint32_t uid) const {
  const Range* range = range_of(uid);
  return range == nullptr ? nullptr : range->lender;
}

}  // namespace mapcap::policy
