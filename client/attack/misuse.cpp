// The fd given to calls that want some other kind of descriptor: each must find out.
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

#include "client/attack/operation.h"

namespace mapcap::attack {
namespace {

// Arguments after the fd: zero, or the address of a zeroed buffer.
enum class Argument { zero, one, buffer, path };

struct Call {
  const char* name;
  long number;
  std::array<Argument, 5> arguments;
};

constexpr Argument kZero = Argument::zero;
constexpr Argument kOne = Argument::one;
constexpr Argument kBuffer = Argument::buffer;
constexpr Argument kPath = Argument::path;

constexpr Call kCalls[] = {
    {"bind", SYS_bind, {kBuffer, kOne}},
    {"connect", SYS_connect, {kBuffer, kOne}},
    {"listen", SYS_listen, {}},
    {"accept4", SYS_accept4, {}},
    {"shutdown", SYS_shutdown, {}},
    {"getsockname", SYS_getsockname, {kBuffer, kBuffer}},
    {"getpeername", SYS_getpeername, {kBuffer, kBuffer}},
    {"getsockopt", SYS_getsockopt, {kOne, kOne, kBuffer, kBuffer}},
    {"setsockopt", SYS_setsockopt, {kOne, kOne, kBuffer, kOne}},
    {"sendto", SYS_sendto, {kBuffer, kOne}},
    {"recvfrom", SYS_recvfrom, {kBuffer, kOne}},
    {"sendmsg", SYS_sendmsg, {kBuffer}},
    {"recvmsg", SYS_recvmsg, {kBuffer}},
    {"sendmmsg", SYS_sendmmsg, {kBuffer, kOne}},
    {"recvmmsg", SYS_recvmmsg, {kBuffer, kOne}},
    {"epoll_wait", SYS_epoll_wait, {kBuffer, kOne}},
    {"epoll_ctl as the set", SYS_epoll_ctl, {kOne, kZero, kBuffer}},
    {"inotify_add_watch as the queue", SYS_inotify_add_watch, {kPath, kOne}},
    {"inotify_rm_watch", SYS_inotify_rm_watch, {kOne}},
    {"timerfd_settime", SYS_timerfd_settime, {kZero, kBuffer}},
    {"timerfd_gettime", SYS_timerfd_gettime, {kBuffer}},
    {"mq_timedsend", SYS_mq_timedsend, {kBuffer, kOne}},
    {"mq_timedreceive", SYS_mq_timedreceive, {kBuffer, kOne}},
    {"mq_getsetattr", SYS_mq_getsetattr, {kZero, kBuffer}},
    {"setns", SYS_setns, {}},
    {"pidfd_send_signal", SYS_pidfd_send_signal, {kOne}},
    {"pidfd_getfd", SYS_pidfd_getfd, {kOne}},
    {"process_mrelease", SYS_process_mrelease, {}},
    {"finit_module", SYS_finit_module, {kPath}},
    {"kexec_file_load", SYS_kexec_file_load, {kZero, kOne, kPath}},
    {"io_uring_enter", SYS_io_uring_enter, {kOne}},
    {"io_uring_register", SYS_io_uring_register, {kOne, kBuffer, kOne}},
    {"fsconfig", SYS_fsconfig, {kOne, kPath, kPath}},
    {"fsmount", SYS_fsmount, {}},
    {"landlock_add_rule", SYS_landlock_add_rule, {kOne, kBuffer}},
    {"landlock_restrict_self", SYS_landlock_restrict_self, {}},
    {"fchdir", SYS_fchdir, {}},
    {"getdents64", SYS_getdents64, {kBuffer, kOne}},
    {"openat below it", SYS_openat, {kPath, kZero}},
    {"mkdirat below it", SYS_mkdirat, {kPath, kZero}},
    {"mknodat below it", SYS_mknodat, {kPath, kZero}},
    {"unlinkat below it", SYS_unlinkat, {kPath, kZero}},
    {"readlinkat below it", SYS_readlinkat, {kPath, kBuffer, kOne}},
    {"renameat below it", SYS_renameat, {kPath, kZero, kPath}},
    {"faccessat below it", SYS_faccessat, {kPath, kZero}},
};

Attempt call_with(const Context& c, const Call& call) {
  alignas(16) std::array<std::byte, 4096> buffer{};
  std::array<long, 5> values{};
  for (std::size_t i = 0; i < values.size(); ++i) {
    switch (call.arguments[i]) {
      case Argument::zero:
        break;
      case Argument::one:
        values[i] = 1;
        break;
      case Argument::buffer:
        values[i] = reinterpret_cast<long>(buffer.data());
        break;
      case Argument::path:
        values[i] = reinterpret_cast<long>("attack");
        break;
    }
  }
  return answered(syscall(call.number, c.fd, values[0], values[1], values[2], values[3], values[4]));
}

long bpf_call(int command, bpf_attr attributes) {
  return syscall(SYS_bpf, command, &attributes, sizeof attributes);
}

void add_bpf(Family& family) {
  family.refused("bpf BPF_OBJ_GET_INFO_BY_FD", [](const Context& c) {
    std::array<std::byte, 256> info{};
    bpf_attr attributes{};
    attributes.info.bpf_fd = static_cast<std::uint32_t>(c.fd);
    attributes.info.info_len = info.size();
    attributes.info.info = reinterpret_cast<std::uintptr_t>(info.data());
    return answered(bpf_call(BPF_OBJ_GET_INFO_BY_FD, attributes));
  });
  family.refused("bpf BPF_MAP_UPDATE_ELEM", [](const Context& c) {
    std::uint64_t value = 0;
    bpf_attr attributes{};
    attributes.map_fd = static_cast<std::uint32_t>(c.fd);
    attributes.key = reinterpret_cast<std::uintptr_t>(&value);
    attributes.value = reinterpret_cast<std::uintptr_t>(&value);
    return answered(bpf_call(BPF_MAP_UPDATE_ELEM, attributes));
  });
  family.refused("bpf BPF_OBJ_PIN", [](const Context& c) {
    bpf_attr attributes{};
    attributes.pathname = reinterpret_cast<std::uintptr_t>("/sys/fs/bpf/mapcap-attack");
    attributes.bpf_fd = static_cast<std::uint32_t>(c.fd);
    return answered(bpf_call(BPF_OBJ_PIN, attributes));
  });
  family.refused("bpf BPF_PROG_ATTACH", [](const Context& c) {
    bpf_attr attributes{};
    attributes.target_fd = static_cast<std::uint32_t>(c.fd);
    attributes.attach_bpf_fd = static_cast<std::uint32_t>(c.fd);
    return answered(bpf_call(BPF_PROG_ATTACH, attributes));
  });
  family.refused("perf_event_open with it as cgroup", [](const Context& c) {
    perf_event_attr attributes{};
    attributes.size = sizeof attributes;
    attributes.type = PERF_TYPE_SOFTWARE;
    attributes.exclude_kernel = 1;
    return answered(syscall(SYS_perf_event_open, &attributes, c.fd, 0, -1, PERF_FLAG_PID_CGROUP));
  });
  family.refused("signalfd4 as the queue", [](const Context& c) {
    const std::uint64_t mask = 0;
    return answered(syscall(SYS_signalfd4, c.fd, &mask, sizeof mask, 0));
  });
  family.refused("waitid P_PIDFD", [](const Context& c) {
    return answered(
        syscall(SYS_waitid, 3 /* P_PIDFD */, c.fd, nullptr, 4 | 1 /* exited, no hang */, nullptr));
  });
  family.refused("symlinkat below it",
                 [](const Context& c) { return answered(symlinkat("attack", c.fd, "attack")); });
}

}  // namespace

void add_misuse(std::vector<Operation>& all) {
  Family family(all, "misuse");
  for (const Call& call : kCalls) {
    family.refused(call.name, [&call](const Context& c) { return call_with(c, call); });
  }
  add_bpf(family);
}

}  // namespace mapcap::attack
