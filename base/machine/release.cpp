#include "base/machine/release.h"

#include <sys/utsname.h>

#include <sstream>

namespace mapcap::machine {

std::string release() {
  utsname name{};
  ::uname(&name);
  return name.release;
}

std::pair<int, int> version() {
  int major = 0;
  int minor = 0;
  char dot = 0;
  std::istringstream(release()) >> major >> dot >> minor;
  return {major, minor};
}

}  // namespace mapcap::machine
