// mapcap_create_progress NAME POOL SIZE: creates a region and prints a line "DONE TOTAL", in bytes, for each
// report of how far its memory is prepared. Exit status 1 with one sentence when it cannot be created.
#include <mapcap/mapcap.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fputs("usage: mapcap_create_progress NAME POOL SIZE\n", stderr);
    return 2;
  }
  mapcap::RegionSpec wanted;
  wanted.name = argv[1];
  wanted.pool = argv[2];
  wanted.size = std::strtoull(argv[3], nullptr, 10);
  wanted.lifetime = mapcap::Lifetime::persistent();
  try {
    mapcap::Client::connect().create(wanted, [](std::uint64_t done, std::uint64_t total) {
      std::printf("%" PRIu64 " %" PRIu64 "\n", done, total);
    });
  } catch (const mapcap::Error& error) {
    std::fprintf(stderr, "mapcap_create_progress: %s\n", error.what());
    return 1;
  }
  return 0;
}
