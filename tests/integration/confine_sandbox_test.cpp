// A forbidden system call ends the keeper.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <functional>

#include "broker/keeper/setup.h"
#include "tests/support/keeper_harness.h"

namespace mapcap::test {
namespace {

/// How a child ends that closes the sandbox and then does `work`: its signal, or minus its exit code.
int end_of_sandboxed(const std::function<void()>& work) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (!broker::keeper::sandbox_keeper()) ::_exit(99);
    work();
    ::_exit(0);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

TEST(KeeperSandbox, WhatTheLoopNeedsIsAllowed) {
  EXPECT_EQ(end_of_sandboxed([] {
              std::string grows;
              for (int i = 0; i < 1'000'000; ++i) grows.push_back('x');
              char byte = 0;
              (void)!::read(STDIN_FILENO, &byte, 0);
            }),
            0);
}

TEST(KeeperSandbox, ForbiddenCallsEndTheProcess) {
  const std::vector<std::pair<const char*, std::function<void()>>> forbidden = {
      {"execve", [] { ::execl("/bin/true", "true", nullptr); }},
      {"socket", [] { ::socket(AF_INET, SOCK_STREAM, 0); }},
      {"connect", [] { ::connect(0, nullptr, 0); }},
      {"mount", [] { ::mount("none", "/", "tmpfs", 0, nullptr); }},
      {"ptrace", [] { ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); }},
      {"kill", [] { ::kill(::getppid(), 0); }},
      {"pread of held memory",
       [] {
         char b = 0;
         (void)!::pread(0, &b, 1, 0);
       }},
      {"ftruncate of held memory", [] { (void)!::ftruncate(0, 0); }},
      {"an ioctl other than the FUSE clone", [] { ::ioctl(0, TIOCSTI, "x"); }},
      {"getsockopt other than SO_PEERCRED",
       [] {
         socklen_t n = 0;
         ::getsockopt(0, SOL_SOCKET, SO_TYPE, nullptr, &n);
       }},
      {"executable memory",
       [] { ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }},
      {"io_uring_setup", [] { ::syscall(SYS_io_uring_setup, 1, nullptr); }},
#ifndef MAPCAP_SANITIZED
      // Sanitizer runtimes do these on their own.
      {"open", [] { (void)!::open("/etc/passwd", O_RDONLY); }},
      {"fork", [] { ::fork(); }},
#endif
  };
  for (const auto& [name, work] : forbidden) EXPECT_EQ(end_of_sandboxed(work), SIGSYS) << name;
}

}  // namespace
}  // namespace mapcap::test
