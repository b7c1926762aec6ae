#include "broker/mint/forge.h"

#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <utility>
#include <vector>

namespace mapcap::broker::mint {
namespace {

using wire::Kind;

Failure no_sense() {
  return failure(ErrorCode::malformed, "what the mint answered makes no sense");
}

class MintForge final : public keeper::Forge {
 public:
  explicit MintForge(Link& link) : link_(link) {}

  Result<keeper::KeeperHandle> start_keeper(BorrowedFd, const keeper::NewKeeper& wanted) override {
    const std::uint64_t idle = wanted.idle ? static_cast<std::uint64_t>(wanted.idle->count()) + 1 : 0;
    MAPCAP_TRY(Link::Heard heard, link_.ask(Kind::start_keeper, idle, wanted.socket_name, {}, Link::kInTime,
                                            static_cast<std::uint64_t>(wanted.request_timeout.count())));
    const std::size_t count = heard.fds.size();
    keeper::KeeperHandle keeper;
    if (count < wire::kKeeperWithoutClones) return no_sense();
    keeper.pid = static_cast<int>(heard.answer.numbers[0]);
    keeper.socket = std::move(heard.fds[0]);
    keeper.process = std::move(heard.fds[1]);
    if (count == wire::kKeeperWithClones) {
      MAPCAP_TRY(keeper::IssuingPage page, keeper::IssuingPage::map(std::move(heard.fds[2])));
      keeper.clone.device = std::move(heard.fds[3]);
      keeper.clone.path = std::make_shared<keeper::IssuePath>(std::move(heard.fds[4]), std::move(page));
      keeper.clone.next_grant = heard.answer.numbers[1];
      return keeper;
    }
    keeper.clone_unavailable = *wire::text_in(heard.answer.text);
    if (count != wire::kKeeperWithoutClones || keeper.clone_unavailable.empty()) return no_sense();
    return keeper;
  }

  Result<std::int32_t> open_backing(BorrowedFd device, BorrowedFd file) override {
    const BorrowedFd fds[] = {device, file};
    MAPCAP_TRY(const Link::Heard heard, link_.ask(Kind::open_backing, 0, "", fds, Link::kAtOnce));
    const std::uint64_t id = heard.answer.numbers[0];
    if (id == 0 || id > std::numeric_limits<std::int32_t>::max()) return no_sense();
    return static_cast<std::int32_t>(id);
  }

  Result<std::vector<std::int32_t>> open_backings(BorrowedFd device,
                                                  std::span<const BorrowedFd> files) override {
    std::vector<std::int32_t> ids;
    while (ids.size() < files.size()) {
      const std::span<const BorrowedFd> left = files.subspan(ids.size());
      const bool together = left.size() >= wire::kOpenedTogether;
      Result<std::vector<std::int32_t>> some =
          together ? open_together(device, left.first<wire::kOpenedTogether>()) : open_one(device, left[0]);
      if (!some) {
        close_backings(device, ids);
        return some.error();
      }
      ids.insert(ids.end(), some.value().begin(), some.value().end());
    }
    return ids;
  }

  void close_backings(BorrowedFd device, std::span<const std::int32_t> ids) override {
    if (!device.valid()) return;  // The connection is gone, and with it its ids.
    for (; !ids.empty(); ids = ids.subspan(std::min(ids.size(), wire::kMostIds))) {
      wire::Request request;
      request.kind = Kind::close_backings;
      wire::put_ids(request.text, ids.first(std::min(ids.size(), wire::kMostIds)));
      (void)link_.ask(request, std::span(&device, 1), Link::kAtOnce);
    }
  }

  void bury_backing(BorrowedFd device, std::int32_t backing_id) override {
    if (!device.valid()) return;
    (void)link_.ask(Kind::bury_backing, static_cast<std::uint64_t>(backing_id), "", std::span(&device, 1),
                    Link::kPatient);
  }

 private:
  Result<std::vector<std::int32_t>> open_together(BorrowedFd device,
                                                  std::span<const BorrowedFd, wire::kOpenedTogether> files) {
    std::array<BorrowedFd, 1 + wire::kOpenedTogether> fds;
    fds[0] = device;
    std::copy(files.begin(), files.end(), fds.begin() + 1);
    MAPCAP_TRY(const Link::Heard heard, link_.ask(Kind::open_backings, 0, "", fds, Link::kAtOnce));
    std::vector<std::int32_t> ids = wire::pairs_in(heard.answer.numbers);
    if (ids.empty()) return no_sense();
    return ids;
  }
  Result<std::vector<std::int32_t>> open_one(BorrowedFd device, BorrowedFd file) {
    MAPCAP_TRY(const std::int32_t id, open_backing(device, file));
    return std::vector<std::int32_t>{id};
  }

  Link& link_;
};

}  // namespace

std::shared_ptr<keeper::Forge> make_forge(Link& link) {
  return std::make_shared<MintForge>(link);
}

}  // namespace mapcap::broker::mint
