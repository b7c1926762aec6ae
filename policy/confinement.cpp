#include "policy/confinement.h"

#include <algorithm>
#include <utility>

namespace mapcap::policy {

namespace {

/// What each backing may be confined by, strongest first.
std::vector<Confinement> strengths(const PoolSettings& pool, const ConfinementFacts& facts) {
  switch (pool.backing) {
    case Backing::memory:
      if (pool.secret) return {Confinement::native};
      return {Confinement::clone, Confinement::lsm};
    case Backing::dax_file:
      if (facts.cachestat) return {Confinement::clone, Confinement::lsm};
      return {Confinement::lsm, Confinement::clone};
    case Backing::dax_device:
    case Backing::pci_bar:
      return {Confinement::native};
  }
  return {};
}

/// Empty: it can be had.
std::string why_not(Confinement kind, const ConfinementFacts& facts) {
  if (kind == Confinement::clone && !facts.no_clones.empty()) return "clone: " + facts.no_clones;
  if (kind == Confinement::lsm && !facts.no_lsm.empty()) return "lsm: " + facts.no_lsm;
  return {};
}

/// With what the administrator should know of a choice that holds by itself.
ConfinementChoice chosen(const PoolSettings& pool, const ConfinementFacts& facts, Confinement kind,
                         std::string reason) {
  if (pool.backing == Backing::dax_file && kind != Confinement::clone && facts.cachestat) {
    if (!reason.empty()) reason += "; ";
    reason +=
        "on a DAX mount this kernel's cachestat(2) can be used by holders to crash the machine, which clones "
        "prevent";
  }
  return {kind, std::move(reason)};
}

/// The policy names one.
Result<ConfinementChoice> as_asked(const PoolSettings& pool, const ConfinementFacts& facts,
                                   Confinement kind) {
  const std::vector<Confinement> possible = strengths(pool, facts);
  const bool plain = kind == Confinement::sealed;
  const bool fits = plain ? pool.backing == Backing::memory
                          : std::find(possible.begin(), possible.end(), kind) != possible.end();
  const std::string missing = why_not(kind, facts);
  if (fits && missing.empty())
    return chosen(pool, facts, kind, plain ? "the policy permits plain sealed descriptors" : "");
  return failure(
      ErrorCode::unsupported,
      pool.where + ": pool " + pool.name + " cannot have confinement " + std::string(to_string(kind)) +
          (fits ? " on this machine (" + missing + ")" : ": its backing is not confined that way"));
}

}  // namespace

Result<ConfinementChoice> choose_confinement(const PoolSettings& pool, const ConfinementFacts& facts) {
  if (pool.confinement) return as_asked(pool, facts, *pool.confinement);
  std::string reasons;
  for (const Confinement kind : strengths(pool, facts)) {
    const std::string missing = why_not(kind, facts);
    if (missing.empty()) return chosen(pool, facts, kind, std::move(reasons));
    reasons += (reasons.empty() ? "" : "; ") + missing;
  }
  const bool may_be_sealed = pool.backing == Backing::memory && !pool.secret;
  return failure(ErrorCode::unsupported,
                 pool.where + ": this machine cannot make the descriptors of pool " + pool.name +
                     " mmap-only (" + reasons + "); run `mapcap doctor`" +
                     (may_be_sealed ? ", or accept weaker ones with confinement = \"sealed\"" : ""));
}

std::vector<Problem> unconfined(const std::vector<PoolSettings>& pools, const ConfinementFacts& facts) {
  std::vector<Problem> problems;
  for (const PoolSettings& pool : pools) {
    const Result<ConfinementChoice> choice = choose_confinement(pool, facts);
    if (choice) continue;
    const bool anywhere = choose_confinement(pool, {}).has_value();
    // Its sentence begins with the pool's place.
    problems.push_back({anywhere ? Severity::warning : Severity::error, pool.at.position,
                        choice.error().sentence.substr(pool.where.size() + 2)});
  }
  return problems;
}

}  // namespace mapcap::policy
