#include "broker/confine/lsm/kernel.h"

#include <sys/utsname.h>

#include <fstream>
#include <sstream>
#include <utility>

#include "base/machine/machine.h"

namespace mapcap::broker::confine::lsm {
namespace {

std::pair<int, int> version(const utsname& name) {
  int major = 0;
  int minor = 0;
  char dot = 0;
  std::istringstream(name.release) >> major >> dot >> minor;
  return {major, minor};
}

/// Whether a thread in the kernel can be preempted anywhere. False only where that is certain.
bool may_preempt(const utsname& name) {
  if (std::string(name.version).find("PREEMPT") == std::string::npos) return false;
  // "none (voluntary) full": what a PREEMPT_DYNAMIC kernel was booted with.
  std::string modes;
  std::ifstream file("/sys/kernel/debug/sched/preempt");
  if (std::getline(file, modes)) {
    return modes.find("(none)") == std::string::npos && modes.find("(voluntary)") == std::string::npos;
  }
  std::string words;
  std::ifstream command_line("/proc/cmdline");
  std::getline(command_line, words);
  if (words.find("preempt=") != std::string::npos) {
    return words.find("preempt=none") == std::string::npos &&
           words.find("preempt=voluntary") == std::string::npos;
  }
  std::ifstream configuration("/boot/config-" + std::string(name.release));
  for (std::string line; std::getline(configuration, line);) {
    if (line == "CONFIG_PREEMPT_NONE=y" || line == "CONFIG_PREEMPT_VOLUNTARY=y") return false;
  }
  return true;
}

}  // namespace

std::string kernel_lacks() {
  const machine::Fact fact = machine::bpf_lsm();
  if (fact.presence == machine::Presence::missing) return fact.found + "; " + fact.remedy;
  utsname name{};
  ::uname(&name);
  // Before 6.2 the kernel skips an LSM program, and lets the operation pass, when the same program was
  // preempted on the same processor. Without full preemption that cannot happen: the programs do not sleep.
  if (version(name) < std::pair(6, 2) && may_preempt(name)) {
    return std::string("Linux ") + name.release +
           " skips LSM programs under full preemption; boot with preempt=voluntary, or Linux 6.2 or newer";
  }
  return {};
}

}  // namespace mapcap::broker::confine::lsm
