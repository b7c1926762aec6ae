// Is a process of uid 0 the machine's administrator, or root of a container that only looks like one?
//
// uid 0 alone says little: without a user namespace a container's root is the host's uid 0, with one it may
// show every capability. What counts is what the kernel says of the process at that moment:
//
//  - It is alive as the very process that connected: its pidfd is looked at after everything was read, so a
//    number that was used again is noticed.
//  - It lives in the broker's own pid namespace. Every container engine gives its containers another, so
//    nobody inside one is an administrator, however many capabilities it was given (`--privileged`).
//  - It lives in the broker's user namespace, which is the initial one: the id maps are the broker's, and
//  where
//    /proc/PID/ns/user may be read it names the same namespace.
//  - It has, in effect, every capability that process 1 can hand on (its CapEff within its CapBnd),
//  CAP_SYS_ADMIN
//    among them. Less than all is what services and containers are given that are not meant to rule:
//    systemd-nspawn and LXC leave CAP_SYS_ADMIN itself, so that one alone proves nothing.
//
// Limits. A process in the host's own pid namespace that has uid 0, CAP_SETUID and CAP_SETFCAP may write a
// map that looks like the initial one for a namespace that belongs to another uid; whoever has that much can
// write root's files and crontabs anyway. Where /proc hides processes (hidepid=) or process 1 cannot be read,
// nothing is proven, so nobody is an administrator. Who passes a connection on passes on what it can do.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "mapcap/fd.h"

namespace mapcap::policy {

/// What is read of a process. Absent: could not be read.
struct Credentials {
  std::optional<std::uint32_t> effective_uid;
  std::uint64_t effective = 0;          ///< Capabilities, by bit.
  std::uint64_t bounding = 0;           ///< The same.
  std::size_t pid_namespaces = 0;       ///< From that of /proc's mount down to its own; 0: not told.
  bool kernel_thread = false;           ///< No program: nobody connects from there.
  std::string id_maps;                  ///< uid_map and gid_map; empty: could not be read.
  std::optional<ino_t> user_namespace;  ///< Needs the right to trace.
};

/// Of the text of /proc/PID/status: all but maps and namespace.
Credentials parse_status(std::string_view status);

/// Why `peer` has not the power of the machine, for the end of a sentence; empty: it has. `broker`: who asks;
/// `init`: process 1.
std::string why_powerless(const Credentials& peer, const Credentials& broker, const Credentials& init);

/// The same of a process, read now. `pidfd` is that process's; not valid: nothing is proven.
std::string why_powerless(pid_t pid, BorrowedFd pidfd);

/// Who reads of which user namespace a process is, where this one may look into no other: the inode of its ns/user, or
/// nothing. Once, before there is a peer; from any thread. Empty: this process itself.
void ask_user_namespaces_of(std::function<std::optional<ino_t>(pid_t)> other);

/// Of the process whose pidfd it is: what was read of its number before is its own only while it lives.
bool has_ended(BorrowedFd pidfd);

}  // namespace mapcap::policy
