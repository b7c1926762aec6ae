#include "policy/machine_share.h"

#include <string>

namespace mapcap::policy {

ByteCount resolved(const Capacity& capacity, ByteCount whole) {
  if (const auto* percent = std::get_if<Percent>(&capacity)) {
    return {whole.value / 100 * percent->value / kPageSize * kPageSize};
  }
  return std::get<ByteCount>(capacity);
}

Result<void> check_machine(const std::vector<PoolSettings>& pools, ByteCount memory) {
  ByteCount sum;
  std::string parts;
  const PoolSettings* passing = nullptr;
  std::size_t counted = 0;
  for (const PoolSettings& pool : pools) {
    if (pool.backing != Backing::memory || !pool.capacity) continue;
    const ByteCount capacity = resolved(*pool.capacity, memory);
    // Beyond 2^64 is beyond any machine.
    sum.value = capacity.value > ~sum.value ? ~std::uint64_t{0} : sum.value + capacity.value;
    parts += (parts.empty() ? "" : " + ") + pool.name + " " + round_bytes(capacity);
    ++counted;
    if (passing == nullptr && sum > memory) passing = &pool;
  }
  if (passing == nullptr) return ok();
  const std::string sentence =
      counted == 1
          ? "pool " + passing->name + ": capacity " + format_bytes(sum) +
                " is more than this machine's memory of " + round_bytes(memory) + "; lower it"
          : "the memory pools together take " + round_bytes(sum) + " (" + parts +
                "), more than this machine's memory of " + round_bytes(memory) + "; lower their capacities";
  return failure(ErrorCode::invalid, passing->where + ": " + sentence,
                 {{"problem", passing->where + ": " + sentence},
                  {"sum", std::to_string(sum.value)},
                  {"memory", std::to_string(memory.value)}});
}

std::optional<Problem> beyond_machine(const std::vector<PoolSettings>& pools, ByteCount memory) {
  const Result<void> fits = check_machine(pools, memory);
  if (fits) return std::nullopt;
  // Its sentence begins with the place of the pool that is one too many.
  const std::string& sentence = fits.error().sentence;
  for (const PoolSettings& pool : pools) {
    if (sentence.starts_with(pool.where + ": "))
      return Problem{Severity::error, pool.at.position, sentence.substr(pool.where.size() + 2)};
  }
  return Problem{Severity::error, {}, sentence};
}

}  // namespace mapcap::policy
