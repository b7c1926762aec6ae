// Reads a revocable region for as long as it is there, and lives on when it is taken away.
//
//     mapcap create alice/feed --size 1M --revocable
//     survive alice/feed &
//     mapcap revoke alice/feed --drain --within 5s
#include <mapcap/mapcap.h>
#include <poll.h>

#include <array>
#include <cstdio>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: survive NAME\n");
    return 2;
  }
  try {
    mapcap::ConnectOptions options;
    options.on_notice = [](const mapcap::Notice& notice) {
      if (notice.kind == mapcap::Notice::Kind::revoking)
        std::printf("survive: asked to let go of %s; reading on, to see what happens\n", notice.name.c_str());
    };
    auto client = mapcap::Client::connect(std::move(options));
    const mapcap::Grant grant = client.open(argv[1], mapcap::Access::read_only);
    const mapcap::Mapping mapping(grant);
    std::printf("survive: reading %s\n", argv[1]);
    std::fflush(stdout);
    for (unsigned long rounds = 0;; ++rounds) {
      std::array<std::byte, 4096> page{};
      if (try_read(mapping, 0, page) == mapcap::Touch::revoked) {
        std::printf("survive: %s was revoked after %lu reads, and nothing crashed\n", argv[1], rounds);
        return 0;
      }
      pollfd watched{client.fd(), POLLIN, 0};
      constexpr int kPauseMs = 10;
      if (::poll(&watched, 1, kPauseMs) == 1) client.poll();
    }
  } catch (const mapcap::Error& error) {
    std::fprintf(stderr, "survive: %s\n", error.what());
    return 1;
  }
}
