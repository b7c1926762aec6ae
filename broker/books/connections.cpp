#include "broker/books/connections.h"

#include <sys/random.h>

#include <utility>

#include "base/result.h"

namespace mapcap::broker {

Token Connections::open(std::uint32_t uid) {
  Token token;
  const ssize_t filled = ::getrandom(token.data(), token.size(), 0);
  MAPCAP_INVARIANT(filled == static_cast<ssize_t>(token.size()), "getrandom gave too little");
  Bond bond;
  bond.uid = uid;
  bond.connected = true;
  bonds_.emplace(token, std::move(bond));
  return token;
}

bool Connections::resume(const Token& token, std::uint32_t uid) {
  auto found = bonds_.find(token);
  if (found == bonds_.end() || found->second.connected || found->second.uid != uid) return false;
  found->second.connected = true;
  found->second.grace = Loop::Timer();
  return true;
}

void Connections::closed(const Token& token) {
  auto found = bonds_.find(token);
  if (found == bonds_.end()) return;
  found->second.connected = false;
  if (found->second.regions.empty()) {
    bonds_.erase(found);
    return;
  }
  start_grace(token, found->second);
}

void Connections::start_grace(const Token& token, Bond& bond) {
  bond.grace = loop_.after(grace_, [this, token] {
    auto found = bonds_.find(token);
    if (found == bonds_.end() || found->second.connected) return;
    std::set<RegionId> regions = std::move(found->second.regions);
    bonds_.erase(found);
    end_all(std::move(regions));
  });
}

void Connections::end_all(std::set<RegionId> regions) {
  if (regions.empty()) return;
  const RegionId first = regions.extract(regions.begin()).value();
  end_(first);
  loop_.post([this, rest = std::move(regions)]() mutable { end_all(std::move(rest)); });
}

std::set<RegionId> Connections::take_regions(const Token& token) {
  auto found = bonds_.find(token);
  return found == bonds_.end() ? std::set<RegionId>() : std::exchange(found->second.regions, {});
}

void Connections::enrol(const Token& token, RegionId region) {
  auto found = bonds_.find(token);
  // The connection may have ended while its create was under way: then the region ends too.
  if (found == bonds_.end()) {
    loop_.post([this, region] { end_(region); });
    return;
  }
  found->second.regions.insert(region);
}

void Connections::forget(const Token& token, RegionId region) {
  auto found = bonds_.find(token);
  if (found == bonds_.end()) return;
  found->second.regions.erase(region);
  if (found->second.regions.empty() && !found->second.connected) bonds_.erase(found);
}

std::size_t Connections::regions() const {
  std::size_t count = 0;
  for (const auto& [token, bond] : bonds_) count += bond.regions.size();
  return count;
}

void Connections::restore(const Token& token, std::uint32_t uid, RegionId region) {
  Bond& bond = bonds_[token];
  bond.uid = uid;
  bond.regions.insert(region);
  start_grace(token, bond);
}

}  // namespace mapcap::broker
