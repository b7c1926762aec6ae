// The C header, as C++ of each standard reads it.
#include <mapcap.h>

int mapcap_c_header_is_read() {
  mapcap_create_options options = MAPCAP_CREATE_OPTIONS;
  mapcap_region_info info = MAPCAP_REGION_INFO;
  mapcap_notice notice = MAPCAP_NOTICE;
  return options.size == sizeof options && info.size == sizeof info && notice.size == sizeof notice;
}
