// The clone confiner: grants are FUSE passthrough files that the keeper serves. Loop only.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "broker/confine/confiner.h"
#include "broker/keeper/issuer.h"
#include "broker/keeper/wire.h"
#include "broker/wait/closing.h"
#include "broker/wait/loop.h"
#include "mapcap/fd.h"

namespace mapcap::broker::keeper {

class Forge;

/// What the confiner needs of whoever has the keeper.
class KeeperLink {
 public:
  using Time = TimeSource::Time;  ///< The loop's.
  [[nodiscard]] virtual Time now() const = 0;
  /// Tells the keeper; false when it cannot be told now.
  virtual bool tell(const wire::Head& head) = 0;
  /// Until the keeper can be told more, was replaced, or it is `until`. False when the link is gone, and the
  /// confiner with it.
  virtual Task<bool> wait(Time until) = 0;
  /// Whether the keeper that serves now answers by `until`; false too when it is not the same any more by
  /// then, and when the confiner is gone.
  virtual Task<bool> answers(Time until) = 0;

 protected:
  ~KeeperLink() = default;
};

class CloneConfiner final : public confine::Confiner {
 public:
  /// `keeper` outlives it.
  CloneConfiner(KeeperLink& keeper, std::shared_ptr<Forge> forge)
      : keeper_(keeper), forge_(std::move(forge)) {}

  // ---- for the keeper's owner

  struct Connection {
    Fd device;  ///< For backing ids. Closing the last one of the connection ends it.
    std::shared_ptr<IssuePath> path;
    confine::GrantId next_grant = 0;
  };
  void connect(Connection connection);
  enum class Lasts : bool { no, yes };
  /// Ends the connection on the broker's side: opens that hang fail, regions are attached again when the next
  /// grant is asked for. Lasts::no: another is on its way, and worth waiting for.
  void disconnect(std::string why, Lasts lasts);
  [[nodiscard]] const std::shared_ptr<IssuePath>& path() const { return path_; }

  /// Starts the issuing thread.
  void begin_issuing(Loop& loop, std::chrono::nanoseconds deadline);
  void set_deadline(std::chrono::nanoseconds deadline) {
    patience_ = deadline;
    if (issuer_) issuer_->set_deadline(deadline);
  }
  [[nodiscard]] Issuer& issuer() { return *issuer_; }
  void end_issuing() {
    issuer_.reset();
    closing_.reset();
  }

  /// A region that an earlier broker attached, and a grant that it issued.
  void adopt_backing(RegionId region, std::int32_t backing_id);
  void adopt_grant(confine::GrantId grant) { granted_.insert(grant); }
  /// Whether grants are out whose end will be told.
  [[nodiscard]] bool has_grants() const { return !granted_.empty(); }
  /// Lets go of some regions but those that `kept` names. True when there are more.
  bool detach_some(const std::function<bool(RegionId)>& kept);
  /// Backing ids of an earlier broker whose regions nobody attached again pin memory for nothing.
  void close_unclaimed();
  /// Closes ids that an earlier broker opened and died before it could tell: at most the next few after
  /// `last`.
  void close_untold(std::int32_t last);

  /// True when issue() returned this grant and its end was not yet told.
  bool released(confine::GrantId grant) { return granted_.erase(grant) != 0; }

  // ---- Confiner

  [[nodiscard]] Confinement kind() const override { return Confinement::clone; }
  [[nodiscard]] bool tracks_grants() const override { return true; }
  Result<void> attach(RegionId region, BorrowedFd fd, ByteCount size,
                      confine::Backing backing = confine::Backing::carved) override;
  [[nodiscard]] bool guards_holes(RegionId region) const override;
  Task<Result<confine::Issued>> issue(RegionId region, confine::Label label, BorrowedFd memory = {},
                                      confine::Backing backing = confine::Backing::carved) override;
  Task<void> tell_published(RegionId region, std::int64_t unix_ns) override;
  void detach(RegionId region) override;

 private:
  struct Attached {
    std::int32_t backing_id = 0;
    bool guarded = false;
    bool claimed = true;  ///< False: known from the keeper only.
  };

  Result<void> attach_as(RegionId region, BorrowedFd fd, bool guarded);

  KeeperLink& keeper_;
  std::shared_ptr<Forge> forge_;
  std::shared_ptr<Fd> device_ = std::make_shared<Fd>();
  std::shared_ptr<IssuePath> path_;
  std::string unavailable_ = "the keeper is not running";
  Lasts lasts_ = Lasts::yes;  ///< What unavailable_ says.
  std::chrono::nanoseconds patience_{0};
  confine::GrantId next_grant_ = 0;
  std::unordered_map<std::uint64_t, Attached> attached_;  ///< By region.
  std::unordered_set<confine::GrantId> granted_;
  std::unique_ptr<Issuer> issuer_;
  /// A foreign file whose backing id is the last that holds it is given back to its filesystem by whoever
  /// closes the id.
  std::unique_ptr<Closing> closing_;
  std::shared_ptr<const bool> life_ = std::make_shared<const bool>(true);  ///< Ends with this.
};

}  // namespace mapcap::broker::keeper
