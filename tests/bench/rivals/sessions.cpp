#include "tests/bench/rivals/sessions.h"

#include <fcntl.h>
#include <mapcap/mapcap.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <optional>
#include <system_error>
#include <utility>

#include "tests/bench/rivals/bus.h"
#include "tests/bench/rivals/floor.h"

namespace mapcap::bench {
namespace {

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

/// What a once() mapped, until after().
class Mapped {
 public:
  void take(void* at, const char* what) {
    if (at == nullptr || at == MAP_FAILED) fail(what);
    at_ = at;
  }
  /// Closes `fd`, as a client does that has its mapping.
  void map(Fd fd, int protection, const char* what) {
    if (!fd.valid()) fail(what);
    take(::mmap(nullptr, kRegionBytes, protection, MAP_SHARED, fd.get(), 0), what);
  }
  void reset() {
    if (at_ != nullptr) ::munmap(at_, kRegionBytes);
    at_ = nullptr;
  }

 private:
  void* at_ = nullptr;
};

/// So that many fit into a pool.
constexpr std::uint64_t kFloodedBytes = 1U << 16U;
constexpr int kBoth = PROT_READ | PROT_WRITE;

class FloorSession : public Session {
 public:
  explicit FloorSession(const std::string& path) : socket_(floor_connect(path.c_str())) {
    if (!socket_.valid()) fail("floor: connect");
  }
  void before(Verb verb) override {
    if (verb != Verb::revoke) return;
    map(FLOOR_KEEP);
    mapped_.reset();
  }
  void once(Verb verb) override {
    switch (verb) {
      case Verb::show:
        if (floor_ask(socket_.get(), FLOOR_PING, 0) < 0) fail("floor: ping");
        return;
      case Verb::open:
        return mapped_.map(Fd(floor_ask(socket_.get(), FLOOR_LOOKUP, 0)), PROT_READ, "floor: lookup");
      case Verb::create:
      case Verb::flood:
        return map(FLOOR_CREATE);
      case Verb::cycle:
        map(FLOOR_KEEP);
        mapped_.reset();
        [[fallthrough]];
      case Verb::revoke:
        if (floor_ask(socket_.get(), FLOOR_REVOKE, 0) < 0) fail("floor: revoke");
    }
  }
  void after(Verb) override { mapped_.reset(); }

 private:
  void map(floor_verb verb) {
    mapped_.map(Fd(floor_ask(socket_.get(), verb, kRegionBytes)), kBoth, "floor: create");
  }
  Fd socket_;
  Mapped mapped_;
};

class BusSession : public Session {
 public:
  explicit BusSession(bus_client* client) : client_(client) {
    if (client_ == nullptr) fail("sd-bus: connect");
  }
  ~BusSession() override { bus_disconnect(client_); }
  void once(Verb verb) override {
    if (verb == Verb::show) {
      if (bus_show(client_) != 0) fail("sd-bus: Show");
    } else if (verb == Verb::open) {
      mapped_.take(bus_open(client_, kRegionBytes), "sd-bus: Open");
    } else {
      mapped_.take(bus_create(client_, kRegionBytes), "sd-bus: Create");
    }
  }
  void after(Verb) override { mapped_.reset(); }

 private:
  bus_client* client_;
  Mapped mapped_;
};

class ShmSession : public Session {
 public:
  ShmSession() : own_("/mapcap-bench-" + std::to_string(::getpid())), shared_(own_ + "-shared") {
    make(shared_);
  }
  ~ShmSession() override { ::shm_unlink(shared_.c_str()); }
  void once(Verb verb) override {
    if (verb == Verb::open) {
      mapped_.map(Fd(::shm_open(shared_.c_str(), O_RDONLY | O_CLOEXEC, 0)), PROT_READ, "shm_open");
    } else {
      mapped_.map(make(own_), kBoth, "shm_open");
    }
  }
  void after(Verb verb) override {
    mapped_.reset();
    if (verb != Verb::open) ::shm_unlink(own_.c_str());
  }

 private:
  static Fd make(const std::string& name) {
    Fd fd(::shm_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!fd.valid() || ::ftruncate(fd.get(), kRegionBytes) != 0) fail("shm_open of " + name);
    return fd;
  }
  std::string own_;
  std::string shared_;
  Mapped mapped_;
};

class MapcapSession : public Session {
 public:
  MapcapSession(Brokered from, int number) : from_(std::move(from)), client_(connect(from_.socket)) {
    spec_.pool = from_.pool;
    spec_.seal = from_.seal;
    spec_.size = kRegionBytes;
    spec_.lifetime = Lifetime::persistent();
    prefix_ = "client-" + std::to_string(number) + "/" + from_.pool + "-" +
              (from_.seal == SealKind::sealed ? "sealed" : "revocable");
    spec_.name = prefix_ + "/one";
  }
  void before(Verb verb) override {
    if (verb == Verb::revoke) client_.create(spec_);
  }
  void once(Verb verb) override {
    switch (verb) {
      case Verb::show:
        if (client_.show(from_.shared).region.size != kRegionBytes) fail("mapcap: show");
        return;
      case Verb::open:
        mapping_.emplace(client_.open(from_.shared, Access::read_only));
        return;
      case Verb::create:
        mapping_.emplace(client_.create(spec_, Access::read_write));
        return;
      case Verb::cycle:
        mapping_.emplace(client_.create(spec_, Access::read_write));
        mapping_.reset();
        [[fallthrough]];
      case Verb::revoke:
        client_.revoke(spec_.name);
        return;
      case Verb::flood: {
        RegionSpec next = spec_;
        next.name = prefix_ + "/" + std::to_string(flooded_);
        next.size = kFloodedBytes;
        mapping_.emplace(client_.create(next, Access::read_write));
        ++flooded_;
      }
    }
  }
  void after(Verb verb) override {
    mapping_.reset();
    if (verb == Verb::create) client_.revoke(spec_.name);
  }
  void finish(Verb verb) override {
    if (verb != Verb::flood) return;
    while (flooded_ > 0) client_.revoke(prefix_ + "/" + std::to_string(--flooded_));
  }

 private:
  static Client connect(const std::string& socket) {
    ConnectOptions options;
    options.socket = socket;
    options.program = "bench";
    return Client::connect(options);
  }
  Brokered from_;
  Client client_;
  RegionSpec spec_;
  std::string prefix_;
  std::optional<Mapping> mapping_;
  std::uint64_t flooded_ = 0;
};

}  // namespace

const char* to_string(Verb verb) {
  constexpr std::array kNames{"show", "open", "create", "revoke", "cycle", "flood"};
  return kNames.at(static_cast<std::size_t>(verb));
}

bool Way::can(Verb verb) const {
  for (const Verb known : verbs) {
    if (known == verb) return true;
  }
  return false;
}

std::unique_ptr<Session> floor_session(const std::string& socket) {
  return std::make_unique<FloorSession>(socket);
}

std::unique_ptr<Session> peer_bus_session(const std::string& path) {
  return std::make_unique<BusSession>(bus_connect_peer(path.c_str()));
}

std::unique_ptr<Session> bus_session(const std::string& address) {
  return std::make_unique<BusSession>(bus_connect_to(address.c_str()));
}

std::unique_ptr<Session> shm_session() {
  return std::make_unique<ShmSession>();
}

std::unique_ptr<Session> mapcap_session(const Brokered& from, int number) {
  return std::make_unique<MapcapSession>(from, number);
}

}  // namespace mapcap::bench
