#include "broker/keeper/ready_opens.h"

#include <algorithm>
#include <utility>

namespace mapcap::broker::keeper {

std::optional<ReadyOpen> ReadyOpens::take(RegionId region, Time now) {
  auto at = regions_.find(region.value);
  if (at == regions_.end()) {
    if (regions_.size() >= kMostRegions) return std::nullopt;
    at = regions_.try_emplace(region.value).first;
  }
  std::optional<ReadyOpen> one = at->second.stock.take(now);
  if (one) --ready_;
  return one;
}

std::size_t ReadyOpens::missing(RegionId region, std::size_t most) const {
  const auto at = regions_.find(region.value);
  if (at == regions_.end()) return 0;
  const Stocked& stock = at->second.stock;
  if (stock.missing(kMostOfOne) == 0) return 0;
  const std::size_t others = all() - stock.ready() - stock.on_their_way();
  // Also those that find no room: whoever has more than his share by then leaves it to them.
  const auto in_demand = [](const auto& one) { return one.second.stock.in_demand(); };
  const auto sharing = static_cast<std::size_t>(std::count_if(regions_.begin(), regions_.end(), in_demand));
  const std::size_t share = std::max(Stocked::kFirst, most / std::max<std::size_t>(sharing, 1));
  return stock.missing(std::min({kMostOfOne, share, most - std::min(most, others)}));
}

ReadyOpens::Batch ReadyOpens::ordered(RegionId region, std::size_t count) {
  Ready& ready = regions_.at(region.value);
  ready.stock.ordered(count);
  on_their_way_ += count;
  return {region, ready.wanted};
}

ReadyOpens::Ready* ReadyOpens::find(const Batch& batch) {
  if (!batch.wanted->load()) return nullptr;
  const auto at = regions_.find(batch.region.value);
  return at == regions_.end() ? nullptr : &at->second;
}

void ReadyOpens::arrived(const Batch& batch, ReadyOpen made) {
  --on_their_way_;
  Ready* ready = find(batch);
  if (ready == nullptr) return;
  ++ready_;
  ready->stock.arrived(std::move(made));
}

void ReadyOpens::failed(const Batch& batch) {
  --on_their_way_;
  if (Ready* ready = find(batch); ready != nullptr) ready->stock.failed();
}

bool ReadyOpens::asked_for(const Batch& batch, Time now) const {
  if (!batch.wanted->load()) return false;
  const auto at = regions_.find(batch.region.value);
  return at != regions_.end() && !at->second.stock.idle(now);
}

ReadyOpens::Regions::iterator ReadyOpens::drop(Regions::iterator at, std::vector<ReadyOpen>& dropped) {
  at->second.wanted->store(false);
  for (ReadyOpen& one : at->second.stock.clear()) dropped.push_back(std::move(one));
  return regions_.erase(at);
}

std::vector<ReadyOpen> ReadyOpens::drop(RegionId region) {
  std::vector<ReadyOpen> dropped;
  if (const auto at = regions_.find(region.value); at != regions_.end()) drop(at, dropped);
  ready_ -= dropped.size();
  return dropped;
}

std::vector<ReadyOpen> ReadyOpens::drop_idle(Time now) {
  std::vector<ReadyOpen> dropped;
  for (auto at = regions_.begin(); at != regions_.end();)
    at = at->second.stock.idle(now) ? drop(at, dropped) : std::next(at);
  ready_ -= dropped.size();
  return dropped;
}

std::vector<ReadyOpen> ReadyOpens::drop_all() {
  std::vector<ReadyOpen> dropped;
  for (auto at = regions_.begin(); at != regions_.end();) at = drop(at, dropped);
  ready_ -= dropped.size();
  return dropped;
}

}  // namespace mapcap::broker::keeper
