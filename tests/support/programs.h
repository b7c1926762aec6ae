// Where the programs under test lie. That is compiled into programs.cpp alone: in every test file's command line it
// would keep a compiler cache from serving another checkout.
#pragma once

namespace mapcap::test {

/// Absolute, of the build that the test belongs to.
const char* mapcapd_path();
const char* mapcapd_faults_path();
const char* mapcap_stranger_path();
const char* mapcap_path();
const char* mapcap_c_interface_path();

}  // namespace mapcap::test

#ifndef MAPCAPD_PATH
#define MAPCAPD_PATH (mapcap::test::mapcapd_path())
#define MAPCAPD_FAULTS_PATH (mapcap::test::mapcapd_faults_path())
#define MAPCAP_STRANGER_PATH (mapcap::test::mapcap_stranger_path())
#define MAPCAP_PATH (mapcap::test::mapcap_path())
#define MAPCAP_C_INTERFACE_PATH (mapcap::test::mapcap_c_interface_path())
#endif
