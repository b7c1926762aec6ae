// The clone confiner: grants are FUSE passthrough files that the keeper serves. Loop only.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "broker/confine/confiner.h"
#include "broker/keeper/issuer.h"
#include "broker/keeper/label_board.h"
#include "broker/keeper/ready_opens.h"
#include "broker/keeper/stock.h"
#include "broker/keeper/wire.h"
#include "broker/wait/closing.h"
#include "broker/wait/loop.h"
#include "mapcap/fd.h"

namespace mapcap::broker::keeper {

class Forge;
struct Device;
struct MadeBlank;

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
  /// Hands the keeper a board for labels. False when it cannot be told now, or knows nothing of blanks.
  virtual bool give_board(BorrowedFd board) = 0;
  /// The keeper is to hold what will be that region's memory, if it comes to be one; Keeper::guard() and hold() make it
  /// one. Counts as no region until then.
  virtual void hold_blank(RegionId region, BorrowedFd memory) = 0;
  [[nodiscard]] virtual bool holds(RegionId region) const = 0;
  virtual void let_go(RegionId region) = 0;
  /// The keeper is told soon that the region has no backing any more, with others; and the confiner then to close what it
  /// has to close (close_backings).
  virtual void unbacked(RegionId region) = 0;
  /// Sends what it is to hold, all together.
  virtual void flush() = 0;
  /// Whether opens may be made ahead.
  [[nodiscard]] virtual bool knows_ready_opens() const = 0;
  /// How many more regions it may be given.
  [[nodiscard]] virtual std::size_t room() const = 0;

 protected:
  ~KeeperLink() = default;
};

class CloneConfiner final : public confine::Confiner {
 public:
  /// `keeper` outlives it.
  CloneConfiner(KeeperLink& keeper, std::shared_ptr<Forge> forge);

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
  /// The keeper that it is connected to knows nodes by their names. Before anything is opened through it.
  void open_by_name() {
    if (path_) path_->by_name = true;
  }
  /// Takes away what an earlier broker left to nodes of this connection. Once there is an issuing thread, before anything is
  /// opened.
  void take_names(std::vector<std::string> names);
  [[nodiscard]] const std::shared_ptr<IssuePath>& path() const { return path_; }

  /// Starts the issuing thread.
  void begin_issuing(Loop& loop, std::chrono::nanoseconds deadline);
  /// Once the keeper that it is connected to serves, and knows what blanks are: from now on some may be made ahead.
  void begin_blanks();
  /// What is made ahead is let go of, and nothing more is made.
  void end_blanks();
  void set_deadline(std::chrono::nanoseconds deadline) {
    patience_ = deadline;
    if (issuer_) issuer_->set_deadline(deadline);
  }
  [[nodiscard]] Issuer& issuer() { return *issuer_; }
  void end_issuing() {
    end_blanks();
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
  /// Closes ids that an earlier broker opened and died before it could tell: those around `last` that no region is
  /// attached by. After all of them were adopted.
  void close_untold(std::int32_t last);
  /// Closes the ids of regions that were detached.
  void close_backings();

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
  // ahead.cpp
  std::optional<confine::Blank> take_blank(const confine::BlankSource& source, Access rights) override;
  Result<void> name_blank(confine::Blank& blank, BorrowedFd memory, const confine::Label& label) override;
  std::optional<confine::Issued> issue_blank(confine::Blank& blank) override;
  [[nodiscard]] Ahead ahead() const override;
  void drop_ready(RegionId region) override;

 private:
  struct Attached {
    std::int32_t backing_id = 0;
    bool guarded = false;
    bool claimed = true;  ///< False: known from the keeper only.
  };

  Result<void> attach_as(RegionId region, BorrowedFd fd, bool guarded);

  using BlankKind = std::pair<const void*, Access>;  ///< Of which source, and with which rights.
  void refill(const BlankKind& kind, const confine::BlankSource& source);
  void blank_made(const BlankKind& kind, const std::shared_ptr<IssuePath>& path, MadeBlank made);
  /// Undoes what was prepared for a region that does not come to be.
  void forget_blank(RegionId region, std::uint32_t place, const std::weak_ptr<const void>& made_by);
  /// What the stocks of all kinds may have together, and what blanks have of it.
  [[nodiscard]] std::size_t room_ahead();
  [[nodiscard]] std::size_t blanks_ahead() const;
  /// Before it runs out of places: the keeper reads in order, and this costs nobody anything now.
  void tell_named();
  /// Whether that leaves descriptors for regions and connections. Invalid ones do not.
  [[nodiscard]] bool fits(BorrowedFd made) const;
  void watch_idle();
  void look_for_idle();
  // opens_ahead.cpp
  /// An open that is ready, which becomes a grant of that label; nothing where there is none. May order more.
  std::optional<confine::Issued> take_ready(RegionId region, const confine::Label& label,
                                            const std::string& blob);
  void order_opens(RegionId region, std::int32_t backing_id, const confine::Label& label,
                   const std::string& blob);
  void open_made(const ReadyOpens::Batch& batch, const std::shared_ptr<IssuePath>& path,
                 const Opening& opening, Fd made);
  void throw_away(ReadyOpen ready);

  /// Ready opens of all regions, where descriptors allow: half of what there may be with blanks.
  static constexpr std::size_t kMostReadyOpens = 64;

  KeeperLink& keeper_;
  std::shared_ptr<Forge> forge_;
  std::shared_ptr<Device> device_;  ///< Never null.
  std::shared_ptr<IssuePath> path_;
  std::string unavailable_ = "the keeper is not running";
  Lasts lasts_ = Lasts::yes;  ///< What unavailable_ says.
  std::chrono::nanoseconds patience_{0};
  confine::GrantId next_grant_ = 0;
  std::unordered_map<std::uint64_t, Attached> attached_;  ///< By region.
  std::vector<std::int32_t> detached_;                    ///< Ids that are to be closed, of this connection.
  std::unordered_set<confine::GrantId> granted_;
  std::map<BlankKind, Stock<confine::Blank>> stocks_;
  std::optional<LabelBoard> board_;  ///< With the keeper; absent: nothing is made ahead.
  std::uint64_t blanks_used_ = 0;
  ReadyOpens opens_;
  std::uint64_t opens_used_ = 0;
  std::uint64_t descriptors_ = 0;  ///< What this process may have open, when something was last ordered.
  Loop* loop_ = nullptr;
  Loop::Timer idle_timer_;
  bool watches_idle_ = false;
  std::unique_ptr<Issuer> issuer_;
  /// A foreign file whose backing id is the last that holds it is given back to its filesystem by whoever
  /// closes the id.
  std::unique_ptr<Closing> closing_;
  std::shared_ptr<const bool> life_ = std::make_shared<const bool>(true);  ///< Ends with this.
};

}  // namespace mapcap::broker::keeper
