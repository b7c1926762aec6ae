#include "broker/confine/lsm/kernel.h"

#include <sys/utsname.h>

#include <fstream>
#include <utility>

#include "base/machine/machine.h"
#include "base/machine/release.h"
#include "base/small_file.h"

namespace mapcap::broker::confine::lsm {
namespace {

/// Whether a thread in the kernel can be preempted anywhere. False only where that is certain.
bool may_preempt() {
  utsname name{};
  ::uname(&name);
  if (std::string(name.version).find("PREEMPT") == std::string::npos) return false;
  // "none (voluntary) full": what a PREEMPT_DYNAMIC kernel was booted with.
  const std::string modes = first_line_of("/sys/kernel/debug/sched/preempt");
  if (!modes.empty()) {
    return modes.find("(none)") == std::string::npos && modes.find("(voluntary)") == std::string::npos;
  }
  const std::string words = first_line_of("/proc/cmdline");
  if (words.find("preempt=") != std::string::npos) {
    return words.find("preempt=none") == std::string::npos &&
           words.find("preempt=voluntary") == std::string::npos;
  }
  std::ifstream configuration("/boot/config-" + machine::release());
  for (std::string line; std::getline(configuration, line);) {
    if (line == "CONFIG_PREEMPT_NONE=y" || line == "CONFIG_PREEMPT_VOLUNTARY=y") return false;
  }
  return true;
}

}  // namespace

std::string kernel_lacks() {
  const machine::Fact fact = machine::bpf_lsm();
  if (fact.presence == machine::Presence::missing) return fact.found + "; " + fact.remedy;
  // Before 6.2 the kernel skips an LSM program, and lets the operation pass, when the same program was
  // preempted on the same processor. Without full preemption that cannot happen: the programs do not sleep.
  if (machine::version() < std::pair(6, 2) && may_preempt()) {
    return "Linux " + machine::release() +
           " skips LSM programs under full preemption; boot with preempt=voluntary, or Linux 6.2 or newer";
  }
  return {};
}

}  // namespace mapcap::broker::confine::lsm
