/* What a broker becomes that somebody has taken over: tries what promise 17 forbids, each attempt in a child, and says on
 * standard error how it ended: "stranger: NAME: refused" (an error), "killed" (by the system-call filter) or "DONE". */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int opens(const char *path, int flags) { return open(path, flags, 0600) >= 0; }

/* Each process of the machine, until one lets `attempt` succeed. */
static int of_any_process(int (*attempt)(pid_t)) {
  DIR *all = opendir("/proc");
  if (!all) return 0;
  for (struct dirent *entry; (entry = readdir(all));) {
    const pid_t pid = atoi(entry->d_name);
    if (pid > 0 && pid != getpid() && pid != getppid() && attempt(pid)) return 1;
  }
  return 0;
}

static int read_shadow(void) { return opens("/etc/shadow", O_RDONLY); }
static int write_etc(void) { return opens("/etc/mapcap-stranger", O_WRONLY | O_CREAT); }
static int write_root(void) { return opens("/mapcap-stranger", O_WRONLY | O_CREAT); }
static int write_kernel(void) {
  return opens("/proc/sys/kernel/core_pattern", O_WRONLY) || opens("/proc/sysrq-trigger", O_WRONLY) ||
         opens("/sys/kernel/uevent_helper", O_WRONLY) || opens("/sys/power/state", O_WRONLY) ||
         opens("/sys/fs/cgroup/cgroup.procs", O_WRONLY);
}
static int shadow_of(pid_t pid) {
  static const char *const ways[] = {"root/etc/shadow", "cwd/etc/shadow", "root/proc/1/root/etc/shadow"};
  for (unsigned i = 0; i < sizeof ways / sizeof *ways; ++i) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, ways[i]);
    if (opens(path, O_RDONLY)) return 1;
  }
  return 0;
}
static int shadow_by_processes(void) { return of_any_process(shadow_of); }
static int memory_of(pid_t pid) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "/proc/%d/mem", pid);
  return opens(path, O_RDWR);
}
static int memory_of_processes(void) { return of_any_process(memory_of); }
static int descriptors_of(pid_t pid) {
  char path[PATH_MAX];
  for (int fd = 0; fd < 64; ++fd) {
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
    if (opens(path, O_RDONLY | O_NONBLOCK)) return 1;
  }
  return 0;
}
static int descriptors_of_processes(void) { return of_any_process(descriptors_of); }
static int steal(pid_t pid) {
  const int process = syscall(SYS_pidfd_open, pid, 0);
  for (int fd = 0; process >= 0 && fd < 16; ++fd) {
    if (syscall(SYS_pidfd_getfd, process, fd, 0) >= 0) return 1;
  }
  if (process >= 0) close(process);
  return 0;
}
static int steal_descriptors(void) { return of_any_process(steal); }
static int trace(void) { return ptrace(PTRACE_SEIZE, getppid(), 0, 0) == 0; }
static int trace_init(void) { return ptrace(PTRACE_SEIZE, 1, 0, 0) == 0; }
static int mount_tmpfs(void) { return mount("none", "/proc", "tmpfs", 0, 0) == 0; }
static int open_filesystem(void) { return syscall(SYS_fsopen, "tmpfs", 0) >= 0; }
static int clone_mount(void) { return syscall(SYS_open_tree, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */) >= 0; }
static int new_namespace(void) { return unshare(CLONE_NEWNS) == 0; }
static int new_user_namespace(void) { return unshare(CLONE_NEWUSER) == 0; }
static int join_init(void) {
  const int file = open("/proc/1/ns/mnt", O_RDONLY);
  return file >= 0 && setns(file, 0) == 0;
}
static int change_root(void) { return chroot("/proc") == 0; }
static int load_bpf(void) {
  char attributes[128] = {0};
  return syscall(SYS_bpf, 5 /* BPF_PROG_LOAD */, attributes, sizeof attributes) >= 0;
}
static int make_device(void) { return mknod("/dev/disk", S_IFBLK | 0600, makedev(8, 0)) == 0; }
static int run_program(void) {
  char *none[] = {NULL};
  return execve("/bin/sh", none, none);
}
/* A grant is a clone: it takes the keeper's connection, or a connection of one's own, and a number for a file. */
static int make_grant(void) {
  const int device = open("/dev/fuse", O_RDWR);
  struct {
    int fd;
    unsigned flags;
    unsigned long padding;
  } backing = {.fd = (int)syscall(SYS_memfd_create, "stranger", 0)};
  for (int fd = 3; fd < 4096; ++fd) {
    if (ioctl(fd, 0x4010e501UL /* FUSE_DEV_IOC_BACKING_OPEN */, &backing) > 0) return 1;
  }
  return device >= 0;
}
/* What leads somewhere: to the mint, the keeper, a client, or out of the room. */
static int inherits(void) {
  for (int fd = 3; fd < 65536; ++fd) {
    struct stat status;
    if (fstat(fd, &status) == 0 && (S_ISSOCK(status.st_mode) || S_ISDIR(status.st_mode))) return 1;
  }
  return 0;
}
static int connects(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  const int by_stream = socket(AF_UNIX, SOCK_STREAM, 0);
  return connect(by_stream, (struct sockaddr *)&address, sizeof address) == 0;
}
static int ask_services(void) {
  return connects("/run/dbus/system_bus_socket") || connects("/run/systemd/private") || connects("/run/docker.sock");
}
static int use_network(void) { return socket(AF_INET, SOCK_STREAM, 0) >= 0 || socket(AF_NETLINK, SOCK_RAW, 0) >= 0; }
static int raise_limits(void) {
  const struct {
    unsigned long soft, hard;
  } none = {0, 0};
  return syscall(SYS_prlimit64, 1, 7 /* RLIMIT_NOFILE */, &none, NULL) == 0;
}

static const struct {
  const char *name;
  int (*attempt)(void);
} attempts[] = {
    {"read-shadow", read_shadow},
    {"read-shadow-by-proc", shadow_by_processes},
    {"write-etc", write_etc},
    {"write-root", write_root},
    {"write-kernel", write_kernel},
    {"memory-of-processes", memory_of_processes},
    {"descriptors-of-processes", descriptors_of_processes},
    {"steal-descriptors", steal_descriptors},
    {"ptrace", trace},
    {"ptrace-init", trace_init},
    {"mount", mount_tmpfs},
    {"fsopen", open_filesystem},
    {"open-tree", clone_mount},
    {"mount-namespace", new_namespace},
    {"user-namespace", new_user_namespace},
    {"setns", join_init},
    {"chroot", change_root},
    {"bpf", load_bpf},
    {"mknod", make_device},
    {"exec", run_program},
    {"grant", make_grant},
    {"inherited", inherits},
    {"services", ask_services},
    {"network", use_network},
    {"limits", raise_limits},
};

int main(void) {
  for (unsigned i = 0; i < sizeof attempts / sizeof *attempts; ++i) {
    const pid_t child = fork();
    if (child == 0) _exit(attempts[i].attempt() ? 1 : 0);
    int status = 0;
    waitpid(child, &status, 0);
    const char *how = WIFSIGNALED(status) ? (WTERMSIG(status) == SIGSYS ? "killed" : "CRASHED")
                                          : (WEXITSTATUS(status) == 0 ? "refused" : "DONE");
    dprintf(2, "stranger: %s: %s\n", attempts[i].name, how);
  }
  dprintf(2, "stranger: tried everything\n");
  return 0;
}
