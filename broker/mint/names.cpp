#include "broker/mint/names.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "policy/load/loader.h"

namespace mapcap::broker::mint {
namespace {

using wire::Kind;

Failure no_sense() {
  return failure(ErrorCode::malformed, "what the mint answered makes no sense");
}

/// The one file of an answer, whole.
Result<std::string> text_of(Result<Link::Heard> heard) {
  if (!heard) return heard.error();
  if (heard.value().fds.size() != 1) return no_sense();
  const Fd& file = heard.value().fds[0];
  struct stat status {};
  if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_size < 0 ||
      static_cast<std::uint64_t>(status.st_size) > policy::kMaxPolicyBytes)
    return no_sense();
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t got = ::pread(file.get(), text.data() + done, text.size() - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return no_sense();
    done += static_cast<std::size_t>(got);
  }
  return text;
}

Result<Fd> mount_in(Result<Link::Heard> heard) {
  if (!heard) return heard.error();
  if (heard.value().fds.size() != 1) return no_sense();
  return std::move(heard.value().fds[0]);
}

class Names final : public policy::NameService {
 public:
  explicit Names(Link& link) : link_(link) {}

  std::optional<policy::Account> account(const std::string& name) override {
    return name.empty() ? std::nullopt : account_in(ask(Kind::account_named, 0, name));
  }
  std::optional<policy::Account> account(std::uint32_t uid) override {
    return account_in(ask(Kind::account_of, uid, ""));
  }
  std::optional<policy::Group> group(const std::string& name) override {
    return name.empty() ? std::nullopt : group_in(ask(Kind::group_named, 0, name));
  }
  std::optional<policy::Group> group(std::uint32_t gid) override {
    return group_in(ask(Kind::group_of, gid, ""));
  }
  std::vector<std::uint32_t> groups_of(const policy::Account& account) override {
    Result<std::string> listed = text_of(ask(Kind::groups_of, account.gid, account.name));
    if (!listed || listed.value().empty() || listed.value().size() % sizeof(std::uint32_t) != 0)
      return {account.gid};
    std::vector<std::uint32_t> groups(listed.value().size() / sizeof(std::uint32_t));
    std::memcpy(groups.data(), listed.value().data(), listed.value().size());
    return groups;
  }
  std::string subuid_text() override {
    Result<std::string> text = text_of(ask(Kind::subuid_text, 0, ""));
    return text ? std::move(text.value()) : std::string();
  }

 private:
  Result<Link::Heard> ask(Kind kind, std::uint64_t number, const std::string& text) {
    return link_.ask(kind, number, text, {}, Link::kPatient);
  }
  static std::optional<policy::Account> account_in(const Result<Link::Heard>& heard) {
    if (!heard || !are_ids(heard.value())) return std::nullopt;
    const wire::Answer& answer = heard.value().answer;
    return policy::Account{std::string(*wire::text_in(answer.text)),
                           static_cast<std::uint32_t>(answer.numbers[0]),
                           static_cast<std::uint32_t>(answer.numbers[1])};
  }
  static std::optional<policy::Group> group_in(const Result<Link::Heard>& heard) {
    if (!heard || !are_ids(heard.value())) return std::nullopt;
    const wire::Answer& answer = heard.value().answer;
    return policy::Group{std::string(*wire::text_in(answer.text)),
                         static_cast<std::uint32_t>(answer.numbers[0])};
  }
  static bool are_ids(const Link::Heard& heard) {
    constexpr std::uint64_t most = std::numeric_limits<std::uint32_t>::max();
    return heard.answer.numbers[0] <= most && heard.answer.numbers[1] <= most;
  }

  Link& link_;
};

}  // namespace

std::unique_ptr<policy::NameService> make_names(Link& link) {
  return std::make_unique<Names>(link);
}

std::optional<ino_t> user_namespace(Link& link, pid_t process) {
  const Result<Link::Heard> heard =
      link.ask(Kind::user_namespace, static_cast<std::uint64_t>(process), "", {}, Link::kAtOnce);
  if (!heard || heard.value().answer.numbers[0] == 0) return std::nullopt;
  return static_cast<ino_t>(heard.value().answer.numbers[0]);
}

Result<std::string> policy_text(Link& link) {
  return text_of(link.ask(Kind::policy_text, 0, "", {}, Link::kPatient));
}

Result<Fd> endpoint_mount(Link& link, const std::string& place) {
  return mount_in(link.ask(Kind::endpoint_mount, 0, place));
}

Result<CacheMode> cache_mode(Link& link, BorrowedFd file) {
  MAPCAP_TRY(const Link::Heard heard, link.ask(Kind::cache_mode, 0, "", std::span(&file, 1)));
  const std::uint64_t mode = heard.answer.numbers[0];
  if (mode > static_cast<std::uint64_t>(CacheMode::uncached)) return no_sense();
  return static_cast<CacheMode>(mode);
}

Result<Fd> huge_tmpfs(Link& link) {
  return mount_in(link.ask(Kind::huge_tmpfs));
}

Fd pool_directory(Link& link, const std::string& pool) {
  Result<Link::Heard> heard = link.ask(Kind::pool_directory, 0, pool, {}, Link::kPatient);
  errno = EIO;
  if (!heard) return {};
  if (heard.value().fds.size() != 1) {
    errno = static_cast<int>(heard.value().answer.numbers[0] % 4096);
    return {};
  }
  return Fd(::openat(heard.value().fds[0].get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

}  // namespace mapcap::broker::mint
