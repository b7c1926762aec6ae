#include "broker/confine/sealed.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "broker/confine/untracked.h"

namespace mapcap::broker::confine {
namespace {

class SealedConfiner final : public UntrackedConfiner {
 public:
  [[nodiscard]] Confinement kind() const override { return Confinement::sealed; }

 protected:
  Result<void> admit(BorrowedFd fd, Backing backing) override {
    if (backing == Backing::foreign) return ok();
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return io_error("fstat of a region's memory", errno);
    if (!S_ISREG(status.st_mode)) {
      return failure(ErrorCode::unsupported,
                     "only memory and files can be issued with confinement = \"sealed\"");
    }
    // A memfd is born 0777: a read-only holder would reopen it writable through /proc/self/fd. Its owner is
    // the broker, so 0600 keeps everybody else out.
    if ((status.st_mode & 0777U) != 0600U && ::fchmod(fd.get(), 0600) != 0) {
      return io_error("fchmod of a region's memory", errno);
    }
    // Its holders could add seals that make a revoke impossible. What is no memfd, or has been closed, stays so.
    const int seals = ::fcntl(fd.get(), F_GET_SEALS);
    if (seals >= 0 && (seals & F_SEAL_SEAL) == 0 && ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SEAL) != 0)
      return io_error("closing the seals of a memfd", errno);
    return ok();
  }

  Result<Fd> open(BorrowedFd fd, Access rights) override { return reopen(fd, rights); }
};

}  // namespace

std::unique_ptr<Confiner> make_sealed() {
  return std::make_unique<SealedConfiner>();
}

}  // namespace mapcap::broker::confine
