// A program that never talks to the broker: it is started with its memory.
//
//     mapcap create alice/counter --size 4K
//     mapcap run alice/counter:rw -- inherited
//
// Counts how often it was started, in the region, as durably as the region can be.
#include <mapcap/mapcap.h>

#include <cstdint>
#include <cstdio>
#include <string>

int main() {
  try {
    const auto all = mapcap::inherited();
    if (all.empty()) {
      std::fprintf(stderr, "inherited: nothing was passed; start me by mapcap run NAME:rw -- inherited\n");
      return 2;
    }
    const mapcap::Grant grant = mapcap::inherited(all.front().name);
    mapcap::Mapping mapping(grant);
    auto* starts = mapping.writable_at<std::uint64_t>(0);
    ++*starts;
    const mapcap::Granularity durable = mapping.persist(0, sizeof *starts);
    std::printf(
        "start number %llu of %s (%s)\n", static_cast<unsigned long long>(*starts), all.front().name.c_str(),
        durable == mapcap::Granularity::none ? "volatile: gone with the region"
                                             : ("durable by " + std::string(to_string(durable))).c_str());
    return 0;
  } catch (const mapcap::Error& error) {
    std::fprintf(stderr, "inherited: %s\n", error.what());
    return 1;
  }
}
