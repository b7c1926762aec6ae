// Ways to a second, stronger handle on the same object: opening it again, linking it, executing it, by
// handle.
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

#include "client/attack/operation.h"

namespace mapcap::attack {
namespace {

struct Mode {
  const char* name;
  int flags;
};
constexpr Mode kModes[] = {{"O_RDONLY", O_RDONLY},
                           {"O_WRONLY", O_WRONLY},
                           {"O_RDWR", O_RDWR},
                           {"O_RDWR|O_APPEND", O_RDWR | O_APPEND},
                           {"O_RDONLY|O_DIRECT", O_RDONLY | O_DIRECT},
                           {"O_RDONLY|O_NOATIME", O_RDONLY | O_NOATIME},
                           {"access mode 3", 3}};

Attempt open_path(const std::string& path, int flags) {
  return answered(open(path.c_str(), flags | O_CLOEXEC));
}

void add_paths(Family& family) {
  for (const Mode& mode : kModes) {
    family.refused(std::string("open /proc/self/fd ") + mode.name,
                   [mode](const Context& c) { return open_path(fd_path(c.fd), mode.flags); });
  }
  family.refused("open /dev/fd O_RDWR",
                 [](const Context& c) { return open_path("/dev/fd/" + std::to_string(c.fd), O_RDWR); });
  family.refused("open /proc/thread-self/fd O_RDWR", [](const Context& c) {
    return open_path("/proc/thread-self/fd/" + std::to_string(c.fd), O_RDWR);
  });
  family.refused("open /proc/self/task/TID/fd O_RDWR", [](const Context& c) {
    return open_path("/proc/self/task/" + std::to_string(gettid()) + "/fd/" + std::to_string(c.fd), O_RDWR);
  });
  family.refused("open the fd of another process O_RDONLY", [](const Context& c) {
    const pid_t other = spawn([] { pause(); });
    return open_path("/proc/" + std::to_string(other) + "/fd/" + std::to_string(c.fd), O_RDONLY);
  });
  family.refused("open the fd of another process O_RDWR", [](const Context& c) {
    const pid_t other = spawn([] { pause(); });
    return open_path("/proc/" + std::to_string(other) + "/fd/" + std::to_string(c.fd), O_RDWR);
  });
  for (const int flags : {O_RDONLY, O_RDWR}) {
    family.refused(std::string("open /proc/self/map_files ") + (flags == O_RDWR ? "O_RDWR" : "O_RDONLY"),
                   [flags](const Context& c) {
                     const std::byte* region = map_region(c);
                     if (region == nullptr) return inconclusive("cannot map");
                     std::array<char, 100> path;
                     const std::size_t length =
                         (static_cast<std::size_t>(c.size) + c.page - 1) / c.page * c.page;
                     std::snprintf(path.data(), path.size(), "/proc/self/map_files/%lx-%lx",
                                   reinterpret_cast<unsigned long>(region),
                                   reinterpret_cast<unsigned long>(region + length));
                     return open_path(path.data(), flags);
                   });
  }
  family.refused("openat2 /proc/self/fd", [](const Context& c) {
    open_how how{};
    how.flags = O_RDWR | O_CLOEXEC;
    return answered(syscall(SYS_openat2, AT_FDCWD, fd_path(c.fd).c_str(), &how, sizeof how));
  });
  family.refused("open O_CREAT over /proc/self/fd",
                 [](const Context& c) { return open_path(fd_path(c.fd), O_RDWR | O_CREAT); });
}

// O_PATH gives a name without rights, like the fd's own; it must not be a step to more.
void add_o_path(Family& family) {
  family.harmless("open /proc/self/fd O_PATH",
                  [](const Context& c) { return open_path(fd_path(c.fd), O_PATH); });
  for (const int flags : {O_RDONLY, O_RDWR}) {
    family.refused(std::string("open O_PATH, then ") + (flags == O_RDWR ? "O_RDWR" : "O_RDONLY"),
                   [flags](const Context& c) {
                     const int path = open(fd_path(c.fd).c_str(), O_PATH | O_CLOEXEC);
                     if (path < 0) return refused(errno);
                     return open_path(fd_path(path), flags);
                   });
  }
  family.refused("open_tree, then O_RDWR", [](const Context& c) {
    const long tree = syscall(SYS_open_tree, c.fd, "", AT_EMPTY_PATH | O_CLOEXEC);
    if (tree < 0) return answered(tree);
    return open_path(fd_path(static_cast<int>(tree)), O_RDWR);
  });
}

void add_links(Family& family) {
  family.refused("linkat AT_EMPTY_PATH", [](const Context& c) {
    return answered(linkat(c.fd, "", AT_FDCWD, "link-a", AT_EMPTY_PATH));
  });
  family.refused("linkat /proc/self/fd AT_SYMLINK_FOLLOW", [](const Context& c) {
    return answered(linkat(AT_FDCWD, fd_path(c.fd).c_str(), AT_FDCWD, "link-b", AT_SYMLINK_FOLLOW));
  });
  family.refused("linkat into /dev/shm", [](const Context& c) {
    const std::string name = "/dev/shm/mapcap-attack-" + std::to_string(getpid());
    const int answer = linkat(AT_FDCWD, fd_path(c.fd).c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW);
    if (answer == 0) (void)unlink(name.c_str());
    return answered(answer);
  });
}

struct Handle {
  file_handle head;
  std::array<unsigned char, MAX_HANDLE_SZ> bytes;
};

Attempt open_by_handle(const Context& c, int flags) {
  Handle handle{};
  handle.head.handle_bytes = MAX_HANDLE_SZ;
  int mount = 0;
  if (name_to_handle_at(c.fd, "", &handle.head, &mount, AT_EMPTY_PATH) != 0)
    return refused(errno, "no handle");
  return answered(open_by_handle_at(c.fd, &handle.head, flags | O_CLOEXEC));
}

void add_handles(Family& family) {
  family.harmless("name_to_handle_at AT_EMPTY_PATH", [](const Context& c) {
    Handle handle{};
    handle.head.handle_bytes = MAX_HANDLE_SZ;
    int mount = 0;
    return answered(name_to_handle_at(c.fd, "", &handle.head, &mount, AT_EMPTY_PATH));
  });
  family.refused("open_by_handle_at O_RDONLY", [](const Context& c) { return open_by_handle(c, O_RDONLY); });
  family.refused("open_by_handle_at O_RDWR", [](const Context& c) { return open_by_handle(c, O_RDWR); });
}

// An empty argument list, as execve wants it.
char* const kNoArguments[] = {nullptr};

// A script's interpreter opens it by /dev/fd, so the fd has to outlive the exec.
void keep_across_exec(int fd) {
  (void)fcntl(fd, F_SETFD, 0);
}

// Refused for want of permission only: any other refusal comes after the kernel has begun to read the file.
Attempt not_even_read(long answer) {
  if (answer < 0 && (errno == ENOEXEC || errno == EINVAL)) {
    return allowed("the kernel opened and read it");
  }
  return answered(answer);
}

void add_execution(Family& family) {
  family.refused("execveat AT_EMPTY_PATH", [](const Context& c) {
    expect_replacement("executed");
    return not_even_read(syscall(SYS_execveat, c.fd, "", kNoArguments, kNoArguments, AT_EMPTY_PATH));
  });
  family.refused("execve /proc/self/fd", [](const Context& c) {
    expect_replacement("executed");
    return not_even_read(execve(fd_path(c.fd).c_str(), kNoArguments, kNoArguments));
  });
  family.refused("execveat of a script in it", [](const Context& c) {
    if (!c.writable()) return refused(EACCES, "nothing can be stored in it");
    std::byte* region = map_region(c);
    if (region == nullptr) return inconclusive("cannot map");
    constexpr std::string_view kScript = "#!/bin/true\n";
    const std::vector<std::byte> before(region, region + kScript.size());
    for (std::size_t i = 0; i < kScript.size(); ++i) region[i] = static_cast<std::byte>(kScript[i]);
    const pid_t runner = spawn([&] {
      keep_across_exec(c.fd);
      syscall(SYS_execveat, c.fd, "", kNoArguments, kNoArguments, AT_EMPTY_PATH);
      _exit(errno);
    });
    const int status = wait_for(runner);
    std::copy(before.begin(), before.end(), region);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return allowed("executed");
    return refused(WEXITSTATUS(status));
  });
  family.harmless("execveat AT_EXECVE_CHECK", [](const Context& c) {
    return answered(syscall(SYS_execveat, c.fd, "", kNoArguments, kNoArguments, AT_EMPTY_PATH | 0x10000));
  });
}

}  // namespace

void add_reopen(std::vector<Operation>& all) {
  Family family(all, "reopen");
  add_paths(family);
  add_o_path(family);
  add_links(family);
  add_handles(family);
  add_execution(family);

  Family as_root(all, "reopen as namespace root", Where::own_namespace);
  as_root.refused("open /proc/self/fd O_RDONLY",
                  [](const Context& c) { return open_path(fd_path(c.fd), O_RDONLY); });
  as_root.refused("open /proc/self/fd O_RDWR",
                  [](const Context& c) { return open_path(fd_path(c.fd), O_RDWR); });
  as_root.refused("open_by_handle_at O_RDONLY", [](const Context& c) { return open_by_handle(c, O_RDONLY); });
  as_root.refused("linkat AT_EMPTY_PATH", [](const Context& c) {
    return answered(linkat(c.fd, "", AT_FDCWD, "link-c", AT_EMPTY_PATH));
  });
  as_root.refused("execveat AT_EMPTY_PATH", [](const Context& c) {
    expect_replacement("executed");
    return not_even_read(syscall(SYS_execveat, c.fd, "", kNoArguments, kNoArguments, AT_EMPTY_PATH));
  });
}

}  // namespace mapcap::attack
