// mapcap_tenant: the tenants of a broker that ends at named steps (tests/faults/step.h), and whoever looks
// afterwards whether promises 4 and 6 to 8 held. $MAPCAP_SOCKET names the broker.
//
//   mapcap_tenant before PAGE die|stop POOL:STEP...
//       In each pool makes regions that must live on. Then, one after the other: makes, fills and revokes a
//       region, and comes to STEP with another, by its create or its revoke. Prints "POOL STEP OWNER
//       DEADLINE": the uid whose region that is, and when a ttl of the pool ends, in seconds since 1970 (0:
//       there is none). With `stop` the broker is left waiting.
//   mapcap_tenant wait PAGE
//       Returns when the broker has come to every step that PAGE says it stops at.
//   mapcap_tenant after FILE [clear]
//       For each line that `before` printed into FILE and whose pool this broker has: what is listed is
//       right, what is charged is what is listed, and what the pool has left is handed out, and is zero.
//       clear: afterwards all goes but what `before` finds again.
//
// Exit status 0 when it is so, 1 with one sentence on stderr when not.
#include <fcntl.h>
#include <mapcap/mapcap.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using namespace mapcap;
using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr uid_t kKeeper = 4711;  ///< Owns what lives on; others follow.
constexpr std::uint32_t kMode = 0640;
constexpr std::uint64_t kSmall = 1U << 20U;
constexpr std::uint64_t kLarge =
    6U << 20U;  // Files are filled in steps of 4 MiB: its "filling" is in the middle.
constexpr std::uint64_t kLimit = 1U << 30U;
constexpr seconds kTtl = 1h;
constexpr std::byte kKept{0x5A};
constexpr std::byte kOld{0xA5};
constexpr std::size_t kPage = 4096;
constexpr seconds kPatience = 150s;  // A busy machine makes a guest ten times slower.

/// "file-cut: ", what a sentence is about.
std::string& subject() {
  static std::string text;
  return text;
}

[[noreturn]] void fail(const std::string& sentence) {
  std::fprintf(stderr, "fail: %s%s\n", subject().c_str(), sentence.c_str());
  std::fflush(stderr);
  std::_Exit(1);
}
void expect(bool holds, const std::string& sentence) {
  if (!holds) fail(sentence);
}
/// Asks until it is so.
void expect_soon(const std::function<bool()>& holds, const std::string& sentence) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!holds()) {
    expect(std::chrono::steady_clock::now() < end, sentence);
    std::this_thread::sleep_for(10ms);
  }
}

nanoseconds wall_clock() {
  return std::chrono::system_clock::now().time_since_epoch();
}

Client connect() {
  ConnectOptions options;
  options.deadline = kPatience;
  options.reconnect_within = 0ms;
  options.wait_for_broker = kPatience;
  return Client::connect(options);
}
/// The kernel tells the broker the effective ids of whoever connects.
Client connect_as(uid_t owner) {
  expect(::setegid(owner) == 0 && ::seteuid(owner) == 0, "seteuid");
  Client client = connect();
  expect(::seteuid(0) == 0 && ::setegid(0) == 0, "seteuid back");
  return client;
}

bool all_are(const Mapping& mapping, std::byte wanted) {
  const auto bytes = mapping.bytes();
  return bytes.front() == wanted && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}
void expect_zeros(const Mapping& mapping, const std::string& name) {
  if (all_are(mapping, std::byte{0})) return;
  const auto bytes = mapping.bytes();
  const auto at = std::find_if(bytes.begin(), bytes.end(), [](std::byte one) { return one != std::byte{0}; });
  fail("byte " + std::to_string(at - bytes.begin()) + " of " + name + " is " +
       (*at == kOld ? "the old tenant's" : std::to_string(std::to_integer<int>(*at)) + ", not 0"));
}

std::vector<RegionInfo> regions_of(Client& client, const std::string& pool) {
  std::vector<RegionInfo> all = client.list();
  std::erase_if(all, [&](const RegionInfo& region) { return region.pool != pool; });
  return all;
}
/// The live one of that name, or one on its way out.
std::optional<RegionInfo> find(Client& client, const std::string& name) {
  std::optional<RegionInfo> found;
  for (const RegionInfo& region : client.list()) {
    if (region.name == name && (!found || region.state == RegionState::live)) found = region;
  }
  return found;
}
void expect_gone(Client& client, const std::string& name) {
  expect_soon([&] { return !find(client, name); }, name + " does not go");
}
std::optional<PoolInfo> find_pool(Client& client, const std::string& name) {
  for (const PoolInfo& pool : client.pools()) {
    if (pool.name == name) return pool;
  }
  return std::nullopt;
}
std::vector<QuotaInfo> user_limits(Client& root) {
  std::vector<QuotaInfo> limits = root.quota();
  std::erase_if(limits, [](const QuotaInfo& one) {
    return !one.overridden || one.slot.subject != SubjectKind::user || !one.slot.pool.empty();
  });
  return limits;
}

bool is_create(const std::string& step) {
  constexpr std::array kSteps{"seeded",  "sized",  "claimed",  "enabled",
                              "filling", "carved", "recorded", "issued"};
  return std::find(kSteps.begin(), kSteps.end(), step) != kSteps.end();
}
bool is_recorded_create(const std::string& step) {
  return step == "recorded" || step == "issued";
}

// ---- before

/// What the broker reads, and changes: see tests/faults/step.h.
class Page {
 public:
  explicit Page(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    // SAFETY: a new mapping at an address of the kernel's choice, kept to the end; the file has a page.
    void* const at = fd < 0 ? MAP_FAILED : ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) fail(path + " cannot be mapped");
    text_ = static_cast<char*>(at);
    ::close(fd);
  }
  void add(const std::string& line) const {
    const std::size_t end = std::strlen(text_);
    expect(end + line.size() < kPage, "the page of steps is full");
    line.copy(text_ + end + 1, line.size() - 1, 1);
    *const_cast<volatile char*>(text_ + end) = line.front();  // Last: until now there was nothing.
  }
  [[nodiscard]] bool has(const std::string& words) const { return text().find(words) != std::string::npos; }
  [[nodiscard]] std::string text() const { return text_; }

 private:
  char* text_ = nullptr;
};

/// A step in a pool, and the region that comes to it.
struct Step {
  std::string pool;
  std::string name;
  uid_t owner = 0;

  [[nodiscard]] std::string region() const { return pool + "/" + name; }
};

RegionSpec spec(const std::string& pool, const std::string& region, std::uint64_t size,
                Lifetime lifetime = Lifetime::persistent()) {
  RegionSpec wanted;
  wanted.name = region;
  wanted.pool = pool;
  wanted.size = size;
  wanted.mode = kMode;
  wanted.lifetime = lifetime;
  return wanted;
}
void make_filled(Client& client, const RegionSpec& wanted, std::byte with) {
  Mapping mapping(client.create(wanted, Access::read_write));
  mapping.memset_persist(0, with, mapping.size());
}

Step parse(const std::string& argument) {
  const std::size_t colon = argument.find(':');
  expect(colon != std::string::npos, argument + " is no POOL:STEP");
  return {argument.substr(0, colon), argument.substr(colon + 1), 0};
}

/// Regions that live on, of each lifetime where there is room; when a ttl ends.
nanoseconds make_tenants(Client& root, Client& keeper, const std::string& pool) {
  if (find(root, pool + "/kept")) return 0s;
  make_filled(keeper, spec(pool, pool + "/kept", kSmall), kKept);
  if (find_pool(root, pool)->backing != "dax-file") return 0s;
  const nanoseconds deadline = wall_clock() + kTtl;
  make_filled(keeper, spec(pool, pool + "/timed", kSmall, Lifetime::for_time(kTtl)), kKept);
  make_filled(keeper, spec(pool, pool + "/tied", kSmall, Lifetime::connection()), kKept);
  return deadline;
}

/// What a new region will be made of has had a tenant; what is to be revoked has one.
void make_old(Client& root, Client& owner, const Step& step) {
  const std::string old = is_create(step.name) ? step.pool + "/old" : step.region();
  make_filled(owner, spec(step.pool, old, kLarge), kOld);
  if (!is_create(step.name)) return;
  owner.revoke(old);
  expect_gone(root, old);
}

void come_to(Client& root, Client& owner, const Step& step, const Page& page, const std::string& how) {
  const std::string where = step.pool + " " + step.name + "\n";
  page.add(how + " " + where);
  std::thread([&owner, step] {
    try {
      if (is_create(step.name)) {
        owner.create(spec(step.pool, step.region(), kLarge), Access::read_write);
      } else {
        owner.revoke(step.region());
      }
    } catch (const Error&) {  // It died.
    }
  }).detach();  // It waits for ever, or has got its answer: a revoke is answered before its last steps.
  const auto came_there = [&] {
    if (how == "stop") return page.has("done " + where);
    try {
      root.list();
      return false;
    } catch (const Error&) {
      return true;
    }
  };
  expect_soon(came_there, "the broker never came there");
}

int before(const Page& page, const std::string& how, const std::vector<std::string>& arguments) {
  Client root = connect();
  Client keeper = connect_as(kKeeper);
  root.quota_set({SubjectKind::user, kKeeper, ""}, {kLimit, {}, {}, {}});
  std::vector<Client> owners;  // A user has four requests under way at most: each waiting one is another's.
  owners.reserve(arguments.size());
  for (const std::string& argument : arguments) {
    subject() = argument + ": ";
    Step step = parse(argument);
    step.owner = kKeeper + static_cast<uid_t>(user_limits(root).size());
    root.quota_set({SubjectKind::user, step.owner, ""}, {kLimit, {}, {}, {}});
    Client& owner = owners.emplace_back(connect_as(step.owner));
    const nanoseconds deadline = make_tenants(root, keeper, step.pool);
    make_old(root, owner, step);
    come_to(root, owner, step, page, how);
    std::printf("%s %s %u %lld\n", step.pool.c_str(), step.name.c_str(), step.owner,
                static_cast<long long>(std::chrono::duration_cast<seconds>(deadline).count()));
    std::fflush(stdout);
  }
  std::_Exit(0);  // Threads wait for ever, and hold references.
}

int wait_for(const Page& page) {
  expect_soon([&] { return !page.has("stop "); }, "the broker did not come to each of its steps");
  return 0;
}

// ---- after

void check_kept(Client& root, const std::string& pool) {
  const std::optional<RegionInfo> kept = find(root, pool + "/kept");
  expect(kept && kept->state == RegionState::live, "an acknowledged region is gone");
  expect(kept->owner == kKeeper && kept->group == kKeeper && kept->mode == kMode,
         "owner, group or mode has changed");
  expect(kept->pool == pool && kept->lifetime == Lifetime::persistent() && kept->size >= kSmall,
         "pool, lifetime or size has changed");
  expect(all_are(Mapping(root.open(kept->name, Access::read_only)), kKept),
         "an acknowledged region lost its bytes");
}

void check_lifetimes(Client& root, const std::string& pool, seconds deadline) {
  const std::optional<RegionInfo> timed = find(root, pool + "/timed");
  expect(timed && timed->state == RegionState::live && timed->remaining, "the region with a ttl is gone");
  const nanoseconds off = wall_clock() + *timed->remaining - deadline;
  // At boot the machine's clock is read in whole seconds.
  expect(off < 5s && off > -5s, "a ttl ends " + std::to_string(off / 1s) + " s off its time");
  expect(all_are(Mapping(root.open(timed->name, Access::read_only)), kKept),
         "a region with a ttl lost its bytes");
  expect_gone(root, pool + "/tied");
}

/// Acknowledged or not: what was recorded before the end holds.
void check_region_of(Client& root, const Step& step) {
  const std::optional<RegionInfo> found = find(root, step.region());
  const bool live = found && found->state == RegionState::live;
  if (!is_recorded_create(step.name)) {
    expect(!live, is_create(step.name) ? "a region is live that was never recorded"
                                       : "a region is live whose revoke was recorded");
    expect_gone(root, step.region());
    return;
  }
  expect(live, "a region is gone that was recorded");
  expect(found->owner == step.owner && found->mode == kMode && found->size >= kLarge,
         "a region is there in part");
  expect_zeros(Mapping(root.open(found->name, Access::read_only)), found->name);
}

/// The pool and the users are charged what is listed.
void check_books(Client& root, const std::string& pool) {
  std::uint64_t all = 0;
  std::map<uid_t, std::uint64_t> owned;
  for (const RegionInfo& region : root.list()) {
    if (region.pool == pool) all += region.size;
    owned[region.owner] += region.size;
  }
  const std::uint64_t used = find_pool(root, pool)->used;
  expect(used == all,
         "the pool is charged " + std::to_string(used) + " bytes for regions of " + std::to_string(all));
  for (const QuotaInfo& one : user_limits(root)) {
    expect(one.limits.bytes == kLimit, "the limit of a user has changed");
    expect(one.bytes == owned[one.slot.id], "user " + std::to_string(one.slot.id) + " is charged " +
                                                std::to_string(one.bytes) + " bytes for regions of " +
                                                std::to_string(owned[one.slot.id]));
  }
}

/// Regions as the machine has them: files in the pool's directory, or namespaces with the pool's name.
std::size_t carved(const std::string& pool) {
  std::size_t count = 0;
  std::error_code none;
  for (const auto& file : std::filesystem::directory_iterator("/mnt/" + pool + "/pool", none))
    count += file.path().filename().string().starts_with("region-") ? 1 : 0;
  for (const auto& space : std::filesystem::directory_iterator("/sys/bus/nd/devices", none)) {
    std::string name;
    std::uint64_t size = 0;
    std::ifstream(space.path() / "alt_name") >> name;
    std::ifstream(space.path() / "size") >> size;
    count += name.starts_with("mapcap-" + pool + "-") && size != 0 ? 1 : 0;
  }
  return count;
}

void check_carvings(Client& root, const std::string& pool) {
  const std::size_t there = carved(pool);
  const std::size_t listed = regions_of(root, pool).size();
  if (there == 0) return;  // Of listed devices nothing is carved; of the others at least what was kept.
  expect(there == listed,
         "the machine has " + std::to_string(there) + " carvings for " + std::to_string(listed) + " regions");
}

void expect_rest_is_zero(Client& root, const std::string& pool) {
  try {
    for (std::size_t i = 0;; ++i) {
      const RegionSpec fresh = spec(pool, pool + "/fresh-" + std::to_string(i), kSmall);
      expect_zeros(Mapping(root.create(fresh, Access::read_write)), fresh.name);
    }
  } catch (const Error& full) {
    expect(full.code() == ErrorCode::pool_full, full.what());
  }
  const PoolInfo info = *find_pool(root, pool);
  expect(info.used == info.capacity, "only " + std::to_string(info.used) + " of " +
                                         std::to_string(info.capacity) + " bytes can be handed out");
}

void clear(Client& root, const std::string& pool) {
  for (const RegionInfo& region : regions_of(root, pool)) {
    if (region.name != pool + "/kept") root.revoke(region.name);
  }
  expect_soon([&] { return regions_of(root, pool).size() == 1; }, "regions do not go");
}

int after(const std::string& file, bool then_clear) {
  Client root = connect();
  std::set<std::string> pools;
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    Step step;
    long long deadline = 0;
    std::istringstream words(line);
    words >> step.pool >> step.name >> step.owner >> deadline;
    if (words.fail() || !find_pool(root, step.pool)) continue;
    subject() = step.pool + " " + step.name + ": ";
    check_kept(root, step.pool);
    if (deadline != 0) check_lifetimes(root, step.pool, seconds(deadline));
    check_region_of(root, step);
    pools.insert(step.pool);
  }
  for (const std::string& pool : pools) {
    subject() = pool + ": ";
    check_books(root, pool);
    check_carvings(root, pool);
    expect_rest_is_zero(root, pool);
    check_books(root, pool);
    if (then_clear) clear(root, pool);
  }
  subject().clear();
  expect(pools.size() == root.pools().size(), file + " does not say what became of each pool");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  try {
    if (words.size() >= 4 && words[0] == "before") {
      return before(Page(words[1]), words[2], {words.begin() + 3, words.end()});
    }
    if (words.size() == 2 && words[0] == "wait") return wait_for(Page(words[1]));
    if (words.size() >= 2 && words[0] == "after") return after(words[1], words.size() == 3);
  } catch (const std::exception& error) {
    fail(error.what());
  }
  std::fputs("mapcap_tenant: wrong usage; see the head of tests/vm/tenant.cpp\n", stderr);
  return 2;
}
