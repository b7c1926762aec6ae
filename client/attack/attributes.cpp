// Mode, owner, times and extended attributes.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

#include <array>
#include <cstring>

#include "client/attack/operation.h"
#include "client/attack/syscalls.h"

namespace mapcap::attack {
namespace {

void add_mode(Family& family) {
  struct NamedMode {
    const char* name;
    mode_t mode;
  };
  // 0123 differs from every mode a grant may have had, so that success is visible.
  for (const NamedMode to : {NamedMode{"0123", 0123}, NamedMode{"0", 0}, NamedMode{"setuid", 04755}}) {
    family.unchanged(std::string("fchmod ") + to.name,
                     [to](const Context& c) { return answered(fchmod(c.fd, to.mode)); });
  }
  family.unchanged("chmod /proc/self/fd",
                   [](const Context& c) { return answered(chmod(fd_path(c.fd).c_str(), 0123)); });
  family.unchanged("fchmodat2 AT_EMPTY_PATH", [](const Context& c) {
    return answered(syscall(number::fchmodat2, c.fd, "", 0123, AT_EMPTY_PATH));
  });
}

void add_owner(Family& family) {
  family.refused("fchown to oneself",
                 [](const Context& c) { return answered(fchown(c.fd, geteuid(), getegid())); });
  family.add("fchown -1 -1", Rule::node_times, [](const Context& c) {
    return answered(fchown(c.fd, static_cast<uid_t>(-1), static_cast<gid_t>(-1)));
  });
  family.refused("fchown of the group",
                 [](const Context& c) { return answered(fchown(c.fd, static_cast<uid_t>(-1), getegid())); });
  family.refused("chown /proc/self/fd", [](const Context& c) {
    return answered(chown(fd_path(c.fd).c_str(), geteuid(), getegid()));
  });
  family.refused("fchownat AT_EMPTY_PATH", [](const Context& c) {
    return answered(fchownat(c.fd, "", geteuid(), getegid(), AT_EMPTY_PATH));
  });
}

void add_times(Family& family) {
  static constexpr timespec kLongAgo[2] = {{1000, 0}, {1000, 0}};
  family.refused("futimens to now", [](const Context& c) { return answered(futimens(c.fd, nullptr)); });
  family.refused("futimens to a time", [](const Context& c) { return answered(futimens(c.fd, kLongAgo)); });
  family.refused("utimensat /proc/self/fd", [](const Context& c) {
    return answered(utimensat(AT_FDCWD, fd_path(c.fd).c_str(), kLongAgo, 0));
  });
  family.refused("utimensat AT_EMPTY_PATH", [](const Context& c) {
    return answered(syscall(SYS_utimensat, c.fd, "", kLongAgo, AT_EMPTY_PATH));
  });
  family.refused("utime /proc/self/fd",
                 [](const Context& c) { return answered(utime(fd_path(c.fd).c_str(), nullptr)); });
  family.refused("futimesat through the fd",
                 [](const Context& c) { return answered(syscall(SYS_futimesat, c.fd, nullptr, nullptr)); });
}

// A well-formed access ACL of three entries, so that a refusal is not for its shape.
std::vector<std::byte> small_acl() {
  struct Entry {
    std::uint16_t tag;
    std::uint16_t permissions;
    std::uint32_t id;
  };
  struct Acl {
    std::uint32_t version;
    Entry entries[3];
  };
  const Acl acl{2, {{0x01, 7, ~0U}, {0x04, 7, ~0U}, {0x20, 7, ~0U}}};
  std::vector<std::byte> bytes(sizeof acl);
  std::memcpy(bytes.data(), &acl, sizeof acl);
  return bytes;
}

constexpr const char* kAttributeNames[] = {
    "user.attack",      "trusted.attack",       "security.attack",
    "security.selinux", "security.capability",  "system.posix_acl_access",
    "system.attack",    "system.mapcap.rights", "mapcap.rights"};

std::vector<std::byte> value_for(std::string_view name) {
  if (name == "system.posix_acl_access") return small_acl();
  return std::vector<std::byte>(4, std::byte{'x'});
}

void add_extended(Family& family) {
  for (const char* name : kAttributeNames) {
    family.refused(std::string("fsetxattr ") + name, [name](const Context& c) {
      const std::vector<std::byte> value = value_for(name);
      return answered(fsetxattr(c.fd, name, value.data(), value.size(), 0));
    });
    family.refused(std::string("fremovexattr ") + name, [name](const Context& c) {
      const std::vector<std::byte> value = value_for(name);
      (void)fsetxattr(c.fd, name, value.data(), value.size(), 0);
      return answered(fremovexattr(c.fd, name));
    });
  }
  family.refused("setxattr /proc/self/fd user.attack", [](const Context& c) {
    return answered(setxattr(fd_path(c.fd).c_str(), "user.attack", "x", 1, 0));
  });
  family.refused("setxattrat AT_EMPTY_PATH user.attack", [](const Context& c) {
    const XattrArguments value{reinterpret_cast<std::uintptr_t>("x"), 1, 0};
    return answered(
        syscall(number::setxattrat, c.fd, "", AT_EMPTY_PATH, "user.attack", &value, sizeof value));
  });
  family.refused("removexattrat AT_EMPTY_PATH user.attack", [](const Context& c) {
    (void)fsetxattr(c.fd, "user.attack", "x", 1, 0);
    return answered(syscall(number::removexattrat, c.fd, "", AT_EMPTY_PATH, "user.attack"));
  });
  family.harmless("fgetxattr user.attack", [](const Context& c) {
    std::array<char, 64> value;
    return answered(fgetxattr(c.fd, "user.attack", value.data(), value.size()));
  });
  family.harmless("fgetxattr system.mapcap.name", [](const Context& c) {
    std::array<char, 512> value;
    return answered(fgetxattr(c.fd, "system.mapcap.name", value.data(), value.size()));
  });
  family.harmless("flistxattr", [](const Context& c) {
    std::array<char, 512> names;
    return answered(flistxattr(c.fd, names.data(), names.size()));
  });
}

void add_file_attributes(Family& family) {
  family.harmless("file_getattr AT_EMPTY_PATH", [](const Context& c) {
    FileAttributes attributes{};
    return answered(syscall(number::file_getattr, c.fd, "", &attributes, sizeof attributes, AT_EMPTY_PATH));
  });
  for (const std::uint64_t flag : {std::uint64_t{0x40} /* nodump */, std::uint64_t{0x10} /* append */}) {
    family.refused(std::string("file_setattr AT_EMPTY_PATH ") + (flag == 0x40 ? "nodump" : "append"),
                   [flag](const Context& c) {
                     FileAttributes attributes{};
                     attributes.flags = flag;
                     return answered(syscall(number::file_setattr, c.fd, "", &attributes, sizeof attributes,
                                             AT_EMPTY_PATH));
                   });
  }
}

}  // namespace

void add_attributes(std::vector<Operation>& all) {
  Family plain(all, "attributes");
  add_mode(plain);
  add_owner(plain);
  add_times(plain);
  add_extended(plain);
  add_file_attributes(plain);

  // Root of one's own user namespace has capabilities, but none over this inode.
  Family as_root(all, "attributes as namespace root", Where::own_namespace);
  as_root.unchanged("fchmod", [](const Context& c) { return answered(fchmod(c.fd, 0123)); });
  as_root.refused("fchown to root", [](const Context& c) { return answered(fchown(c.fd, 0, 0)); });
  as_root.refused("futimens", [](const Context& c) { return answered(futimens(c.fd, nullptr)); });
  as_root.refused("fsetxattr trusted",
                  [](const Context& c) { return answered(fsetxattr(c.fd, "trusted.attack", "x", 1, 0)); });
  as_root.refused("fsetxattr security",
                  [](const Context& c) { return answered(fsetxattr(c.fd, "security.attack", "x", 1, 0)); });
  as_root.unchanged("ftruncate to 0", [](const Context& c) { return answered(ftruncate(c.fd, 0)); });
}

}  // namespace mapcap::attack
