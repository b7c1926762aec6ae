// Who asks. Promise 11: identity comes from the kernel, so a Subject can only be made from a socket.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "mapcap/fd.h"
#include "policy/peer_label.h"
#include "policy/subordinates.h"

namespace mapcap::policy {

/// The account that administrators' turns, shares and connections count on. Nobody's uid: root of a
/// container, who is uid 0 too, must not use up what the machine's administrator needs to stop it.
inline constexpr std::uint32_t kAdministrators = 0xFFFFFFFF;

/// What "{user}" in a rule's names stands for (Subject::user).
std::string name_in_rules(std::uint32_t uid, std::string_view name);

struct Endpoint;  // endpoint.h

/// One peer as the kernel attests it, at the moment it connected. Move-only, because it owns the peer's
/// pidfd.
class Subject {
 public:
  /// Of a connected Unix socket: SO_PEERCRED, SO_PEERGROUPS, SO_PEERPIDFD (Linux 6.5). Without a name: what
  /// the machine's accounts call the user may take long to find out. `socket` is only looked at. Errors:
  /// `io`.
  static Result<Subject> of_peer(BorrowedFd socket);

  /// Whoever came by an endpoint's socket, whatever uid it has: its number, its group, no other. Errors:
  /// `io`.
  static Result<Subject> by_endpoint(std::shared_ptr<const Endpoint> endpoint, BorrowedFd socket);
  /// The same with nothing attested, for explanations and tests.
  static Subject by_endpoint(std::shared_ptr<const Endpoint> endpoint);

  /// Who made an endpoint and need not be there any more: as he was attested then, or as the machine's
  /// accounts have him.
  struct Maker {
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::vector<std::uint32_t> groups;
    std::string name;
    bool administrator = false;
  };
  static Subject absent(Maker maker);

  /// Who it is and no more, which is all that a refusal needs. Errors: `io`.
  struct Ids {
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    pid_t pid = 0;
  };
  static Result<Ids> ids_of_peer(BorrowedFd socket);

  /// The identity that `user` (a name, or a number) would have, for `policy explain` and tests only: nothing
  /// is attested. Errors: `not_found` for a name that the machine does not know; a number needs no account.
  static Result<Subject> for_explanation(std::string_view user);
  /// The same with nothing looked up. It runs in no unit.
  static Subject for_explanation(std::uint32_t uid, std::uint32_t gid, std::vector<std::uint32_t> groups,
                                 std::string_view user_name);

  /// What the machine's accounts call the user; empty for nothing.
  void set_name(std::string_view name);

  /// Of an endpoint its number.
  [[nodiscard]] std::uint32_t uid() const { return uid_; }
  /// The endpoint that it came by; null for a user.
  [[nodiscard]] const Endpoint* endpoint() const { return endpoint_.get(); }
  /// By whose leave: an endpoint's maker, else itself.
  [[nodiscard]] const Subject& authority() const;
  /// uid 0 with the machine's power (power.h), when it connected and when it was last looked at. An
  /// explanation takes uid 0 for that.
  [[nodiscard]] bool administrator() const { return administrator_; }
  /// Looks at an administrator again: a service manager that connects for a service becomes that service.
  /// Nobody becomes an administrator by it.
  void look_again();
  /// The primary group.
  [[nodiscard]] std::uint32_t gid() const { return gid_; }
  /// All groups, the primary one included; sorted, without duplicates.
  [[nodiscard]] const std::vector<std::uint32_t>& groups() const { return *groups_; }
  /// The same, for whoever needs them longer than the connection lasts.
  [[nodiscard]] const std::shared_ptr<const std::vector<std::uint32_t>>& shared_groups() const {
    return groups_;
  }
  [[nodiscard]] bool in_group(std::uint32_t gid) const;
  /// 0 when the peer lives in a pid namespace that cannot be seen, and for an explanation.
  [[nodiscard]] pid_t pid() const { return pid_; }
  /// Not valid on kernels without SO_PEERPIDFD (but for uid 0), for a peer that is gone, and for an
  /// explanation.
  [[nodiscard]] BorrowedFd pidfd() const { return pidfd_.borrow(); }

  /// Who was lent the uid: denials about him and his groups are about this subject too. Null: nobody. An explanation
  /// takes what the machine says now.
  [[nodiscard]] const Lender* lender() const { return lender_.get(); }
  void set_lender(std::shared_ptr<const Lender> lender) { lender_ = std::move(lender); }
  /// What it looks like to people, and where it runs, which denials may be about (place.h); of a peer empty until it
  /// was set.
  [[nodiscard]] const PeerLabel& label() const { return *label_; }
  /// The same, for whoever needs it longer than the connection lasts.
  [[nodiscard]] const std::shared_ptr<const PeerLabel>& shared_label() const { return label_; }
  void set_label(PeerLabel label) { label_ = std::make_shared<const PeerLabel>(std::move(label)); }

  /// What "{user}" in a rule's names stands for: the user's name when it may be a component of a region name
  /// and is not a number (so that nobody can be called like somebody else's uid), else the decimal uid.
  [[nodiscard]] const std::string& user() const { return user_; }
  /// "user alice", "user 1000", "user 100000 (lent to alice)", "user root (no administrator: why)", "endpoint
  /// reader-1": for sentences.
  [[nodiscard]] std::string describe() const;

 private:
  Subject() = default;

  std::shared_ptr<const Endpoint> endpoint_;
  std::uint32_t uid_ = 0;
  std::uint32_t gid_ = 0;
  std::shared_ptr<const std::vector<std::uint32_t>> groups_;
  pid_t pid_ = 0;
  Fd pidfd_;
  std::string user_;
  bool administrator_ = false;
  std::shared_ptr<const Lender> lender_;
  std::shared_ptr<const PeerLabel> label_ = std::make_shared<const PeerLabel>();
  std::string powerless_;  ///< Of uid 0: why it is no administrator.
};

}  // namespace mapcap::policy
