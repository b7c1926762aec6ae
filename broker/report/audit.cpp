#include "broker/report/audit.h"

#include <algorithm>

namespace mapcap::broker {

namespace {

/// Of the 33rd kind of a principal and all that follow.
const std::string kOther = "other";

std::string kind_of(const AuditRecord& record) {
  // No verb and no verdict has a NUL in it.
  return record.verb + '\0' + std::string(to_string(record.verdict)) + '\0' + record.rule;
}

}  // namespace

std::string_view to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::allowed:
      return "allowed";
    case Verdict::denied:
      return "denied";
    case Verdict::over_quota:
      return "over-quota";
    case Verdict::failed:
      return "failed";
  }
  return "";
}

Audit::Audit(AuditOutlet& outlet, Later later, std::function<Time()> clock)
    : outlet_(outlet), later_(std::move(later)), clock_(std::move(clock)) {}

void Audit::note(AuditRecord record) {
  const Time now = clock_();
  end_windows(now);
  const std::uint32_t principal = record.who.account;
  std::string name = kind_of(record);
  Kinds& kinds = principals_[principal];
  if (kinds.size() >= kKinds && !kinds.contains(name)) name = kOther;
  const auto [found, fresh] = kinds.try_emplace(name);
  Kind& kind = found->second;
  if (fresh) {
    kind.since = now;
    ages_.emplace_back(principal, name);
  }
  const std::uint64_t in_full = record.verdict == Verdict::allowed ? kAllowedInFull : kRefusedInFull;
  if (kind.told < in_full) {
    ++kind.told;
    tell(std::move(record));
  } else {
    ++kind.counted;
    kind.last = std::move(record);
  }
  if (fresh && ages_.size() > kAllKinds) end_oldest();
  arm(now);
}

void Audit::end_oldest() {
  const auto [principal, name] = ages_.front();
  ages_.pop_front();
  const auto of = principals_.find(principal);
  const auto found = of->second.find(name);
  Kind kind = std::move(found->second);
  of->second.erase(found);
  if (of->second.empty()) principals_.erase(of);
  if (kind.counted == 0) return;
  kind.last->times = kind.counted;
  tell(std::move(*kind.last));
}

void Audit::end_windows(Time now) {
  while (!ages_.empty()) {
    const auto& [principal, name] = ages_.front();
    if (now - principals_.at(principal).at(name).since < kWindow) return;
    end_oldest();
  }
}

void Audit::finish() {
  while (!ages_.empty()) end_oldest();
  (void)flush();
}

void Audit::tell(AuditRecord record) {
  if (waiting_.size() >= kWaiting) {
    ++lost_;
    return;
  }
  waiting_.push_back(std::move(record));
  (void)flush();
}

bool Audit::flush() {
  while (!waiting_.empty()) {
    if (!outlet_.put(waiting_.front())) return false;
    waiting_.pop_front();
  }
  if (lost_ == 0) return true;
  AuditRecord lost;
  lost.who.user = "mapcapd";
  lost.verb = "audit";
  lost.verdict = Verdict::failed;
  lost.why = "records were lost, because nobody took them";
  lost.times = lost_;
  if (!outlet_.put(lost)) return false;
  lost_ = 0;
  return true;
}

void Audit::arm(Time now) {
  std::optional<Time> next;
  if (!ages_.empty()) {
    const auto& [principal, name] = ages_.front();
    next = std::max(principals_.at(principal).at(name).since + kWindow - now, Time{0});
  }
  if (!waiting_.empty() || lost_ > 0) next = std::min(next.value_or(kAskAgain), kAskAgain);
  if (!next) return;
  later_(*next, [this] {
    const Time then = clock_();
    end_windows(then);
    (void)flush();
    arm(then);
  });
}

}  // namespace mapcap::broker
