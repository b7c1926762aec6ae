#include "tests/support/attackers.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "schema/channel.h"
#include "schema/codec.h"
#include "tests/support/lingering.h"

namespace mapcap::test {

using namespace std::chrono_literals;
using schema::Request;

namespace {

void become(uid_t user) {
  if (user != 0 && (::setresgid(user, user, user) != 0 || ::setresuid(user, user, user) != 0)) ::_exit(1);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // Another user would lose it again.
}

[[noreturn]] void repeat(const std::function<void()>& round) {
  ::signal(SIGPIPE, SIG_IGN);
  for (;;) {
    try {
      round();
    } catch (const std::exception&) {
      std::this_thread::sleep_for(1ms);
    }
  }
}

Fd greeted(const BrokerProcess& broker) {
  Fd socket = std::move(schema::connect_to(broker.socket()).value());
  (void)schema::send(socket.borrow(), schema::encode(Request{1, schema::Hello{}}));
  return socket;
}

constexpr std::size_t kPage = 4096;
constexpr uid_t kFirstLent = 164000;  // kLentUids

RegionSpec spec(const std::string& name, std::uint64_t size) {
  RegionSpec wanted;
  wanted.name = name;
  wanted.size = size;
  return wanted;
}

void hold_connections(const BrokerProcess& broker) {
  std::vector<Fd> held;
  for (int i = 0; i < 1000; ++i) {
    auto connected = schema::connect_to(broker.socket());
    if (connected) held.push_back(std::move(connected.value()));
  }
}

/// False: no more of it goes out.
bool push(const Fd& socket, const schema::Packet& packet, WhenFull when_full) {
  for (;;) {
    const auto sent = schema::send(socket.borrow(), packet);
    if (when_full == WhenFull::try_on) return true;  // Whatever came of it.
    if (!sent || sent.value()) return sent.has_value();
    pollfd room{socket.get(), POLLOUT, 0};
    ::poll(&room, 1, -1);
  }
}

void send_ahead(const BrokerProcess& broker, WhenFull when_full) {
  const Fd socket = greeted(broker);
  const schema::Packet list = schema::encode(Request{2, schema::List{}});
  for (int i = 0; i < 10000 && push(socket, list, when_full); ++i) {
  }
}

void send_nonsense(const BrokerProcess& broker, WhenFull when_full) {
  const Fd socket = std::move(schema::connect_to(broker.socket()).value());
  const schema::Packet largest(200UL * 1024, std::byte{0x41});
  for (int i = 0; i < 100 && push(socket, largest, when_full); ++i) {
  }
}

void hold_grants(const BrokerProcess& broker) {
  Client client = broker.connect();
  std::vector<Grant> held;
  for (;;) held.push_back(client.open(kSharedRegion, Access::read_only));
}

void never_read(const BrokerProcess& broker, WhenFull when_full) {
  const Fd socket = greeted(broker);
  schema::Create ask;
  ask.name = "slow/region";
  ask.size = 4096;
  ask.grant = Access::read_write;
  const schema::Packet create = schema::encode(Request{2, ask});
  while (push(socket, create, when_full)) {
  }
}

void ask_in_vain(const BrokerProcess& broker) {
  Client client = broker.connect();
  for (;;) {
    try {
      client.open("nobody/has/this", Access::read_write);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::not_found) throw;
    }
  }
}

void create_and_revoke(const BrokerProcess& broker) {
  Client client = broker.connect();
  for (;;) {
    { const Mapping mapping(client.create(spec("churn/region", 65536), Access::read_write)); }
    client.revoke("churn/region");
  }
}

void read_a_grant(const BrokerProcess& broker) {
  Client client = broker.connect();
  const Grant grant = client.open(kSharedRegion, Access::read_only);
  char byte = 0;
  for (;;) (void)!::read(grant.fd(), &byte, 1);
}

void map_often(const BrokerProcess& broker) {
  constexpr int kMappings = 60'000;  // Below vm.max_map_count.
  Client client = broker.connect();
  std::vector<void*> mapped;
  {
    const Grant grant = client.create(spec("mapped/region", kPage), Access::read_write);
    for (int i = 0; i < kMappings; ++i) {
      void* at = ::mmap(nullptr, kPage, PROT_READ, MAP_SHARED, grant.fd(), 0);
      if (at == MAP_FAILED) break;
      [[maybe_unused]] const char touched = *static_cast<volatile char*>(at);
      mapped.push_back(at);
    }
  }
  client.revoke("mapped/region");
  for (void* at : mapped) ::munmap(at, kPage);
}

void let_go_of_many(const BrokerProcess& broker) {
  Client client = broker.connect();
  std::vector<Grant> held;
  try {
    for (;;) held.push_back(client.open(kSharedRegion, Access::read_only));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::over_quota) throw;
  }
}

void list_with_stars(const BrokerProcess& broker) {
  Client client = broker.connect();
  for (int i = 0; i < 100; ++i) {
    RegionSpec wanted = spec("stars/" + std::string(240, 'a') + std::to_string(i), kPage);
    try {
      client.create(wanted);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::over_quota && error.code() != ErrorCode::exists) throw;
    }
  }
  std::string glob = "stars/";
  while (glob.size() < 250) glob += "*a";
  glob += "*b";
  for (;;) client.list(glob);
}

void populate_and_revoke(const BrokerProcess& broker) {
  Client client = broker.connect();
  RegionSpec wanted = spec("populated/region", 64U << 20U);
  wanted.pool = kPopulatedPool;
  for (;;) {
    client.create(wanted);
    client.revoke("populated/region");
  }
}

/// `work` again and again, in so many threads at once.
void side_by_side(int threads, const std::function<void(int)>& work) {
  std::vector<std::thread> sides;
  for (int number = 0; number < threads; ++number) {
    sides.emplace_back([&work, number] {
      for (;;) {
        try {
          work(number);
        } catch (const std::exception&) {
          std::this_thread::sleep_for(1ms);
        }
      }
    });
  }
  for (std::thread& side : sides) side.join();
}

/// Waits for the answer to the request before.
std::optional<schema::Incoming> heard(const Fd& socket) {
  pollfd waiting{socket.get(), POLLIN, 0};
  if (::poll(&waiting, 1, 1000) != 1) return std::nullopt;
  auto received = schema::receive(socket.borrow(), schema::kMaxPacket, 1);
  if (!received || !std::holds_alternative<schema::Incoming>(received.value())) return std::nullopt;
  return std::move(std::get<schema::Incoming>(received.value()));
}

void let_sockets_ride(const BrokerProcess& broker) {
  constexpr std::size_t kPassengers = 32;
  const Fd socket = std::move(schema::connect_to(broker.socket()).value());
  schema::Hello hello;
  hello.features = schema::kFeatureSendsFds;
  (void)schema::send(socket.borrow(), schema::encode(Request{1, hello}));
  (void)heard(socket);
  std::vector<Fd> peers;
  std::vector<std::thread> closing;
  const std::vector<std::byte> nonsense(24, std::byte{0x41});
  for (std::uint64_t number = 2; number < 2 + kPassengers; ++number) {
    Lingering passenger;
    const std::array<BorrowedFd, 1> riding{passenger.socket.borrow()};
    (void)schema::send(socket.borrow(), schema::encode(Request{number, schema::List{}}), riding);
    (void)schema::send(socket.borrow(),
                       schema::encode(Request{number + kPassengers, schema::AskClonePort{}}));
    while (auto packet = heard(socket)) {
      if (packet->fds.empty()) continue;  // The list's.
      (void)schema::send(packet->fds.front().borrow(), nonsense, riding);
      break;
    }
    // Whoever is the last to have it lingers: one's own process where the broker was faster.
    closing.emplace_back([last = passenger.socket.release()] { ::close(last); });
    peers.push_back(std::move(passenger.peer));
  }
  peers.clear();  // Which resets what still lingers.
  for (std::thread& thread : closing) thread.join();
}

void clone_a_file(const BrokerProcess& broker) {
  side_by_side(4, [&](int) {
    Client client = broker.connect();
    const Fd file(::open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (::ftruncate(file.get(), kPage) != 0) return;
    for (;;) client.clone(file.get(), Access::read_only);
  });
}

/// In the calling process and its children.
void read_as_lent_users(const BrokerProcess& broker) {
  for (int number = 1; number < kLentUidsUsed; ++number) {
    if (::fork() != 0) continue;
    become(kFirstLent + static_cast<uid_t>(number));
    repeat([&] { read_a_grant(broker); });
  }
  ::pause();
}

void churn_through_endpoints(const BrokerProcess& broker) {
  side_by_side(kEndpointsUsed, [&](int number) {
    const std::string id = "hostile-" + std::to_string(number);
    EndpointSpec wanted;
    wanted.id = id;
    wanted.names = {id + "/**"};
    Client own = broker.connect();
    try {
      own.endpoint_create(wanted);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::exists) throw;
    }
    const Fd directory = own.endpoint_directory(id);
    ConnectOptions options;
    options.socket = "/proc/self/fd/" + std::to_string(directory.get()) + "/mapcap.sock";
    Client client = Client::connect(options);
    for (;;) {
      { const Mapping mapping(client.create(spec(id + "/region", 65536), Access::read_write)); }
      client.revoke(id + "/region");
    }
  });
}

}  // namespace

const char* to_string(Attack attack) {
  constexpr std::array kNames{"connections", "requests",   "largest packets", "grants",
                              "deaf",        "refused",    "churn",           "misread",
                              "mappings",    "letting go", "stars",           "populating",
                              "riders",      "clones",     "lent uids",       "endpoints"};
  return kNames.at(static_cast<std::size_t>(attack));
}

void carry_out(Attack attack, const BrokerProcess& broker, WhenFull when_full) {
  switch (attack) {
    case Attack::connections:
      return hold_connections(broker);
    case Attack::requests:
      return send_ahead(broker, when_full);
    case Attack::largest_packets:
      return send_nonsense(broker, when_full);
    case Attack::grants:
      return hold_grants(broker);
    case Attack::deaf:
      return never_read(broker, when_full);
    case Attack::refused:
      return ask_in_vain(broker);
    case Attack::churn:
      return create_and_revoke(broker);
    case Attack::misread:
      return read_a_grant(broker);
    case Attack::mappings:
      return map_often(broker);
    case Attack::letting_go:
      return let_go_of_many(broker);
    case Attack::stars:
      return list_with_stars(broker);
    case Attack::populating:
      return populate_and_revoke(broker);
    case Attack::riders:
      return let_sockets_ride(broker);
    case Attack::clones:
      return clone_a_file(broker);
    case Attack::lent_uids:
      return read_as_lent_users(broker);
    case Attack::endpoints:
      return churn_through_endpoints(broker);
  }
}

Attacker::Attacker(const std::function<void()>& round) : Attacker(round, kAttacker) {}

Attacker::Attacker(const std::function<void()>& round, uid_t user) {
  child_ = ::fork();
  if (child_ != 0) return;
  become(user);
  repeat(round);
}

Attacker::Attacker(const BrokerProcess& broker, Attack attack, WhenFull when_full)
    : Attacker([&broker, attack, when_full] { carry_out(attack, broker, when_full); },
               attack == Attack::lent_uids ? 0 : kAttacker) {}

void Attacker::end() {
  if (child_ <= 0) return;
  ::kill(child_, SIGKILL);
  ::waitpid(child_, nullptr, 0);
  child_ = 0;
}

std::uint64_t resident_kib(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  std::string word;
  while (status >> word && word != "VmRSS:") {
  }
  std::uint64_t kib = 0;
  status >> kib;
  return kib;
}

std::size_t descriptors_of(pid_t pid) {
  std::size_t count = 0;
  std::error_code failed;
  std::filesystem::directory_iterator entry("/proc/" + std::to_string(pid) + "/fd", failed);
  for (; !failed && entry != std::filesystem::directory_iterator(); entry.increment(failed)) {
    std::error_code closed;
    const std::string target = std::filesystem::read_symlink(entry->path(), closed).string();
    if (target.find('#') != std::string::npos && target.ends_with(" (deleted)")) continue;
    if (target != "// (deleted)") {
      ++count;
    } else if (count > 0) {
      --count;  // Its memory.
    }
  }
  return count;
}

}  // namespace mapcap::test
