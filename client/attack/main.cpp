// mapcap-attack: the attack table on its own, for trying a confinement before a broker issues it.
//
//   mapcap-attack --fd N --rights ro|rw [--confinement clone|native|lsm|sealed] [options]
//   mapcap-attack --memfd SIZE [--rights ro|rw] [options]      a plain sealed memfd, to see what it lets
//   through
//
// Options: --all (every row), --json, --only TEXT, --size BYTES (where fstat does not tell).
// Ends with 0: no hole and nothing broken, 1: something was found, 2: usage.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <iostream>
#include <optional>
#include <string_view>

#include "client/attack/attack.h"

namespace {

using mapcap::Access;
using mapcap::Confinement;

[[noreturn]] void usage() {
  std::cerr << "usage: mapcap-attack (--fd N | --memfd SIZE) [--rights ro|rw] [--confinement "
               "clone|native|lsm|sealed]\n"
               "                     [--size BYTES] [--only TEXT] [--all] [--json]\n";
  std::exit(2);
}

Confinement confinement_of(std::string_view text) {
  if (text == "clone") return Confinement::clone;
  if (text == "native") return Confinement::native;
  if (text == "lsm") return Confinement::lsm;
  if (text == "sealed") return Confinement::sealed;
  usage();
}

// A memfd as an unconfined pool would hand it out: the attacker's own, and sealed.
int sealed_memfd(off_t size, Access rights) {
  const int fd = memfd_create("attacked", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0 || ftruncate(fd, size) != 0 || (geteuid() == 0 && fchown(fd, 65534, 65534) != 0) ||
      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    std::cerr << "mapcap-attack: cannot make a sealed memfd: " << strerrordesc_np(errno) << '\n';
    std::exit(1);
  }
  if (rights == Access::read_write) return fd;
  return open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDONLY | O_CLOEXEC);
}

struct Arguments {
  int fd = -1;
  std::optional<off_t> memfd_size;
  Access rights = Access::read_write;
  Confinement confinement = Confinement::clone;
  std::uint64_t size = 0;
  bool all = false;
  bool json = false;
  mapcap::attack::Options options;
};

Arguments parse(int argc, char** argv) {
  Arguments parsed;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--all") {
      parsed.all = true;
      continue;
    }
    if (name == "--json") {
      parsed.json = true;
      continue;
    }
    if (++i == argc) usage();
    const std::string_view value = argv[i];
    if (name == "--fd") {
      parsed.fd = std::atoi(argv[i]);
    } else if (name == "--memfd") {
      parsed.memfd_size = std::atoll(argv[i]);
    } else if (name == "--rights" && (value == "ro" || value == "rw")) {
      parsed.rights = value == "ro" ? Access::read_only : Access::read_write;
    } else if (name == "--confinement") {
      parsed.confinement = confinement_of(value);
    } else if (name == "--size") {
      parsed.size = std::strtoull(argv[i], nullptr, 10);
    } else if (name == "--only") {
      parsed.options.only = value;
    } else {
      usage();
    }
  }
  if ((parsed.fd < 0) == !parsed.memfd_size) usage();
  return parsed;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments = parse(argc, argv);
  if (arguments.memfd_size) {
    arguments.fd = sealed_memfd(*arguments.memfd_size, arguments.rights);
    arguments.confinement = Confinement::sealed;
  }
  if (arguments.size == 0) {
    struct stat state {};
    if (fstat(arguments.fd, &state) != 0 || state.st_size <= 0) {
      std::cerr << "mapcap-attack: fd " << arguments.fd << " does not tell its size; give it with --size\n";
      return 2;
    }
    arguments.size = static_cast<std::uint64_t>(state.st_size);
  }
  const auto outcomes = mapcap::attack::run(
      {arguments.fd, arguments.rights, arguments.size, arguments.confinement}, arguments.options);
  if (arguments.json) {
    mapcap::attack::print_json(std::cout, outcomes);
  } else {
    mapcap::attack::print_table(std::cout, outcomes,
                                arguments.all ? mapcap::attack::Rows::all : mapcap::attack::Rows::findings);
  }
  const mapcap::attack::Summary sum = mapcap::attack::summarize(outcomes);
  return sum.operations > 0 && sum.holes == 0 && sum.broken == 0 ? 0 : 1;
}
