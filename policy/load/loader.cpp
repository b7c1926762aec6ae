#include "policy/load/loader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/trusted_path.h"
#include "mapcap/fd.h"
#include "policy/default_policy.h"
#include "policy/load/parts.h"

namespace mapcap::policy {

namespace {

/// sockaddr_un::sun_path less its NUL.
constexpr std::size_t kMaxSocketPath = 107;

void read_path(Section& section, std::string_view key, std::string& path) {
  const std::optional<std::string> text = section.text(key);
  if (!text) return;
  path = std::filesystem::path(*text).lexically_normal().string();
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (!path.starts_with('/')) section.problem(section.at(key), std::string(key) + " is not an absolute path");
}

/// The value of a top-level key as the kind that it must be, or an empty one.
template <typename Kind>
const Kind& top_level(Section& root, std::string_view key, std::string_view written) {
  static const Kind kNone{};
  const Node* node = root.node(key);
  if (node == nullptr) return kNone;
  const auto* value = std::get_if<Kind>(&node->value);
  if (value != nullptr) return *value;
  root.problem(node->at,
               std::string(key) + " is " + std::string(kind_of(*node)) + ", write " + std::string(written));
  return kNone;
}

}  // namespace

namespace {

Result<Fd> open_regular(const std::string& path) {
  Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!file.valid() && errno == ENOENT) {
    return failure(ErrorCode::not_found, "policy file " + path + " does not exist");
  }
  if (!file.valid()) return io_error("open " + path, errno);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return io_error("fstat " + path, errno);
  if (!S_ISREG(status.st_mode)) {
    return failure(ErrorCode::invalid, "policy file " + path + " is not a regular file");
  }
  return file;
}

Result<void> check_trusted(BorrowedFd file, const std::string& path, uid_t owner) {
  Result<void> trusted = check_trusted_file(file, path, owner);
  if (trusted) return ok();
  Failure refused = std::move(trusted).assume_error();
  refused.sentence =
      "policy file " + (refused.sentence.starts_with(path) ? "" : path + ": ") + refused.sentence;
  return refused;
}

Result<std::string> read_all(BorrowedFd file, const std::string& path) {
  std::string text(kMaxPolicyBytes + 1, '\0');
  std::size_t length = 0;
  while (length < text.size()) {
    const ssize_t got = ::read(file.get(), text.data() + length, text.size() - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error("read " + path, errno);
    if (got == 0) break;
    length += static_cast<std::size_t>(got);
  }
  text.resize(length);
  return text;
}

}  // namespace

Result<std::string> read_file(const std::string& path) {
  MAPCAP_TRY(const Fd file, open_regular(path));
  MAPCAP_TRY_VOID(check_trusted(file.borrow(), path, ::geteuid()));
  return read_all(file.borrow(), path);
}

Result<std::string> read_anybodys_file(const std::string& path) {
  MAPCAP_TRY(const Fd file, open_regular(path));
  return read_all(file.borrow(), path);
}

Result<void> check_trusted(const std::string& path) {
  MAPCAP_TRY(const Fd file, open_regular(path));
  return check_trusted(file.borrow(), path, 0);
}

BrokerSettings load_broker(const Table& table, Position at, Problems& problems) {
  using namespace std::chrono_literals;
  Section section(table, "[broker]", at, problems);
  BrokerSettings broker;
  read_path(section, "socket", broker.socket);
  broker.socket_at = {section.at("socket")};
  if (broker.socket.size() > kMaxSocketPath) {
    section.problem(section.at("socket"), "socket is longer than the 107 bytes of a socket's path");
  }
  read_path(section, "state", broker.state);
  broker.state_at = {section.at("state")};
  broker.grace = section.duration("grace", 0s, 1h).value_or(broker.grace);
  broker.expiring_notice = section.duration("expiring_notice", 0s, 24h).value_or(broker.expiring_notice);
  broker.keeper_deadline = section.duration("keeper_deadline", 10ms, 1min).value_or(broker.keeper_deadline);
  const auto most = section.number("max_connections", 1, 100'000);
  if (most) broker.max_connections = static_cast<std::uint32_t>(*most);
  const auto per_user = section.number("max_connections_per_user", 1, 100'000);
  if (per_user) {
    broker.max_connections_per_user = static_cast<std::uint32_t>(*per_user);
    if (*per_user > broker.max_connections) {
      section.problem(section.at("max_connections_per_user"), "one user may have more than max_connections");
    }
  } else {
    broker.max_connections_per_user = std::min(broker.max_connections_per_user, broker.max_connections);
  }
  section.finish();
  return broker;
}

Examined examine_text(std::string_view text, const std::string& source, const Accounts& accounts) {
  Problems problems(source);
  if (text.size() > kMaxPolicyBytes) {
    problems.add(Position{}, "larger than 4 MiB, which no policy is");
    return {nullptr, problems.found()};
  }
  Document document = parse_document(text);
  // What lines that could not be read would have said is not known: the rest would be judged without it.
  if (!document.problems.empty()) return {nullptr, std::move(document.problems)};
  Section root(document.root, "policy", Position{}, problems);
  Settings settings;
  settings.source = source;
  const auto& broker = top_level<Table>(root, "broker", "[broker]");
  settings.broker = load_broker(broker, root.at("broker"), problems);
  const auto& pools = top_level<Table>(root, "pool", "[pool.NAME]");
  settings.pools = load_pools(pools, root.at("pool"), settings.broker, problems);
  if (pools.empty()) problems.add(root.at("pool"), "there is no pool: add [pool.NAME]");
  settings.rules = load_rules(top_level<Array>(root, "rule", "[[rule]]"), settings.pools, accounts, problems);
  settings.quotas =
      load_quotas(top_level<Array>(root, "quota", "[[quota]]"), settings.pools, accounts, problems);
  root.finish();
  Examined examined;
  if (problems.no_errors()) {
    examined.policy = std::make_shared<const Policy>(std::move(settings));
    examine_the_whole(*examined.policy, problems);
    if (!problems.no_errors()) examined.policy = nullptr;
  }
  examined.problems = problems.found();
  return examined;
}

std::string told(const Problem& problem, const std::string& source) {
  return source + ":" + std::to_string(problem.at.line) + ":" + std::to_string(problem.at.column) + ": " +
         problem.message;
}

Result<std::shared_ptr<const Policy>> load_text(std::string_view text, const std::string& source,
                                                const Accounts& accounts) {
  constexpr std::size_t kMaxProblemsTold = 32;  // an Error's details on the wire
  Examined examined = examine_text(text, source, accounts);
  if (examined.policy) return std::move(examined.policy);
  std::erase_if(examined.problems,
                [](const Problem& problem) { return problem.severity != Severity::error; });
  Failure error = failure(ErrorCode::invalid, told(examined.problems.front(), source));
  const std::size_t count = examined.problems.size();
  if (count > 1) error.sentence += " (and " + std::to_string(count - 1) + " more)";
  for (std::size_t i = 0; i < std::min(count, kMaxProblemsTold); ++i)
    error.details.push_back({"problem", told(examined.problems[i], source)});
  return error;
}

Result<std::shared_ptr<const Policy>> load_default() {
  return load_text(kDefaultPolicy, "default.toml", system_accounts());
}

std::string_view default_text() {
  return kDefaultPolicy;
}

}  // namespace mapcap::policy
