#include "policy/model.h"

#include <array>

#include "base/nearest.h"

namespace mapcap::policy {
namespace {

// In the order of the enumerators.
constexpr std::array<std::string_view, kVerbs> kVerbWords{
    "create",    "open",  "list",     "show",   "renew",  "revoke",  "pools",   "quota",
    "quota-set", "clone", "shutdown", "reload", "policy", "publish", "endpoint"};
static_assert(static_cast<std::size_t>(Verb::endpoint) + 1 == kVerbs);

}  // namespace

bool nameless(Verb verb) {
  switch (verb) {
    case Verb::create:
    case Verb::open:
    case Verb::list:
    case Verb::show:
    case Verb::renew:
    case Verb::revoke:
    case Verb::publish:
      return false;
    case Verb::pools:
    case Verb::quota:
    case Verb::quota_set:
    case Verb::clone:
    case Verb::shutdown:
    case Verb::reload:
    case Verb::policy:
    case Verb::endpoint:
      return true;
  }
  return true;
}

std::string_view to_string(Verb verb) {
  return kVerbWords.at(static_cast<std::size_t>(verb));
}

bool administers(Verb verb) {
  return verb == Verb::quota_set || verb == Verb::shutdown || verb == Verb::reload || verb == Verb::policy;
}

Result<Verb> parse_verb(std::string_view text) {
  for (std::size_t i = 0; i < kVerbs; ++i) {
    if (kVerbWords.at(i) == text) return static_cast<Verb>(i);
  }
  return failure(ErrorCode::invalid, not_one_of("verb", text, {kVerbWords.begin(), kVerbWords.end()}));
}

Result<const PoolSettings*> find_pool(const std::vector<PoolSettings>& pools, const std::string& name) {
  std::string names;
  std::vector<std::string_view> known;
  for (const PoolSettings& pool : pools) {
    if (pool.name == name) return &pool;
    names += (names.empty() ? "" : ", ") + pool.name;
    known.push_back(pool.name);
  }
  const std::string_view meant = nearest(name, known);
  return failure(ErrorCode::not_found,
                 "there is no pool \"" + name + "\"; there are " + (names.empty() ? "none" : names) +
                     (meant.empty() ? "" : "; did you mean \"" + std::string(meant) + "\"?"),
                 {{"pool", name}});
}

std::string_view to_string(Backing backing) {
  switch (backing) {
    case Backing::memory:
      return "memory";
    case Backing::dax_file:
      return "dax-file";
    case Backing::dax_device:
      return "dax-device";
    case Backing::pci_bar:
      return "pci-bar";
  }
  return "unknown";
}

}  // namespace mapcap::policy
