#include "broker/confine/lsm/lsm.h"

#include <bpf/bpf.h>
#include <sys/stat.h>

#include <cerrno>

#include "broker/confine/lsm/kernel.h"
#include "broker/confine/lsm/programs.h"
#include "broker/confine/lsm/self_test.h"
#include "broker/confine/untracked.h"

namespace mapcap::broker::confine {
namespace {

class LsmConfiner final : public UntrackedConfiner {
 public:
  explicit LsmConfiner(lsm::Maps maps) : maps_(std::move(maps)) {}

  [[nodiscard]] Confinement kind() const override { return Confinement::lsm; }
  /// MADV_REMOVE is a fallocate of the file, which file_permission refuses.
  [[nodiscard]] bool guards_holes(RegionId region) const override { return attached(region); }

 protected:
  Result<void> admit(BorrowedFd fd, Backing backing) override {
    if (backing == Backing::foreign) {
      return failure(ErrorCode::unsupported,
                     "confinement lsm would take a file away from its owner: use a clone of it");
    }
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return io_error("fstat of a region's memory", errno);
    if (!S_ISREG(status.st_mode)) {
      return failure(ErrorCode::unsupported, "only memory and files can be confined by lsm");
    }
    if (status.st_uid != 0) {
      return failure(ErrorCode::unsupported, "only files of root can be confined by lsm, not one of user " +
                                                 std::to_string(status.st_uid) + ": give it to root");
    }
    // The programs look for marks only on files with exactly this mode.
    if ((status.st_mode & 07777U) != 0600U && ::fchmod(fd.get(), 0600) != 0) {
      return io_error("fchmod of a region's memory", errno);
    }
    return lsm::mark(maps_, fd);
  }

  Result<Fd> open(BorrowedFd fd, Access rights) override { return reopen(fd, rights); }

 private:
  lsm::Maps maps_;
};

}  // namespace

std::string lsm_unavailable() {
  if (std::string why = lsm::kernel_lacks(); !why.empty()) return why;
  if (Result<void> tried = lsm::try_programs(); !tried) return tried.error().sentence;
  return {};
}

Result<std::unique_ptr<Confiner>> make_lsm(const LsmOptions& options) {
  if (std::string why = lsm::kernel_lacks(); !why.empty()) {
    return failure(ErrorCode::unsupported, std::move(why));
  }
  MAPCAP_TRY(lsm::Maps maps, lsm::find_or_attach(options.pins));
  MAPCAP_TRY_VOID(lsm::test(maps));
  return std::unique_ptr<Confiner>(std::make_unique<LsmConfiner>(std::move(maps)));
}

}  // namespace mapcap::broker::confine
