#include "tests/bench/rivals/servers.h"

#include <fcntl.h>
#include <mapcap/mapcap.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "broker/wait/scheduling.h"
#include "mapcap/fd.h"
#include "tests/bench/rivals/bus.h"
#include "tests/bench/rivals/crowd.h"
#include "tests/bench/rivals/floor.h"
#include "tests/bench/rivals/sessions.h"
#include "tests/support/patience.h"

namespace mapcap::bench {
namespace {

/// Everybody may connect and talk to everybody, as on a system bus whose policy allows it.
constexpr const char* kBusConfiguration = R"(<!DOCTYPE busconfig PUBLIC
 "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=@/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
  <limit name="max_connections_per_user">1000</limit>
</busconfig>
)";

std::string scratch(const std::string& parent, mode_t mode) {
  std::string pattern = parent + "/mapcap-bench.XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp in " + parent);
  ::chmod(pattern.c_str(), mode);
  return pattern;
}

int listen_for_peers(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener, 128) != 0)
    throw std::runtime_error("no listener at " + path);
  ::chmod(path.c_str(), 0666);
  return listener;
}

bool on_the_path(const std::string& program) {
  const char* path = std::getenv("PATH");  // NOLINT(concurrency-mt-unsafe): one thread.
  std::string directory;
  for (const char* at = path != nullptr ? path : ""; *at != '\0';) {
    const char* end = at;
    while (*end != '\0' && *end != ':') ++end;
    directory.assign(at, end);
    if (::access((directory + "/" + program).c_str(), X_OK) == 0) return true;
    at = *end == ':' ? end + 1 : end;
  }
  return false;
}

/// All processes that were given this state directory, which the broker's own are.
std::vector<pid_t> processes_of(const std::string& state) {
  std::vector<pid_t> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "cmdline", std::ios::binary);
    const std::string command((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (command.find(state) != std::string::npos) found.push_back(static_cast<pid_t>(std::stol(name)));
  }
  return found;
}

std::string last_line(const std::string& text) {
  const std::string whole = text.substr(0, text.find_last_not_of('\n') + 1);
  return whole.substr(whole.rfind('\n') + 1);
}

constexpr long kExt4 = 0xEF53;

}  // namespace

Servers::Servers(int cpu) {
  pin(0, cpu);  // Which all of them inherit.
  directory_ = scratch("/tmp", 0755);
  try {
    add_floor();
    add_buses();
    add_shm();
    add_mapcap();
  } catch (...) {
    end_broker();
    end_children();
    throw;
  }
}

Servers::~Servers() {
  end_broker();
  end_children();
}

void Servers::end_broker() {
  if (broker_ == nullptr) return;
  try {
    // Region files of a broker that is killed can be appended to only, and so not be removed.
    Client owner = broker_->connect();
    for (const RegionInfo& region : owner.list()) owner.revoke(region.name);
    owner.shutdown({.end_regions = true});
    (void)broker_->await_end();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "the broker does not end: %s\n", error.what());
  }
  broker_.reset();
}

void Servers::end_children() {
  for (const pid_t child : children_) ::kill(child, SIGKILL);
  for (const pid_t child : children_) ::waitpid(child, nullptr, 0);
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
  for (const std::string& pool : pool_directories_) std::filesystem::remove_all(pool, ignored);
}

pid_t Servers::start(const std::function<void()>& serve) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    broker::run_promptly();  // As mapcapd does: nobody is to win by it.
    serve();
    ::_exit(1);
  }
  children_.push_back(child);
  return child;
}

void Servers::add_floor() {
  const std::string path = directory_ + "/floor";
  const Fd listener(floor_listen(path.c_str()));
  if (!listener.valid()) throw std::runtime_error("no floor at " + path);
  ::chmod(path.c_str(), 0666);
  const pid_t server = start([&] { floor_serve(listener.get(), kRegionBytes); });
  ways_.push_back({"floor",
                   {Verb::show, Verb::open, Verb::create, Verb::revoke, Verb::cycle, Verb::flood},
                   [path](int) { return floor_session(path); },
                   {server}});
}

void Servers::add_buses() {
  const std::vector<Verb> verbs{Verb::show, Verb::open, Verb::create, Verb::flood};
  const std::string peers = directory_ + "/peers";
  const Fd listener(listen_for_peers(peers));
  const pid_t peer = start([&] { bus_serve_peers(listener.get(), kRegionBytes); });
  ways_.push_back({"sd-bus", verbs, [peers](int) { return peer_bus_session(peers); }, {peer}});

  if (!on_the_path("dbus-daemon")) {
    missing_.push_back({"dbus-daemon", "dbus-daemon is not installed"});
    return;
  }
  const std::string file = directory_ + "/bus.conf";
  std::string text = kBusConfiguration;
  text.replace(text.find('@'), 1, directory_);
  std::ofstream(file) << text;
  const std::string option = "--config-file=" + file;
  const pid_t daemon = start([&] {
    // It complains about limits that it does not need here.
    ::dup2(::open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
    ::execlp("dbus-daemon", "dbus-daemon", option.c_str(), "--nofork", "--nopidfile", "--nosyslog", nullptr);
  });
  if (!test::comes_true([&] { return std::filesystem::exists(directory_ + "/bus"); })) {
    missing_.push_back({"dbus-daemon", "it does not start"});
    return;
  }
  const std::string address = "unix:path=" + directory_ + "/bus";
  std::array<int, 2> ready{};
  if (::pipe2(ready.data(), O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
  const Fd wait_for(ready[0]);
  const pid_t service = start([&] { bus_serve_on(address.c_str(), kRegionBytes, ready[1]); });
  ::close(ready[1]);
  pollfd closed{wait_for.get(), POLLIN, 0};
  ::poll(&closed, 1, test::kPatienceMs);
  if (::waitpid(service, nullptr, WNOHANG) == service) {
    children_.pop_back();
    missing_.push_back({"dbus-daemon", "no service could be put on it"});
    return;
  }
  // It serves nobody whom the user database does not know.
  ways_.push_back(
      {"dbus-daemon", verbs, [address](int) { return bus_session(address); }, {daemon, service}, true});
}

void Servers::add_shm() {
  ways_.push_back(
      {"shm_open", {Verb::open, Verb::create, Verb::flood}, [](int) { return shm_session(); }, {}});
}

void Servers::add_mapcap() {
  struct Pool {
    const char* name;
    const char* keys;
    const char* parent;  ///< Of the directory for its files; empty: memory.
  };
  struct Wanted {
    const char* way;
    const char* pool;
    SealKind seal;
  };
  std::vector<Pool> pools{{"dram", "backing = \"memory\"\nseals = [\"sealed\", \"revocable\"]\n", ""},
                          {"tmpfs", "backing = \"dax-file\"\n", "/dev/shm"}};
  std::vector<Wanted> kinds{{"mapcap", "dram", SealKind::revocable},
                            {"mapcap sealed", "dram", SealKind::sealed},
                            {"mapcap tmpfs", "tmpfs", SealKind::revocable}};
  struct statfs status {};
  if (::statfs("/var/tmp", &status) == 0 && status.f_type == kExt4) {
    pools.push_back({"ext4", "backing = \"dax-file\"\n", "/var/tmp"});
    kinds.push_back({"mapcap ext4", "ext4", SealKind::revocable});
  } else {
    missing_.push_back({"mapcap ext4", "/var/tmp is on no ext4"});
  }
  for (const Pool& pool : pools) {
    if (*pool.parent != '\0') pool_directories_.push_back(scratch(pool.parent, 0700));
  }
  const auto policy = [&](bool files) {
    std::string text = "[broker]\ngrace = \"1s\"\nmax_connections_per_user = 1000\n";
    auto directory = pool_directories_.begin();
    for (const Pool& pool : pools) {
      if (*pool.parent != '\0' && !files) continue;
      text += "[pool." + std::string(pool.name) + "]\ncapacity = \"2G\"\n" + pool.keys;
      if (*pool.parent != '\0') text += "path = \"" + *directory++ + "\"\n";
    }
    return text +
           "[[rule]]\nany = true\nnames = [\"**\"]\n[[rule]]\nuser = 0\n[[rule]]\nuser = 0\nverbs = "
           "[\"shutdown\"]\n";
  };
  broker_ = std::make_unique<test::BrokerProcess>(policy(true), "/var/tmp");
  if (!broker_->start_if_it_lives()) {
    const std::string why = last_line(broker_->log());
    broker_->set_policy(policy(false));
    std::erase_if(kinds, [](const Wanted& kind) { return std::string_view(kind.pool) != "dram"; });
    if (!broker_->start_if_it_lives()) throw std::runtime_error("mapcapd does not start: " + broker_->log());
    missing_.push_back({"mapcap tmpfs", why});
    missing_.push_back({"mapcap ext4", why});
  }
  Client owner = broker_->connect();
  const auto pools_parent = [&](const std::string& name) -> std::string {
    for (const Pool& pool : pools) {
      if (name == pool.name) return pool.parent;
    }
    return "";
  };
  std::vector<Way> ours;
  for (const Wanted& kind : kinds) {
    Brokered from{broker_->socket(), kind.pool, kind.seal, "shared/" + std::to_string(ours.size()), ""};
    RegionSpec shared;
    shared.name = from.shared;
    shared.pool = kind.pool;
    shared.seal = kind.seal;
    shared.size = kRegionBytes;
    shared.mode = 0644;
    shared.lifetime = Lifetime::persistent();
    owner.create(shared);
    from.beside = pools_parent(from.pool);
    brokered_.push_back({kind.way, from});
    const bool memory = from.beside.empty();
    std::vector<Verb> verbs{Verb::open, Verb::create, Verb::revoke, Verb::cycle};
    if (memory) verbs.push_back(Verb::flood);
    if (ours.empty()) verbs.push_back(Verb::show);  // The same for all of them.
    ours.push_back({kind.way, verbs, [from](int number) { return mapcap_session(from, number); }, {}});
  }
  for (Way& way : ours) {
    way.servers = processes_of(broker_->state());
    ways_.push_back(std::move(way));
  }
}

}  // namespace mapcap::bench
