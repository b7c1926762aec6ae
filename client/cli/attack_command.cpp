// doctor --attack: the attack table on a fresh grant, or on a plain sealed memfd for comparison.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <iostream>

#include "client/attack/attack.h"
#include "client/cli/broker.h"
#include "client/cli/commands.h"
#include "client/cli/progress.h"
#include "client/raise.h"
#include "mapcap/error.h"

namespace mapcap::cli {
namespace {

constexpr std::uint64_t kMemfdSize = 1U << 20U;

// What a manager of shared memory without confinement would hand out.
Grant plain_sealed_memfd(Access rights) {
  Fd fd(::memfd_create("mapcap-attack", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) raise(io_error("memfd_create", errno));
  if (::ftruncate(fd.get(), static_cast<off_t>(kMemfdSize)) != 0)
    raise(io_error("ftruncate of a memfd", errno));
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    raise(io_error("fcntl(F_ADD_SEALS)", errno));
  if (rights == Access::read_only) {
    const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
    fd = Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) raise(io_error("reopening a memfd", errno));
  }
  RegionInfo info;
  info.name = "memfd";
  info.size = kMemfdSize;
  return Grant(std::move(fd), rights, std::move(info));
}

}  // namespace

int perform(const Common& common, const AttackCommand& command) {
  if (!command.except.empty() && !attack::is_operation(command.except)) {
    throw Error(ErrorCode::invalid, "the table has no operation " + command.except +
                                        "; mapcap doctor --attack --memfd --all lists them, family first");
  }
  const Grant grant = command.name.empty() ? plain_sealed_memfd(command.rights)
                                           : connect(common).open(command.name, command.rights);
  const attack::Target target{grant.fd(), grant.rights(), grant.size(),
                              static_cast<Confinement>(grant.info().confinement)};
  std::vector<attack::Outcome> outcomes;
  {
    const std::size_t total = attack::operation_count();
    CountedBar bar("attacking " + grant.info().name, total);
    attack::Options options;
    options.except = command.except;
    options.on_outcome = [&](const attack::Outcome&) { bar.step(); };
    outcomes = attack::run(target, options);
  }
  if (common.json) {
    attack::print_json(std::cout, outcomes);
  } else {
    attack::print_table(std::cout, outcomes, command.all ? attack::Rows::all : attack::Rows::findings);
  }
  const attack::Summary summary = attack::summarize(outcomes);
  return summary.holes == 0 && summary.broken == 0 ? 0 : 1;
}

}  // namespace mapcap::cli
