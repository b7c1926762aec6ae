// The C header, as C++ of each standard reads it.
#include <mapcap.h>

int mapcap_c_header_is_read() {
  mapcap_create_options options = MAPCAP_CREATE_OPTIONS;
  mapcap_region_info info = MAPCAP_REGION_INFO;
  mapcap_notice notice = MAPCAP_NOTICE;
  mapcap_endpoint_options endpoint = MAPCAP_ENDPOINT_OPTIONS;
  mapcap_endpoint_info made = MAPCAP_ENDPOINT_INFO;
  mapcap_end_info ended = MAPCAP_END_INFO;
  mapcap_status_info status = MAPCAP_STATUS_INFO;
  if (endpoint.size + made.size + ended.size + status.size == 0) return 0;
  return options.size == sizeof options && info.size == sizeof info && notice.size == sizeof notice;
}
