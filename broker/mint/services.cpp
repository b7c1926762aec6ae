#include "broker/mint/services.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "broker/bpf/page_attribute/page_attribute.h"
#include "broker/confine/lsm/lsm.h"
#include "broker/door/endpoint_directory.h"
#include "broker/keeper/fuse/mount.h"
#include "broker/keeper/start.h"
#include "broker/pool/memory.h"
#include "policy/accounts.h"
#include "policy/load/loader.h"
#include "policy/subordinates.h"

namespace mapcap::broker::mint {

using wire::Answer;
using wire::Kind;
using wire::Request;

namespace {

Result<void> check_fuse_device(BorrowedFd fd) {
  struct stat status {};
  constexpr unsigned kMisc = 10;  // Documentation/admin-guide/devices.txt: 10, 229.
  constexpr unsigned kFuse = 229;
  if (::fstat(fd.get(), &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(kMisc, kFuse))
    return ok();
  return failure(ErrorCode::malformed, "what should be a FUSE device is none");
}

Result<void> check_regular(BorrowedFd fd) {
  struct stat status {};
  if (::fstat(fd.get(), &status) == 0 && S_ISREG(status.st_mode)) return ok();
  return failure(ErrorCode::unsupported, "this file cannot back a clone: it is no regular file");
}

/// Texts and lists are as long as they are; they travel as files, which nobody can change any more.
Result<Fd> file_of(const void* data, std::size_t size) {
  Fd file(::memfd_create("mapcap-mint", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.valid()) return io_error("memfd_create", errno);
  const char* from = static_cast<const char*>(data);
  for (std::size_t done = 0; done < size;) {
    const ssize_t written = ::write(file.get(), from + done, size - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return io_error("writing a memfd", errno);
    done += static_cast<std::size_t>(written);
  }
  ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
  return file;
}

Result<Given> with_file(const void* data, std::size_t size) {
  Given given;
  MAPCAP_TRY(Fd file, file_of(data, size));
  given.fds.push_back(std::move(file));
  return given;
}

Failure unknown() {
  return failure(ErrorCode::not_found, "nobody is called that");
}

Result<std::uint32_t> id_in(const Request& request) {
  if (request.number > std::numeric_limits<std::uint32_t>::max())
    return failure(ErrorCode::malformed, "an id has 32 bits");
  return static_cast<std::uint32_t>(request.number);
}

Result<Given> told(const std::optional<policy::Account>& account) {
  Given given;
  if (!account || !wire::put_text(given.answer.text, account->name)) return unknown();
  given.answer.numbers = {account->uid, account->gid};
  return given;
}

Result<Given> told(const std::optional<policy::Group>& group) {
  Given given;
  if (!group || !wire::put_text(given.answer.text, group->name)) return unknown();
  given.answer.numbers = {group->gid};
  return given;
}

Result<Given> start_keeper(const Request& request, const std::string& name, const Places& places) {
  constexpr std::uint64_t kMostSeconds = 86'400;
  const bool spare = name == keeper::kSpareName;
  if ((!spare && name != keeper::kSocketName) || request.number > kMostSeconds ||
      request.second > kMostSeconds)
    return failure(ErrorCode::malformed, "no keeper is started like that");
  std::optional<std::chrono::seconds> idle;
  if (request.number > 0) idle = std::chrono::seconds(request.number - 1);
  MAPCAP_TRY(const Fd directory, keeper::open_state_directory(places.state));
  MAPCAP_TRY(keeper::KeeperHandle made,
             keeper::fork_keeper(directory.borrow(), std::chrono::seconds(request.second), idle,
                                 policy::Subordinates::of_machine(),
                                 spare ? keeper::kSpareName : keeper::kSocketName));
  Given given;
  given.answer.numbers = {static_cast<std::uint64_t>(made.pid), made.clone.next_grant};
  wire::put_text(given.answer.text, made.clone_unavailable, wire::Long::cut);
  given.fds.push_back(std::move(made.socket));
  given.fds.push_back(std::move(made.process));
  if (made.clone.path) {
    const int page = ::fcntl(made.clone.path->page.fd().get(), F_DUPFD_CLOEXEC, 3);
    if (page < 0) return io_error("fcntl(F_DUPFD_CLOEXEC)", errno);
    given.fds.emplace_back(page);
    given.fds.push_back(std::move(made.clone.device));
    given.fds.push_back(std::move(made.clone.path->root));
  }
  return given;
}

Result<std::string> text_of_policy(const Places& places) {
  if (places.policy.empty()) return std::string(policy::default_text());
  return policy::read_file(places.policy);
}

Result<Given> endpoint_mount(const std::string& place, const Places& places) {
  MAPCAP_TRY_VOID(check_place(place));
  const std::string above = places.socket.substr(0, places.socket.rfind('/')) + "/endpoints";
  const Fd root(::open(above.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!root.valid()) return io_error("opening " + above, errno);
  MAPCAP_TRY(Fd mount, mount_below(root.borrow(), place, above + "/" + place));
  Given given;
  given.fds.push_back(std::move(mount));
  return given;
}

/// Where it is missing or no directory, numbers say the errno, which the pool has better words for.
Result<Given> pool_directory(const std::string& name, const Places& places) {
  MAPCAP_TRY(const std::string text, text_of_policy(places));
  const policy::Examined examined = policy::examine_text(text, places.policy, policy::system_accounts());
  std::string path;
  if (examined.policy) {
    for (const policy::PoolSettings& pool : examined.policy->pools()) {
      if (pool.name == name && pool.backing == policy::Backing::dax_file) path = pool.path;
    }
  }
  if (path.empty()) return failure(ErrorCode::not_found, "the policy file has no such pool of files");
  Given given;
  const Fd directory(::open(path.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  // A mount in no tree, or ".." would lead out of it.
  Fd mount(directory.valid()
               ? ::open_tree(directory.get(), "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH)
               : -1);
  if (!mount.valid()) {
    given.answer.numbers[0] = static_cast<std::uint64_t>(errno);
    return given;
  }
  given.fds.push_back(std::move(mount));
  return given;
}

}  // namespace

bool takes_its_time(Kind kind) {
  return kind != Kind::open_backing && kind != Kind::open_backings && kind != Kind::close_backings &&
         kind != Kind::user_namespace && kind != Kind::lsm_mark;
}

Result<Given> serve(const Request& request, std::span<const Fd> fds, const Places& places) {
  const std::string text(wire::text_in(request.text).value_or(""));
  Given given;
  switch (request.kind) {
    case Kind::open_backing: {
      MAPCAP_TRY_VOID(check_fuse_device(fds[0].borrow()));
      MAPCAP_TRY_VOID(check_regular(fds[1].borrow()));
      MAPCAP_TRY(const std::int32_t id, keeper::open_backing(fds[0].borrow(), fds[1].borrow()));
      given.answer.numbers[0] = static_cast<std::uint64_t>(id);
      return given;
    }
    case Kind::open_backings: {
      MAPCAP_TRY_VOID(check_fuse_device(fds[0].borrow()));
      std::array<std::int32_t, wire::kOpenedTogether> ids{};
      for (std::size_t i = 0; i < ids.size(); ++i) {
        Result<void> regular = check_regular(fds[1 + i].borrow());
        Result<std::int32_t> id =
            regular ? keeper::open_backing(fds[0].borrow(), fds[1 + i].borrow()) : regular.error();
        if (!id) {
          while (i > 0) keeper::close_backing(fds[0].borrow(), ids.at(--i));
          return id.error();
        }
        ids.at(i) = id.value();
      }
      wire::put_pairs(given.answer.numbers, ids);
      return given;
    }
    case Kind::close_backings: {
      MAPCAP_TRY_VOID(check_fuse_device(fds[0].borrow()));
      for (const std::int32_t id : wire::ids_in(request.text)) keeper::close_backing(fds[0].borrow(), id);
      return given;
    }
    case Kind::bury_backing: {
      MAPCAP_TRY_VOID(check_fuse_device(fds[0].borrow()));
      if (request.number == 0 || request.number > std::numeric_limits<std::int32_t>::max())
        return failure(ErrorCode::malformed, "no backing has such an id");
      keeper::close_backing(fds[0].borrow(), static_cast<std::int32_t>(request.number));
      return given;
    }
    case Kind::start_keeper:
      return start_keeper(request, text, places);
    case Kind::account_named:
      return told(policy::find_account(text));
    case Kind::account_of: {
      MAPCAP_TRY(const std::uint32_t uid, id_in(request));
      return told(policy::find_account(uid));
    }
    case Kind::group_named:
      return told(policy::find_group(text));
    case Kind::group_of: {
      MAPCAP_TRY(const std::uint32_t gid, id_in(request));
      return told(policy::find_group(gid));
    }
    case Kind::groups_of: {
      MAPCAP_TRY(const std::uint32_t gid, id_in(request));
      const std::vector<std::uint32_t> groups = policy::groups_of({text, 0, gid});
      return with_file(groups.data(), groups.size() * sizeof(std::uint32_t));
    }
    case Kind::policy_text: {
      MAPCAP_TRY(const std::string policy, text_of_policy(places));
      return with_file(policy.data(), policy.size());
    }
    case Kind::subuid_text: {
      const std::string subuid = policy::subuid_text();
      return with_file(subuid.data(), subuid.size());
    }
    case Kind::endpoint_mount:
      return endpoint_mount(text, places);
    case Kind::cache_mode: {
      MAPCAP_TRY(const CacheMode mode, page_attribute::mapped_from(fds[0].borrow()));
      given.answer.numbers[0] = static_cast<std::uint64_t>(mode);
      return given;
    }
    case Kind::huge_tmpfs: {
      MAPCAP_TRY(Fd mount, pool::detached_huge_tmpfs());
      given.fds.push_back(std::move(mount));
      return given;
    }
    case Kind::pool_directory:
      return pool_directory(text, places);
    case Kind::user_namespace: {
      struct stat status {};
      const std::string path = "/proc/" + std::to_string(request.number) + "/ns/user";
      if (::stat(path.c_str(), &status) == 0) given.answer.numbers[0] = status.st_ino;
      return given;
    }
    case Kind::lsm_start: {
      MAPCAP_TRY_VOID(confine::start_lsm(places.broker));
      return given;
    }
    case Kind::lsm_mark: {
      MAPCAP_TRY_VOID(confine::mark_for_lsm(fds[0].borrow()));
      return given;
    }
    case Kind::lane:
    case Kind::heir:
      break;
  }
  return failure(ErrorCode::malformed, "that is not asked on a lane");
}

}  // namespace mapcap::broker::mint
