// The clone confiner: grants are FUSE passthrough files that the keeper serves. Loop only.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "broker/confine/confiner.h"
#include "broker/confine/issuer.h"
#include "broker/confine/keeper_wire.h"
#include "broker/loop.h"
#include "schema/unique_fd.h"

namespace mapcap::broker::confine {

class CloneConfiner final : public Confiner {
 public:
  /// Tells the keeper; false when it cannot be told now.
  using Tell = std::function<bool(const wire::Head&)>;
  explicit CloneConfiner(Tell tell) : tell_(std::move(tell)) {}

  // ---- for the keeper's owner
  // ------------------------------------------------------------------------------

  struct Connection {
    schema::UniqueFd device;  ///< For backing ids. Closing the last one of the connection ends it.
    std::shared_ptr<IssuePath> path;
    GrantId next_grant = 0;
  };
  void connect(Connection connection);
  /// Ends the connection on the broker's side: opens that hang fail, regions must be attached again.
  void disconnect(std::string why);
  [[nodiscard]] const std::shared_ptr<IssuePath>& path() const { return path_; }

  /// Starts the issuing thread.
  void begin_issuing(Loop& loop, std::chrono::nanoseconds deadline);
  [[nodiscard]] Issuer& issuer() { return *issuer_; }
  void end_issuing() { issuer_.reset(); }

  /// A region that an earlier broker attached, and a grant that it issued.
  void adopt_backing(schema::RegionId region, std::int32_t backing_id);
  void adopt_grant(GrantId grant) { granted_.insert(grant); }
  /// Backing ids of an earlier broker whose regions nobody attached again pin memory for nothing.
  void close_unclaimed();
  /// Closes ids that an earlier broker opened and died before it could tell: at most the next few after
  /// `last`.
  void close_untold(std::int32_t last);

  /// True when issue() returned this grant and its end was not yet told.
  bool released(GrantId grant) { return granted_.erase(grant) != 0; }

  // ---- Confiner
  // --------------------------------------------------------------------------------------------

  [[nodiscard]] schema::Confinement kind() const override { return schema::Confinement::clone; }
  [[nodiscard]] bool tracks_grants() const override { return true; }
  schema::Result<void> attach(schema::RegionId region, schema::BorrowedFd fd, schema::ByteCount size,
                              Backing backing = Backing::carved) override;
  [[nodiscard]] bool guards_holes(schema::RegionId region) const override;
  Task<schema::Result<Issued>> issue(schema::RegionId region, Label label) override;
  void detach(schema::RegionId region) override;

 private:
  struct Attached {
    std::int32_t backing_id = 0;
    bool guarded = false;
    bool claimed = true;  ///< False: known from the keeper only.
  };

  Tell tell_;
  schema::UniqueFd device_;
  std::shared_ptr<IssuePath> path_;
  std::string unavailable_ = "the keeper is not running";
  GrantId next_grant_ = 0;
  std::unordered_map<std::uint64_t, Attached> attached_;  ///< By region.
  std::unordered_set<GrantId> granted_;
  std::unique_ptr<Issuer> issuer_;
};

}  // namespace mapcap::broker::confine
