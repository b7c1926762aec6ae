// A private broker, from C.
#include <memory>

#include "client/c/call.h"
#include "mapcap/testing.h"

using namespace mapcap;

struct mapcap_dev {
  testing::PrivateBroker broker;
};

int mapcap_dev_start(const mapcap_dev_options* options, mapcap_dev** dev) {
  if (dev != nullptr) *dev = nullptr;
  return c::call([&] {
    c::needed(dev, "dev");
    const mapcap_dev_options asked =
        c::options_or(options, mapcap_dev_options MAPCAP_DEV_OPTIONS, "mapcap_dev_options");
    testing::PrivateBrokerOptions wanted;
    wanted.command = c::text(asked.command);
    wanted.start_within = c::milliseconds(asked.start_within_ms, 1, "start_within_ms");
    *dev = new mapcap_dev{testing::PrivateBroker(std::move(wanted))};
  });
}

const char* mapcap_dev_socket(const mapcap_dev* dev) {
  return dev->broker.socket().c_str();
}

void mapcap_dev_stop(mapcap_dev* dev) {
  delete dev;
}
