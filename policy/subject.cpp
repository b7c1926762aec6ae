#include "policy/subject.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>

#include "base/newer_linux.h"
#include "policy/accounts.h"
#include "policy/endpoint.h"
#include "policy/power.h"
#include "schema/region_name.h"

namespace mapcap::policy {
namespace {

Result<ucred> peer_credentials(BorrowedFd socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return io_error("getsockopt SO_PEERCRED", errno);
  }
  // What a socket without a peer answers.
  if (credentials.uid == static_cast<uid_t>(-1)) return io_error("getsockopt SO_PEERCRED", ENOTCONN);
  return credentials;
}

Result<std::vector<std::uint32_t>> peer_groups(BorrowedFd socket) {
  std::vector<gid_t> groups(32);
  while (true) {
    auto size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    const int result = ::getsockopt(socket.get(), SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
    const int fault = errno;
    if (result != 0 && fault == ENODATA) return std::vector<std::uint32_t>();
    if (result != 0 && fault != ERANGE) return io_error("getsockopt SO_PEERGROUPS", fault);
    groups.resize(size / sizeof(gid_t));  // ERANGE tells the size that is needed: at most 65,536 groups
    if (result == 0) return groups;
  }
}

/// Not valid where the kernel has none to give: the pid still names the peer in reports. Of uid 0 before
/// Linux 6.5 it is the process that has the number now. To be taken for an administrator, a peer would have
/// to end after its connect(2) and have its number reach a root process before the accept: all numbers of the
/// machine must be used up in that time.
Fd peer_pidfd(BorrowedFd socket, const ucred& peer) {
  int pidfd = -1;
  socklen_t size = sizeof pidfd;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0) return Fd(pidfd);
  if (errno != ENOPROTOOPT || peer.uid != 0 || peer.pid <= 0) return {};
  return Fd(static_cast<int>(::syscall(SYS_pidfd_open, peer.pid, 0)));
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::vector<std::uint32_t> sorted_with(std::vector<std::uint32_t> groups, std::uint32_t primary) {
  groups.push_back(primary);
  std::sort(groups.begin(), groups.end());
  groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
  return groups;
}

}  // namespace

/// The alphabet of region names also keeps glob characters of exotic user names out of patterns.
std::string name_in_rules(std::uint32_t uid, std::string_view name) {
  const bool usable = schema::RegionName::parse(name).has_value() && name.find('/') == std::string_view::npos;
  return usable && !is_number(name) ? std::string(name) : std::to_string(uid);
}

Result<Subject::Ids> Subject::ids_of_peer(BorrowedFd socket) {
  MAPCAP_TRY(const ucred credentials, peer_credentials(socket));
  return Ids{credentials.uid, credentials.gid, credentials.pid};
}

Result<Subject> Subject::of_peer(BorrowedFd socket) {
  MAPCAP_TRY(const ucred credentials, peer_credentials(socket));
  MAPCAP_TRY(std::vector<std::uint32_t> groups, peer_groups(socket));
  Subject subject = for_explanation(credentials.uid, credentials.gid, std::move(groups), "");
  subject.pid_ = credentials.pid;
  subject.pidfd_ = peer_pidfd(socket, credentials);
  subject.set_label({});
  subject.look_again();
  return subject;
}

Result<Subject> Subject::by_endpoint(std::shared_ptr<const Endpoint> endpoint, BorrowedFd socket) {
  MAPCAP_TRY(const ucred credentials, peer_credentials(socket));
  Subject subject = by_endpoint(std::move(endpoint));
  subject.pid_ = credentials.pid;
  subject.pidfd_ = peer_pidfd(socket, credentials);
  subject.set_label({});
  return subject;
}

Subject Subject::by_endpoint(std::shared_ptr<const Endpoint> endpoint) {
  Subject subject = for_explanation(endpoint->principal, endpoint->principal, {}, "");
  subject.user_ = endpoint->id;
  subject.endpoint_ = std::move(endpoint);
  return subject;
}

Subject Subject::absent(Maker maker) {
  Subject subject = for_explanation(maker.uid, maker.gid, std::move(maker.groups), maker.name);
  subject.administrator_ = maker.administrator;
  return subject;
}

Result<Subject> Subject::for_explanation(std::string_view user) {
  std::optional<Account> account = find_account(std::string(user));
  std::uint32_t uid = 0;
  const auto [end, fault] = std::from_chars(user.data(), user.data() + user.size(), uid);
  const bool number = fault == std::errc() && end == user.data() + user.size();
  if (!account && number) account = find_account(uid);
  const auto as_the_broker = [](Subject subject) {
    subject.set_lender(Subordinates::of_machine().lender_of(subject.uid()));
    return subject;
  };
  if (account)
    return as_the_broker(for_explanation(account->uid, account->gid, groups_of(*account), account->name));
  if (number) return as_the_broker(for_explanation(uid, uid, {}, ""));
  return failure(ErrorCode::not_found, "user \"" + std::string(user) + "\" is not known on this machine");
}

Subject Subject::for_explanation(std::uint32_t uid, std::uint32_t gid, std::vector<std::uint32_t> groups,
                                 std::string_view user_name) {
  Subject subject;
  subject.uid_ = uid;
  subject.gid_ = gid;
  subject.groups_ = std::make_shared<const std::vector<std::uint32_t>>(sorted_with(std::move(groups), gid));
  subject.set_name(user_name);
  subject.administrator_ = uid == 0;
  PeerLabel root;
  root.cgroup = "/";
  subject.set_label(std::move(root));
  return subject;
}

void Subject::look_again() {
  if (!administrator_) return;
  powerless_ = why_powerless(pid_, pidfd_.borrow());
  administrator_ = powerless_.empty();
}

const Subject& Subject::authority() const {
  return endpoint_ ? endpoint_->maker : *this;
}

std::string Subject::describe() const {
  if (endpoint_) return "endpoint " + endpoint_->id;
  std::string text = "user " + user_;
  if (lender_)
    text += " (lent to " + (lender_->name.empty() ? std::to_string(lender_->uid) : lender_->name) + ")";
  return powerless_.empty() ? text : text + " (no administrator: " + powerless_ + ")";
}

void Subject::set_name(std::string_view name) {
  if (endpoint_) return;
  user_ = name_in_rules(uid_, name);
}

bool Subject::in_group(std::uint32_t gid) const {
  return std::binary_search(groups_->begin(), groups_->end(), gid);
}

}  // namespace mapcap::policy
