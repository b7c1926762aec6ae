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
    MAPCAP_TRY_VOID(prepare_for_lsm(fd, backing));
    return lsm::mark(maps_, fd);
  }

  Result<Fd> open(BorrowedFd fd, Access rights) override { return reopen(fd, rights); }

 private:
  lsm::Maps maps_;
};

constexpr unsigned kModeOfMarked = 0600;

Result<struct stat> look_at(BorrowedFd fd) {
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return io_error("fstat of a region's memory", errno);
  if (!S_ISREG(status.st_mode)) {
    return failure(ErrorCode::unsupported, "only memory and files can be confined by lsm");
  }
  if (status.st_uid != 0) {
    return failure(ErrorCode::unsupported, "only files of root can be confined by lsm, not one of user " +
                                               std::to_string(status.st_uid) + ": give it to root");
  }
  return status;
}

}  // namespace

Result<void> prepare_for_lsm(BorrowedFd file, Backing backing) {
  if (backing == Backing::foreign) {
    return failure(ErrorCode::unsupported,
                   "confinement lsm would take a file away from its owner: use a clone of it");
  }
  MAPCAP_TRY(const struct stat status, look_at(file));
  // The programs look for marks only on files with exactly this mode.
  if ((status.st_mode & 07777U) != kModeOfMarked && ::fchmod(file.get(), kModeOfMarked) != 0)
    return io_error("fchmod of a region's memory", errno);
  return ok();
}

std::string lsm_unavailable() {
  if (std::string why = lsm::kernel_lacks(); !why.empty()) return why;
  if (Result<void> tried = lsm::try_programs(); !tried) return tried.error().sentence;
  return {};
}

namespace {

Result<lsm::Maps> attach_and_try(const LsmOptions& options) {
  if (std::string why = lsm::kernel_lacks(); !why.empty()) {
    return failure(ErrorCode::unsupported, std::move(why));
  }
  MAPCAP_TRY(lsm::Maps maps, lsm::find_or_attach(options.pins));
  MAPCAP_TRY_VOID(lsm::test(maps));
  return maps;
}

}  // namespace

Result<std::unique_ptr<Confiner>> make_lsm(const LsmOptions& options) {
  MAPCAP_TRY(lsm::Maps maps, attach_and_try(options));
  return std::unique_ptr<Confiner>(std::make_unique<LsmConfiner>(std::move(maps)));
}

Result<void> start_lsm(BorrowedFd process, const LsmOptions& options) {
  MAPCAP_TRY(const lsm::Maps maps, attach_and_try(options));
  return lsm::exempt(maps, process);
}

Result<void> mark_for_lsm(BorrowedFd file, const LsmOptions& options) {
  MAPCAP_TRY(const struct stat status, look_at(file));
  if ((status.st_mode & 07777U) != kModeOfMarked)
    return failure(ErrorCode::unsupported, "only a file with mode 0600 can be marked for the LSM programs");
  MAPCAP_TRY(const lsm::Maps maps, lsm::pinned_maps(options.pins));
  if (!maps.marks.valid())
    return failure(ErrorCode::unsupported, "the LSM programs' pins are gone from " + options.pins +
                                               ": restart mapcapd, and find out who removed them");
  return lsm::mark(maps, file);
}

}  // namespace mapcap::broker::confine
