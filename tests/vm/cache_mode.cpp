// mapcap_cache_mode FD: prints how mappings of an inherited descriptor are cached, by this process's own page
// table: wb, wt, wc or uc. Exit status 1 with one sentence when that cannot be told.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "broker/bpf/page_attribute/page_attribute.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: mapcap_cache_mode FD\n", stderr);
    return 2;
  }
  const mapcap::BorrowedFd file(std::atoi(argv[1]));
  const auto mode = mapcap::broker::page_attribute::mapped_from(file);
  if (!mode) {
    std::fprintf(stderr, "mapcap_cache_mode: %s\n", mode.error().sentence.c_str());
    return 1;
  }
  std::printf("%s\n", std::string(to_string(mode.value())).c_str());
  return 0;
}
