#include "broker/keeper/forge.h"

#include "broker/keeper/fuse/mount.h"

namespace mapcap::broker::keeper {
namespace {

class OwnForge final : public Forge {
 public:
  Result<KeeperHandle> start_keeper(BorrowedFd directory, const NewKeeper& wanted) override {
    return fork_keeper(directory, wanted.request_timeout, wanted.idle, wanted.accounts, wanted.socket_name);
  }
  Result<std::int32_t> open_backing(BorrowedFd device, BorrowedFd file) override {
    return keeper::open_backing(device, file);
  }
  Result<std::vector<std::int32_t>> open_backings(BorrowedFd device,
                                                  std::span<const BorrowedFd> files) override {
    std::vector<std::int32_t> ids;
    for (const BorrowedFd file : files) {
      Result<std::int32_t> id = keeper::open_backing(device, file);
      if (!id) {
        close_backings(device, ids);
        return id.error();
      }
      ids.push_back(id.value());
    }
    return ids;
  }
  void close_backings(BorrowedFd device, std::span<const std::int32_t> ids) override {
    for (const std::int32_t id : ids) close_backing(device, id);
  }
  void bury_backing(BorrowedFd device, std::int32_t backing_id) override {
    close_backing(device, backing_id);
  }
};

}  // namespace

std::shared_ptr<Forge> own_forge() {
  return std::make_shared<OwnForge>();
}

}  // namespace mapcap::broker::keeper
