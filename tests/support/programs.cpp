#include "tests/support/programs.h"

namespace mapcap::test {

const char* mapcapd_path() {
  return PROGRAM_MAPCAPD;
}

const char* mapcapd_faults_path() {
#ifdef PROGRAM_MAPCAPD_FAULTS
  return PROGRAM_MAPCAPD_FAULTS;
#else
  return nullptr;  // Benchmarks have none.
#endif
}

const char* mapcap_stranger_path() {
#ifdef PROGRAM_MAPCAP_STRANGER
  return PROGRAM_MAPCAP_STRANGER;
#else
  return nullptr;
#endif
}

const char* mapcap_c_interface_path() {
#ifdef PROGRAM_MAPCAP_C_INTERFACE
  return PROGRAM_MAPCAP_C_INTERFACE;
#else
  return nullptr;
#endif
}

const char* mapcap_path() {
  return PROGRAM_MAPCAP;
}

}  // namespace mapcap::test
