// The steps of dividing a region: calls of libndctl and libdaxctl that change what the kernel keeps. The
// linker turns the broker's calls of NAME into __wrap_NAME, and __real_NAME is the library's (ld's --wrap).
#include <daxctl/libdaxctl.h>
#include <ndctl/libndctl.h>

#include "tests/faults/step.h"

namespace {

using mapcap::broker::parts::Acting;
using mapcap::broker::parts::step;

int taken(int done, const char* name) {
  if (done >= 0) step(name, Acting::pool());
  return done;
}

}  // namespace

// NOLINTBEGIN(bugprone-reserved-identifier): the linker's names.
extern "C" {
int __real_ndctl_namespace_set_size(ndctl_namespace* space, unsigned long long size);
int __wrap_ndctl_namespace_set_size(ndctl_namespace* space, unsigned long long size) {
  return taken(__real_ndctl_namespace_set_size(space, size), "sized");
}
int __real_ndctl_dax_set_namespace(ndctl_dax* dax, ndctl_namespace* space);
int __wrap_ndctl_dax_set_namespace(ndctl_dax* dax, ndctl_namespace* space) {
  return taken(__real_ndctl_dax_set_namespace(dax, space), "claimed");
}
int __real_ndctl_dax_enable(ndctl_dax* dax);
int __wrap_ndctl_dax_enable(ndctl_dax* dax) {
  return taken(__real_ndctl_dax_enable(dax), "enabled");
}
int __real_ndctl_namespace_disable_safe(ndctl_namespace* space);
int __wrap_ndctl_namespace_disable_safe(ndctl_namespace* space) {
  return taken(__real_ndctl_namespace_disable_safe(space), "disabled");
}
int __real_ndctl_namespace_delete(ndctl_namespace* space);
int __wrap_ndctl_namespace_delete(ndctl_namespace* space) {
  return taken(__real_ndctl_namespace_delete(space), "deleted");
}

int __real_daxctl_region_create_dev(daxctl_region* region);
int __wrap_daxctl_region_create_dev(daxctl_region* region) {
  return taken(__real_daxctl_region_create_dev(region), "seeded");
}
int __real_daxctl_dev_set_size(daxctl_dev* device, unsigned long long size);
int __wrap_daxctl_dev_set_size(daxctl_dev* device, unsigned long long size) {
  return taken(__real_daxctl_dev_set_size(device, size), size == 0 ? "emptied" : "sized");
}
int __real_daxctl_dev_enable_devdax(daxctl_dev* device);
int __wrap_daxctl_dev_enable_devdax(daxctl_dev* device) {
  return taken(__real_daxctl_dev_enable_devdax(device), "enabled");
}
int __real_daxctl_dev_disable(daxctl_dev* device);
int __wrap_daxctl_dev_disable(daxctl_dev* device) {
  return taken(__real_daxctl_dev_disable(device), "disabled");
}
int __real_daxctl_region_destroy_dev(daxctl_region* region, daxctl_dev* device);
int __wrap_daxctl_region_destroy_dev(daxctl_region* region, daxctl_dev* device) {
  return taken(__real_daxctl_region_destroy_dev(region, device), "deleted");
}
}
// NOLINTEND(bugprone-reserved-identifier)
