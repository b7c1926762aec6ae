#include "broker/mint/confiners.h"

#include <span>
#include <utility>

#include "broker/confine/lsm/lsm.h"
#include "broker/confine/untracked.h"

namespace mapcap::broker::mint {
namespace {

using wire::Kind;

/// The process is exempt from the programs: it opens what is marked by itself.
class LsmByMint final : public confine::UntrackedConfiner {
 public:
  LsmByMint(Link& link, Worker& worker) : link_(link), worker_(worker) {}

  [[nodiscard]] Confinement kind() const override { return Confinement::lsm; }
  [[nodiscard]] bool guards_holes(RegionId region) const override { return attached(region); }

  /// The mint is asked once for each region, off the loop: a mark stays as long as the file is in the kernel's memory,
  /// where the descriptor that attach keeps holds it.
  Task<Result<confine::Issued>> issue(RegionId region, confine::Label label, BorrowedFd memory,
                                      confine::Backing backing) override {
    if (memory.valid() && !attached(region)) {
      const auto mark = [this, memory, backing] { return admit(memory, backing); };
      MAPCAP_CO_TRY_VOID(co_await worker_.run(mark));
      MAPCAP_CO_TRY_VOID(keep(region, memory));
    }
    co_return co_await UntrackedConfiner::issue(region, std::move(label), BorrowedFd(), backing);
  }

 protected:
  Result<void> admit(BorrowedFd fd, confine::Backing backing) override {
    MAPCAP_TRY_VOID(confine::prepare_for_lsm(fd, backing));
    MAPCAP_TRY_VOID(link_.ask(Kind::lsm_mark, 0, "", std::span(&fd, 1), Link::kAtOnce));
    return ok();
  }
  Result<Fd> open(BorrowedFd fd, Access rights) override { return confine::reopen(fd, rights); }

 private:
  Link& link_;
  Worker& worker_;
};

}  // namespace

Result<std::unique_ptr<confine::Confiner>> make_lsm(Link& link, Worker& worker) {
  MAPCAP_TRY_VOID(link.ask(Kind::lsm_start, 0, "", {}, Link::kPatient));
  return std::unique_ptr<confine::Confiner>(std::make_unique<LsmByMint>(link, worker));
}

}  // namespace mapcap::broker::mint
