#include "broker/keeper/fuse/server.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <string_view>

#include "broker/keeper/label_blob.h"
#include "broker/keeper/node_name.h"
#include "broker/keeper/wire.h"

namespace mapcap::broker::keeper {
namespace {

// Direct I/O overrides passthrough for read and write, which therefore come here and are refused; mmap goes
// to the backing. Leaving it out of a single open would give that descriptor read and write.
constexpr std::uint32_t kOpenFlags = fuse::kDirectIo | fuse::kNoFlush | fuse::kOpenPassthrough;
/// Without a backing: mmap comes here too.
constexpr std::uint32_t kUnbackedFlags = fuse::kDirectIo | fuse::kNoFlush;

/// Attributes never change while a grant lives.
constexpr std::uint64_t kForEverSeconds = 1ULL << 30U;

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

/// Large enough for what arrives, small enough for a listing.
constexpr std::size_t kMostHeldBody = 512;

}  // namespace

FuseServer::Time FuseServer::now() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

FuseServer::Served FuseServer::serve(std::size_t limit, Time now) {
  for (std::size_t i = 0; i < limit; ++i) {
    const ssize_t got = ::read(device_.get(), buffer_.data(), buffer_.size());
    if (got < 0) {
      if (errno == EAGAIN) return Served::drained;
      // ENOENT: the request was interrupted before it was read. Others end the connection: ENODEV after an
      // abort.
      if (errno == EINTR || errno == ENOENT) continue;
      return Served::ended;
    }
    std::span<const std::byte> request(buffer_.data(), static_cast<std::size_t>(got));
    const auto header = wire::take<fuse_in_header>(request);
    if (!header || header->len != static_cast<std::size_t>(got)) return Served::ended;
    const bool issuing = handle(*header, request, now);
    if (ended_) return Served::ended;
    if (issuing) return Served::drained;  // That thread has one at a time.
  }
  return Served::more;
}

bool FuseServer::handle(const fuse_in_header& header, Payload body, Time now) {
  switch (header.opcode) {
    case FUSE_FORGET:
      if (const auto in = wire::take<fuse_forget_in>(body)) forget(header.nodeid, in->nlookup);
      return false;  // The kernel expects no answer.
    case FUSE_BATCH_FORGET:
      forget_batch(body);
      return false;
    case FUSE_INTERRUPT:
      // Everything is answered soon, at the latest after Throttle::kLongest. Answering earlier would let a
      // flooder out of its wait by signals.
      return false;
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_DESTROY:
      reply(header.unique, 0);
      return false;
    default:
      break;
  }
  // Uid and thread id: the uid alone would let every process of root's in, the thread id alone a recycled
  // one.
  const bool issuing = header.uid == 0 && page_.is_issuer(static_cast<pid_t>(header.pid));
  if (issuing && handle_issuer(header, body)) return true;
  const Time hold = throttle_.charge(accounts_.account_of(header.uid), now);
  if (hold == Time::zero()) {
    handle_holder(header, body);
    return false;
  }
  const std::size_t keep = std::min(body.size(), kMostHeldBody);
  held_.emplace(now + hold, Held{header, {body.begin(), body.begin() + static_cast<std::ptrdiff_t>(keep)}});
  return false;
}

bool FuseServer::handle_issuer(const fuse_in_header& header, Payload body) {
  switch (header.opcode) {
    case FUSE_LOOKUP:
      look_up(header, body);
      return true;
    case FUSE_TMPFILE:
      open_tmpfile(header);
      return true;
    case FUSE_OPEN:
      open_node(header, body);
      return true;
    case FUSE_GETATTR:
      get_attributes(header);
      return true;
    default:
      return false;
  }
}

void FuseServer::handle_holder(const fuse_in_header& header, Payload body) {
  switch (header.opcode) {
    case FUSE_GETATTR:
      return get_attributes(header);
    case FUSE_GETXATTR:
      return get_xattr(header, body);
    case FUSE_LISTXATTR:
      return list_xattr(header, body);
    case FUSE_STATFS:
      return stat_filesystem(header);
    // The kernel remembers ENOSYS and does not ask again. With EPERM one io_uring read makes some 255
    // requests.
    case FUSE_POLL:
    case FUSE_LSEEK:
    case FUSE_SETXATTR:
    case FUSE_REMOVEXATTR:
    case FUSE_FLUSH:
    case fuse::kStatxOpcode:
      reply(header.unique, ENOSYS);
      return;
    default:
      reply(header.unique, EPERM);
      return;
  }
}

FuseServer::Node* FuseServer::make_node(std::optional<Opening> opening) {
  if (!opening || opening->grant <= FUSE_ROOT_ID || nodes_.contains(opening->grant)) return nullptr;
  Shared& shared = shared_[opening->region.value];
  ++shared.nodes;
  // Nothing unpublishes: what is known already stays known.
  if (opening->published_unix_ns != 0) shared.published_unix_ns = opening->published_unix_ns;
  // A broker that has no board may have found the page of one that had.
  const bool is_ahead = board_ && opening->place;
  Node& node = nodes_[opening->grant];
  node.region = opening->region;
  node.size = opening->size;
  node.lookups = 1;
  node.backing_id = opening->backing_id;
  node.holder = opening->holder;
  node.rights = opening->rights;
  if (is_ahead) {
    node.place = opening->place;
    nobodys_.insert(opening->grant);
  }
  if (is_ahead && !opening->of_region) {
    blanks_[opening->region.value] = opening->grant;
    opened_.emplace_back(opening->region, opening->backing_id);
  } else {
    set_label(node, std::move(opening->label));
  }
  last_grant_ = std::max(last_grant_, opening->grant);
  return &node;
}

void FuseServer::look_up(const fuse_in_header& header, Payload body) {
  std::optional<Opening> opening = page_.opening();
  // SAFETY: the bytes are looked at as characters, up to the first NUL or the end of the request.
  const std::string_view text(reinterpret_cast<const char*>(body.data()), body.size());
  const bool fits = opening && header.nodeid == FUSE_ROOT_ID && opening->rights == Access::read_only &&
                    text.substr(0, text.find('\0')) == node_name(name_in(opening->label), opening->grant);
  const confine::GrantId grant = opening ? opening->grant : 0;
  Node* node = fits ? make_node(std::move(opening)) : nullptr;
  if (node == nullptr) {
    reply(header.unique, EPERM);
    return;
  }
  node->named = true;
  if (!node->place) last_asked_for_ = grant;
  fuse_entry_out entry{};  // The name means nothing to whoever looks again.
  entry.nodeid = grant;
  entry.attr_valid = valid_for(*node);
  entry.attr = attributes_of(grant);
  // An answer that nobody takes made no inode: there will be no FORGET.
  if (!reply(header.unique, 0, bytes_of(entry))) forget(grant, 1);
}

std::vector<std::string> FuseServer::names_left() const {
  std::vector<std::string> names;
  for (const auto& [grant, node] : nodes_) {
    // What was made ahead is given to nobody before it has lost its name; what was asked for loses it before the next is opened.
    if (node.named && node.label && (node.place || grant == last_asked_for_))
      names.push_back(node_name(name_in(*node.label), grant));
  }
  return names;
}

void FuseServer::open_tmpfile(const fuse_in_header& header) {
  const std::optional<Opening> opening = page_.opening();
  const Node* made = make_node(opening);
  if (made == nullptr) {
    reply(header.unique, EPERM);
    return;
  }
  struct {
    fuse_entry_out entry;
    fuse::OpenOut open;
  } out{};
  static_assert(sizeof out == sizeof(fuse_entry_out) + sizeof(fuse::OpenOut));
  out.entry.nodeid = opening->grant;
  out.entry.attr_valid = valid_for(*made);
  out.entry.attr = attributes_of(opening->grant);
  // The kernel opens the backing as the node is opened, and an O_TMPFILE is always opened for writing: that
  // would break leases, keep programs from being run, and be told as a write. For a read-only grant only the
  // second open, which is for reading, has the backing.
  const bool backed = opening->rights == Access::read_write;
  out.open.open_flags = backed ? kOpenFlags : kUnbackedFlags;
  out.open.backing_id = backed ? opening->backing_id : 0;
  // An answer that nobody takes made no inode: there will be no FORGET.
  if (!reply(header.unique, 0, bytes_of(out))) forget(opening->grant, 1);
}

void FuseServer::open_node(const fuse_in_header& header, Payload body) {
  const auto in = wire::take<fuse_open_in>(body);
  const std::optional<Opening> opening = page_.opening();
  const auto node = nodes_.find(header.nodeid);
  if (!in || !opening || opening->grant != header.nodeid || node == nodes_.end() ||
      (in->flags & O_ACCMODE) != O_RDONLY) {
    reply(header.unique, EPERM);
    return;
  }
  fuse::OpenOut out{};
  out.open_flags = kOpenFlags;
  out.backing_id = node->second.backing_id;  // A node takes exactly one backing while it is open.
  reply(header.unique, 0, bytes_of(out));
}

fuse_attr FuseServer::attributes_of(std::uint64_t node) const {
  fuse_attr attr{};
  attr.ino = node;
  attr.blksize = kPageSize;
  if (node == FUSE_ROOT_ID) {
    attr.mode = S_IFDIR | 0700;
    attr.nlink = 2;
    return attr;
  }
  // Owned by root with no rights for others: no holder can reopen it, whatever its own descriptor's rights.
  attr.mode = S_IFREG | 0600;
  if (const auto found = nodes_.find(node); found != nodes_.end()) {
    attr.size = found->second.size.value;
    attr.blocks = found->second.size.value / 512;
  }
  return attr;
}

void FuseServer::get_attributes(const fuse_in_header& header) {
  const Node* node = find(header.nodeid);
  if (header.nodeid != FUSE_ROOT_ID && node == nullptr) {
    reply(header.unique, ESTALE);
    return;
  }
  fuse_attr_out out{};
  out.attr_valid = node != nullptr ? valid_for(*node) : kForEverSeconds;
  out.attr = attributes_of(header.nodeid);
  reply(header.unique, 0, bytes_of(out));
}

void FuseServer::get_xattr(const fuse_in_header& header, Payload body) {
  const auto in = wire::take<fuse_getxattr_in>(body);
  const Node* node = find(header.nodeid);
  if (!in || node == nullptr || !node->label) {
    reply(header.unique, ENODATA);
    return;
  }
  // SAFETY: the bytes are looked at as characters, up to the first NUL or the end of the request.
  const std::string_view text(reinterpret_cast<const char*>(body.data()), body.size());
  const Node& about = *node;
  const auto value = attribute(text.substr(0, text.find('\0')), *about.label,
                               {about.size, about.rights, shared_.at(about.region.value).published_unix_ns});
  if (!value) {
    reply(header.unique, ENODATA);
  } else if (in->size == 0) {
    fuse_getxattr_out out{};
    out.size = static_cast<std::uint32_t>(value->size());
    reply(header.unique, 0, bytes_of(out));
  } else if (in->size < value->size()) {
    reply(header.unique, ERANGE);
  } else {
    reply(header.unique, 0, std::as_bytes(std::span(*value)));
  }
}

void FuseServer::list_xattr(const fuse_in_header& header, Payload body) {
  const auto in = wire::take<fuse_getxattr_in>(body);
  const Node* node = find(header.nodeid);
  const std::string_view names = node != nullptr && node->label ? attribute_names() : std::string_view();
  if (!in || in->size == 0) {
    fuse_getxattr_out out{};
    out.size = static_cast<std::uint32_t>(names.size());
    reply(header.unique, 0, bytes_of(out));
  } else if (in->size < names.size()) {
    reply(header.unique, ERANGE);
  } else {
    reply(header.unique, 0, std::as_bytes(std::span(names)));
  }
}

void FuseServer::stat_filesystem(const fuse_in_header& header) {
  fuse_statfs_out out{};
  out.st.bsize = kPageSize;
  out.st.frsize = kPageSize;
  out.st.namelen = 255;
  reply(header.unique, 0, bytes_of(out));
}

void FuseServer::forget(std::uint64_t node, std::uint64_t lookups) {
  const auto found = nodes_.find(node);
  if (found == nodes_.end()) return;
  if (lookups < found->second.lookups) {
    found->second.lookups -= lookups;
    return;
  }
  settle(node, found->second);
  const std::uint64_t region = found->second.region.value;
  nobodys_.erase(node);
  nodes_.erase(found);
  if (const auto shared = shared_.find(region); --shared->second.nodes == 0) shared_.erase(shared);
  released_.push_back(node);
}

FuseServer::Node* FuseServer::find(confine::GrantId grant) {
  const auto found = nodes_.find(grant);
  if (found == nodes_.end()) return nullptr;
  settle(grant, found->second);
  return &found->second;
}

void FuseServer::set_label(Node& node, std::string text) {
  Shared& shared = shared_.at(node.region.value);
  node.label = shared.label.lock();
  if (node.label && *node.label == text) return;
  node.label = std::make_shared<const std::string>(std::move(text));
  shared.label = node.label;
}

std::uint64_t FuseServer::valid_for(const Node& node) {
  return node.place && !node.label ? 0 : kForEverSeconds;
}

void FuseServer::use_labels(LabelBoard board) {
  end_labels();
  board_.emplace(std::move(board));
}

void FuseServer::end_labels() {
  take_labels();
  board_.reset();
  blanks_.clear();
  nobodys_.clear();
}

void FuseServer::take_labels() {
  const std::unordered_set<confine::GrantId> waiting = nobodys_;
  for (const confine::GrantId grant : waiting) find(grant);
}

void FuseServer::settle(confine::GrantId grant, Node& node) {
  if (!node.place || !board_) return;
  std::optional<Naming> naming = board_->take(*node.place, grant);
  if (!naming) return;
  node.place.reset();
  node.size = naming->size;
  node.holder = naming->holder;
  set_label(node, std::move(naming->label));
  nobodys_.erase(grant);
  if (const auto blank = blanks_.find(node.region.value); blank != blanks_.end() && blank->second == grant)
    blanks_.erase(blank);
}

void FuseServer::published(RegionId region, std::int64_t unix_ns) {
  // Without grants there is nobody to tell; those that come bring it along.
  if (const auto shared = shared_.find(region.value); shared != shared_.end())
    shared->second.published_unix_ns = unix_ns;
}

void FuseServer::forget_batch(Payload body) {
  const auto in = wire::take<fuse_batch_forget_in>(body);
  if (!in) return;
  for (std::uint32_t i = 0; i < in->count; ++i) {
    const auto one = wire::take<fuse_forget_one>(body);
    if (!one) return;
    forget(one->nodeid, one->nlookup);
  }
}

void FuseServer::answer_held(Time now) {
  while (!held_.empty() && held_.begin()->first <= now) {
    const auto due = held_.extract(held_.begin());
    handle_holder(due.mapped().header, due.mapped().body);
  }
}

std::optional<FuseServer::Time> FuseServer::next_due() const {
  if (held_.empty()) return std::nullopt;
  return held_.begin()->first;
}

bool FuseServer::reply(std::uint64_t unique, int error_number, Payload payload) {
  fuse_out_header out{};
  out.unique = unique;
  out.error = -error_number;
  out.len = static_cast<std::uint32_t>(sizeof out + payload.size());
  // SAFETY: writev only reads the parts; iovec has no const form.
  std::array<iovec, 2> parts = {
      {{&out, sizeof out}, {const_cast<std::byte*>(payload.data()), payload.size()}}};
  const ssize_t written = ::writev(device_.get(), parts.data(), payload.empty() ? 1 : 2);
  if (written >= 0) return true;
  if (errno == ENODEV || errno == EPERM) ended_ = true;
  return false;
}

}  // namespace mapcap::broker::keeper
