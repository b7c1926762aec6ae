// The shortest whole story: create a region, store into it, and share it with another process that can only
// read.
//
//     hello [NAME]        NAME: the region to make, default USER/hello
#include <mapcap/mapcap.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <string>

namespace {

// The other process: it is handed an fd, and that is all it has.
int reader(int socket) {
  const mapcap::Grant grant = mapcap::Grant::receive(socket);
  const mapcap::Mapping mapping(grant);
  // Clones say what they are of; other grants are bare files.
  const std::string& name = grant.info().name;
  std::printf("reader: got a %s grant of %s, %zu bytes, %s-confined\n",
              std::string(to_string(grant.rights())).c_str(), name.empty() ? "a region" : name.c_str(),
              mapping.size(), std::string(to_string(grant.info().confinement)).c_str());
  std::printf("reader: %s\n", mapping.at<char>(0));
  return 0;
}

void share(const mapcap::Grant& grant) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    throw std::runtime_error("socketpair");
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    int code = 1;
    try {
      code = reader(ends[1]);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "reader: %s\n", error.what());
    }
    std::fflush(stdout);
    ::_exit(code);
  }
  ::close(ends[1]);
  grant.send(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  ::close(ends[0]);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const passwd* user = ::getpwuid(::getuid());  // NOLINT(concurrency-mt-unsafe): it has one thread.
    const std::string name =
        argc > 1 ? argv[1]
                 : (user != nullptr ? user->pw_name : std::to_string(::getuid())) + std::string("/hello");

    auto client = mapcap::Client::connect();
    // Lifetime `connection`, the default: the region goes when this program does.
    const mapcap::Grant grant = client.create({.name = name, .size = 1 << 20}, mapcap::Access::read_write);
    mapcap::Mapping mapping(grant);
    constexpr char kText[] = "hello from a region that can be mapped and nothing else";
    mapping.memcpy_persist(0, std::as_bytes(std::span(kText)));

    // Rights only shrink: what is shared is a second grant, for reading.
    share(client.open(name, mapcap::Access::read_only));
    return 0;
  } catch (const mapcap::Error& error) {
    std::fprintf(stderr, "hello: %s\n", error.what());
    return 1;
  }
}
