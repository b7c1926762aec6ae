// Who did what. docs/audit.md says which decisions leave a record, and what is in it.
//
// A record is told at once, until one principal has left so many of one kind (verb, verdict and rule) that more would
// bury everybody else's: then they are counted, and the count is told when the kind's minute is over. So a flood costs a
// few lines and its count is right, and no other principal's record is lost or late for it.
//
// An outlet that takes nothing (a full pipe, a journal that is stopped) holds nobody up: records wait, in order, as many
// as memory is set aside for; what comes then is lost, and how much is told.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace mapcap::broker {

/// Who asked. Of what the broker does by itself there is no record, but of an endpoint's end by time: its maker's.
struct Actor {
  std::uint32_t account = 0;         ///< The principal that its records are counted for.
  std::optional<std::uint32_t> uid;  ///< Absent: not known.
  std::string user;                  ///< As the accounts call it, or the uid.
  std::int32_t pid = 0;              ///< 0: not known.
  std::string program;               ///< The rest: labels, see policy/peer_label.h. Empty: not known.
  std::string unit;
  std::string container;
  std::string cgroup;
  std::string endpoint;  ///< Empty: a user's own socket.
  /// Behind an endpoint: the uid of the process that connected, and who made the endpoint.
  std::optional<std::uint32_t> peer_uid{};
  std::string maker{};
  std::optional<std::uint32_t> maker_uid{};
};

enum class Verdict : std::uint8_t {
  allowed,     ///< Done.
  denied,      ///< By a rule, the region's mode or its owner's right.
  over_quota,  ///< By a quota, or the pool is full.
  failed,      ///< Not refused, but it did not come to anything.
};
/// "allowed", "denied", "over-quota", "failed"
std::string_view to_string(Verdict);

struct AuditRecord {
  Actor who;
  std::string verb;
  std::string name;  ///< Of the region, quota slot or file; empty: none.
  Verdict verdict = Verdict::allowed;
  std::string rule;  ///< "policy.toml:12", "mode", "owner", "quota set"; empty: none says it.
  std::string why;   ///< The sentence that the asker got, of what was not allowed.
  std::string left;  ///< Of an endpoint's end: the grants that nobody can take back.
  std::uint64_t times = 1;
};

/// Where records go.
class AuditOutlet {
 public:
  virtual ~AuditOutlet() = default;
  /// Without waiting. False: it takes nothing now, and is to be asked again.
  virtual bool put(const AuditRecord& record) = 0;
};

/// Loop only.
class Audit {
 public:
  using Time = std::chrono::nanoseconds;  ///< Since some fixed point; monotonic.
  /// How long a kind is counted from its first record on.
  static constexpr Time kWindow = std::chrono::seconds(60);
  /// Of one kind within that time, in full: of what was allowed, and of what was not.
  static constexpr std::uint64_t kAllowedInFull = 100;
  static constexpr std::uint64_t kRefusedInFull = 10;
  /// Kinds of one principal that are told apart; what comes beside them is one more kind.
  static constexpr std::size_t kKinds = 32;
  /// Kinds of all; the oldest is told early for a new one.
  static constexpr std::size_t kAllKinds = 8192;
  /// Records that wait for the outlet.
  static constexpr std::size_t kWaiting = 4096;
  static constexpr Time kAskAgain = std::chrono::milliseconds(100);

  /// What calls `work` after that time, instead of what it was asked to call before.
  using Later = std::function<void(Time, std::function<void()> work)>;
  Audit(AuditOutlet& outlet, Later later, std::function<Time()> clock);

  void note(AuditRecord record);
  /// At the broker's end: what was counted is told now.
  void finish();

 private:
  struct Kind {
    Time since{0};
    std::uint64_t told = 0;
    std::uint64_t counted = 0;
    std::optional<AuditRecord> last;  ///< Of those that were counted.
  };
  using Kinds = std::unordered_map<std::string, Kind>;

  void end_oldest();
  void end_windows(Time now);
  void tell(AuditRecord record);

  bool flush();
  void arm(Time now);

  AuditOutlet& outlet_;
  Later later_;
  std::function<Time()> clock_;
  std::unordered_map<std::uint32_t, Kinds> principals_;
  std::deque<std::pair<std::uint32_t, std::string>> ages_;  ///< Principal and kind, the oldest first.
  std::deque<AuditRecord> waiting_;
  std::uint64_t lost_ = 0;
};

}  // namespace mapcap::broker
