#include "base/machine/machine.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/bpf_common.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/fuse.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>

#include "base/machine/memory.h"
#include "base/machine/release.h"
#include "base/newer_linux.h"
#include "base/small_file.h"
#include "mapcap/fd.h"

namespace mapcap::machine {
namespace {

// Newer than linux-libc-dev 6.1.
constexpr std::uint32_t kPassthrough = 1U << 5U;  // FUSE_PASSTHROUGH >> 32, Linux 6.9
constexpr long kListLsm = 461;                    // lsm_list_modules(2), Linux 6.8
constexpr std::uint64_t kLsmBpf = 110;            // LSM_ID_BPF
constexpr int kOldestMajor = 6;
constexpr int kOldestMinor = 1;
// Sixteen users with the thousand regions that the default policy gives each.
constexpr rlim_t kFewDescriptors = 16384;

std::string reason(int error) {
  return std::generic_category().message(error);
}

Fact present(std::string found) {
  return {Presence::present, std::move(found), {}};
}
Fact missing(std::string found, std::string remedy) {
  return {Presence::missing, std::move(found), std::move(remedy)};
}
Fact unknown(std::string found, std::string remedy) {
  return {Presence::unknown, std::move(found), std::move(remedy)};
}

// The distribution's copy of the kernel's configuration; absent where it keeps none.
std::optional<bool> configured(const std::string& option) {
  std::ifstream file("/boot/config-" + release());
  if (!file) return std::nullopt;
  for (std::string line; std::getline(file, line);) {
    if (line == option + "=y" || line == option + "=m") return true;
  }
  return false;
}

bool has_capability(unsigned capability) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> data{};
  if (::syscall(SYS_capget, &header, data.data()) != 0) return false;
  return (data[capability / 32].effective & (1U << (capability % 32))) != 0;
}

// In a container's user namespace capabilities are there and count for nothing here.
bool in_initial_user_namespace() {
  // "0 0 4294967295" is the identity map of the initial namespace.
  std::istringstream map(first_line_of("/proc/self/uid_map"));
  std::uint64_t inside = 1;
  std::uint64_t outside = 1;
  std::uint64_t length = 0;
  map >> inside >> outside >> length;
  return inside == 0 && outside == 0 && length == 4294967295ULL;
}

// The upper half of the flags that the kernel offers in FUSE INIT, or an errno. The mount is attached
// nowhere, and ends with the descriptors.
struct Offer {
  int error = 0;
  std::uint32_t flags2 = 0;
};
Offer ask_fuse() {
  const Fd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!device.valid()) return {errno, 0};
  const Fd context(::fsopen("fuse", FSOPEN_CLOEXEC));
  if (!context.valid()) return {errno, 0};
  const std::string number = std::to_string(device.get());
  const std::array<std::pair<const char*, const char*>, 4> settings = {
      {{"fd", number.c_str()}, {"rootmode", "40700"}, {"user_id", "0"}, {"group_id", "0"}}};
  for (const auto& [key, value] : settings) {
    if (::fsconfig(context.get(), FSCONFIG_SET_STRING, key, value, 0) != 0) return {errno, 0};
  }
  if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return {errno, 0};
  constexpr int kPatienceMs = 2000;  // the kernel queues INIT while it mounts
  pollfd watched{device.get(), POLLIN, 0};
  if (::poll(&watched, 1, kPatienceMs) != 1) return {ETIMEDOUT, 0};
  alignas(8) std::array<char, 8192> request{};  // FUSE_MIN_READ_BUFFER
  const ssize_t got = ::read(device.get(), request.data(), request.size());
  if (got < 0) return {errno, 0};
  fuse_init_in init{};
  constexpr std::size_t kFlags2End = offsetof(fuse_init_in, flags2) + sizeof init.flags2;
  if (static_cast<std::size_t>(got) < sizeof(fuse_in_header) + kFlags2End) return {0, 0};  // before 5.17
  const std::size_t body = static_cast<std::size_t>(got) - sizeof(fuse_in_header);
  std::memcpy(&init, request.data() + sizeof(fuse_in_header), std::min(body, sizeof init));
  return {0, init.flags2};
}

// Whether the kernel takes BPF programs of type LSM at all: 0, or an errno. Nothing is loaded, since the
// program names no function to attach to (btf id 0), which is EINVAL once type and privilege have been
// accepted.
int refuses_lsm_programs() {
  std::array<bpf_insn, 2> nothing{};
  nothing[0].code = BPF_ALU64 | BPF_MOV | BPF_K;
  nothing[1].code = BPF_JMP | BPF_EXIT;
  constexpr std::array<char, 4> kLicense{"GPL"};
  bpf_attr load{};
  load.prog_type = BPF_PROG_TYPE_LSM;
  load.expected_attach_type = BPF_LSM_MAC;
  // SAFETY: bpf(2) takes user addresses as 64-bit integers; both arrays outlive the call.
  load.insns = reinterpret_cast<std::uintptr_t>(nothing.data());
  load.insn_cnt = nothing.size();
  load.license = reinterpret_cast<std::uintptr_t>(kLicense.data());
  const Fd program(static_cast<int>(::syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load)));
  return program.valid() || errno == EINVAL ? 0 : errno;
}

// Who holds an flock(2) on the file: a process id from /proc/locks, or "". Taking the lock to find out would
// stop a broker that starts at this moment.
std::string locked_by(const std::string& path) {
  struct stat facts {};
  if (::stat(path.c_str(), &facts) != 0) return {};
  const std::string inode = ":" + std::to_string(facts.st_ino);
  std::ifstream locks("/proc/locks");
  std::string number;
  std::string kind;
  std::string advisory;
  std::string access;
  std::string pid;
  std::string file;
  for (std::string line; std::getline(locks, line);) {
    std::istringstream words(line);
    words >> number >> kind >> advisory >> access >> pid >> file;
    if (kind == "FLOCK" && file.ends_with(inode)) return pid;
  }
  return {};
}

Fact active_bpf_lsm() {
  const std::string there = "bpf is among the active LSMs, and BTF is there";
  if (!has_capability(CAP_SYS_ADMIN))
    return unknown(there + ", but only root may ask whether programs are taken", "run mapcap doctor as root");
  struct statfs pins {};
  if (::statfs("/sys/fs/bpf", &pins) != 0 || pins.f_type != BPF_FS_MAGIC)
    return missing("no BPF filesystem is mounted at /sys/fs/bpf", "mount -t bpf bpf /sys/fs/bpf");
  if (const int error = refuses_lsm_programs(); error != 0)
    return missing("the kernel refuses LSM programs: " + reason(error),
                   "boot a kernel that is not locked down, or use another confinement");
  return present("the kernel takes BPF LSM programs");
}

}  // namespace

Fact kernel() {
  const std::string name = "Linux " + release();
  if (version() >= std::pair(kOldestMajor, kOldestMinor)) return present(name);
  return missing(name, "install Linux 6.9 or newer; nothing here was tried on kernels before 6.1");
}

Fact administrator() {
  if (!has_capability(CAP_SYS_ADMIN))
    return missing("CAP_SYS_ADMIN is missing", "start mapcapd as root, or with CAP_SYS_ADMIN");
  if (!in_initial_user_namespace())
    return missing("root of a user namespace only",
                   "start mapcapd outside the container, or in one without its own user namespace");
  return present("CAP_SYS_ADMIN");
}

Fact fuse_passthrough() {
  const std::string no_kernel = "boot Linux 6.9 or newer with CONFIG_FUSE_PASSTHROUGH=y";
  if (::access("/dev/fuse", F_OK) != 0)
    return missing("no /dev/fuse",
                   "run `modprobe fuse`, and pass /dev/fuse into the container if this is one");
  const Offer offer = ask_fuse();
  if (offer.error == 0) {
    if ((offer.flags2 & kPassthrough) != 0) return present("the kernel offers FUSE_PASSTHROUGH");
    return missing("the kernel's FUSE has no passthrough", no_kernel);
  }
  if (offer.error != EPERM && offer.error != EACCES)
    return missing("a FUSE mount fails: " + reason(offer.error), no_kernel);
  // Nobody but root may ask. What the kernel says of itself still tells most.
  if (version() < std::pair(6, 9)) return missing("Linux " + release() + " is older than 6.9", no_kernel);
  const auto built = configured("CONFIG_FUSE_PASSTHROUGH");
  if (built == false) return missing("the kernel was built without CONFIG_FUSE_PASSTHROUGH", no_kernel);
  if (built == true) return present("CONFIG_FUSE_PASSTHROUGH=y (run as root to ask the kernel itself)");
  return unknown("only root can ask the kernel", "run mapcap doctor as root");
}

Fact memfd_secret() {
#ifdef SYS_memfd_secret
  const Fd fd(static_cast<int>(::syscall(SYS_memfd_secret, O_CLOEXEC)));
#else
  const Fd fd(static_cast<int>(::syscall(447, O_CLOEXEC)));
#endif
  if (fd.valid()) return present("memfd_secret(2) works");
  return missing("memfd_secret(2): " + reason(errno), "boot with secretmem.enable=1, on Linux 5.14 or newer");
}

bool cachestat() {
  constexpr long kCachestat = 451;
  return ::syscall(kCachestat, -1, nullptr, nullptr, 0) == 0 || errno != ENOSYS;
}

Fact append_flag() {
  const Fd fd(::memfd_create("mapcap-probe", MFD_CLOEXEC));
  if (!fd.valid())
    return unknown("memfd_create: " + reason(errno), "free memory or descriptors, and try again");
  unsigned flags = FS_APPEND_FL;
  // SAFETY: the ioctl reads one int through the pointer; its size in the number is historical.
  if (::ioctl(fd.get(), FS_IOC_SETFLAGS, &flags) == 0) return present("FS_APPEND_FL works on memory");
  if (errno == EPERM) return unknown("only root may set it", "run mapcap doctor as root");
  return missing("FS_APPEND_FL on a memfd: " + reason(errno),
                 "boot Linux 6.6 or newer; without it holders can punch holes by MADV_REMOVE");
}

Fact bpf_lsm() {
  const std::string boot = "boot with lsm=...,bpf, on a kernel with CONFIG_BPF_LSM=y";
  if (::access("/sys/kernel/btf/vmlinux", F_OK) != 0)
    return missing("the kernel has no BTF", "boot a kernel with CONFIG_DEBUG_INFO_BTF=y");
  std::array<std::uint64_t, 32> ids{};
  std::uint32_t bytes = sizeof ids;
  const long count = ::syscall(kListLsm, ids.data(), &bytes, 0);
  if (count >= 0) {
    const auto* end = ids.data() + count;
    if (std::find(static_cast<const std::uint64_t*>(ids.data()), end, kLsmBpf) != end)
      return active_bpf_lsm();
    return missing("bpf is not among the active LSMs", boot);
  }
  const std::string active = "," + first_line_of("/sys/kernel/security/lsm") + ",";
  if (active.find(",bpf,") != std::string::npos) return active_bpf_lsm();
  if (active == ",,")
    return unknown("/sys/kernel/security/lsm cannot be read",
                   "mount -t securityfs none /sys/kernel/security");
  return missing("bpf is not among the active LSMs", boot);
}

Fact huge_pages() {
  const std::string setting = first_line_of("/sys/kernel/mm/transparent_hugepage/enabled");
  if (setting.empty())
    return missing("no transparent huge pages", "boot a kernel with CONFIG_TRANSPARENT_HUGEPAGE=y");
  // Regions live in a tmpfs of their own that asks for huge=always, whatever this says, unless it says
  // "deny".
  const std::string shared = first_line_of("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  if (shared.find("[deny]") != std::string::npos)
    return missing("shmem_enabled is \"deny\"",
                   "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled");
  const std::optional<std::uint64_t> free = free_huge_pages();
  return present("transparent huge pages for shared memory" +
                 (free ? ", " + std::to_string(*free) + " free in one piece" : std::string()));
}

Fact memory_accounting(const std::string& proc) {
  const Memory now = memory(proc);
  if (now.overcommit != 2) {
    return present("vm.overcommit_memory " + std::to_string(now.overcommit) +
                   ": not strict, pages are allocated when they are touched");
  }
  const std::string found =
      "vm.overcommit_memory 2: strict, every page of a region is allocated at create; " +
      round_bytes(now.commit_room()) + " of the commit limit of " + round_bytes(now.commit_limit) +
      " are left";
  if (now.commit_room().value > 0) return present(found);
  return missing(found, "raise vm.overcommit_ratio or vm.overcommit_kbytes, or end what is not needed");
}

Fact numa() {
  std::error_code error;
  std::size_t nodes = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/devices/system/node", error)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("node") && name.size() > 4 &&
        name.find_first_not_of("0123456789", 4) == std::string::npos)
      ++nodes;
  }
  if (nodes > 1) return present(std::to_string(nodes) + " memory nodes");
  return missing("one memory node", "nothing: pools with `numa` are of no use on this machine");
}

Fact refuses_descriptors() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return unknown("socketpair: " + reason(errno), "free descriptors, and try again");
  const Fd one(ends[0]);
  const Fd other(ends[1]);
  const int off = 0;
  if (::setsockopt(one.get(), SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof off) == 0)
    return present("SO_PASSRIGHTS works");
  return missing("SO_PASSRIGHTS: " + reason(errno),
                 "nothing: clients' descriptors are dropped by the receiver instead");
}

Fact descriptor_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const std::string found = "RLIMIT_NOFILE " + std::to_string(limit.rlim_cur) + ", at most " +
                            (limit.rlim_max == RLIM_INFINITY ? "any" : std::to_string(limit.rlim_max));
  if (limit.rlim_max >= kFewDescriptors) return present(found);
  return missing(found, "raise LimitNOFILE= of the service (or ulimit -Hn): every region needs a descriptor");
}

Fact state_directory(const std::string& path) {
  const std::string another = ", or start mapcapd with another --state";
  struct stat facts {};
  if (::stat(path.c_str(), &facts) == 0) {
    if (!S_ISDIR(facts.st_mode)) return missing(path + " is no directory", "move it away" + another);
    if (::geteuid() != 0) return unknown("only root may look into " + path, "run mapcap doctor as root");
    if (facts.st_uid != 0 || (facts.st_mode & 0022) != 0)
      return missing(path + " does not belong to root alone", "chown root and chmod 0700 it" + another);
    if (::access(path.c_str(), W_OK | X_OK) != 0)
      return missing(path + " is not writable: " + reason(errno), "mount it writable" + another);
    const std::string user = locked_by(path + "/lock");
    return present(user.empty() ? path : path + ", in use by the mapcapd with process id " + user);
  }
  if (errno != ENOENT) return missing(path + ": " + reason(errno), "choose another --state");
  const std::filesystem::path parent = std::filesystem::absolute(path).parent_path();
  if (::access(parent.c_str(), F_OK) != 0)
    return missing(parent.string() + ": " + reason(errno), "make it" + another);
  if (::access(parent.c_str(), W_OK | X_OK) == 0) return present(path + " can be made");
  if (errno == EACCES && ::geteuid() != 0)
    return unknown(parent.string() + " is not writable for you", "run mapcap doctor as root");
  return missing(parent.string() + " is not writable: " + reason(errno), "mount it writable" + another);
}

Fact socket_path(const std::string& path) {
  constexpr std::size_t kLongest = sizeof(sockaddr_un::sun_path) - 1;
  const std::string another = "choose another --socket";
  if (path.empty() || path.size() > kLongest)
    return missing("a socket's path has 1 to " + std::to_string(kLongest) + " bytes, this one has " +
                       std::to_string(path.size()),
                   another);
  struct stat facts {};
  if (::lstat(path.c_str(), &facts) != 0 || S_ISSOCK(facts.st_mode)) return present(path);
  return missing(path + " is no socket", "move it away, or " + another);
}

}  // namespace mapcap::machine
