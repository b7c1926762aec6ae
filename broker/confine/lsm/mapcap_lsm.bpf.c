// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// What a holder may do with a file that mapcapd has marked: map it, and nothing else.
//
// A mark is an entry in the inode's own storage, set through a descriptor by the broker. Each hook below sees
// every such operation on the machine, so it looks first at what costs two loads: marked files are regular,
// mode 0600 and root's, whose attributes nobody but root can change. Only then does it look for the mark, and
// only for marked files whether the caller is a broker: a process whose leader carries the broker's mark in
// its own storage, which ends with it, so that no recycled pid inherits anything. Being root is no exemption:
// a set-user-id program can be made to write to a descriptor that its caller chose.
//
// Grants stay confined without any broker: programs and maps are pinned.
//
// The structures name only the fields that are read; libbpf finds their offsets in the running kernel's BTF.
#include <linux/bpf.h>
// bpf_helpers.h uses the names of the header before it.
#include <bpf/bpf_helpers.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
  __u32 val;
} kuid_t;

struct inode {
  __u16 i_mode;
  kuid_t i_uid;
};

struct dentry {
  struct inode *d_inode;
};

struct path {
  struct dentry *dentry;
};

struct file {
  struct inode *f_inode;
};

struct vm_area_struct {
  struct file *vm_file;
};

struct task_struct {
  struct task_struct *group_leader;
};

#pragma clang attribute pop

enum {
  kModeOfMarked = 0100600,  // S_IFREG | 0600
  kTypeAndMode = 0170000 | 07777,
  kProtExec = 4,
  kEperm = 1,
  // The fcntl commands that do not reach the object: F_DUPFD, F_GETFD, F_SETFD and F_GETFL are 0 to 3, locks
  // (which only bind who asks for them) 5 to 7, for 32-bit programs also 12 to 14, and 36 to 38 (OFD).
  kLastOfDescriptor = 3,
  kFirstLock = 5,
  kLastLock = 7,
  kFirstLock64 = 12,
  kLastLock64 = 14,
  kFirstOfdLock = 36,
  kLastOfdLock = 38,
  kDupCloexec = 1030,
  kGetSeals = 1034,
};

struct {
  __uint(type, BPF_MAP_TYPE_INODE_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, __u32);
} marks SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, __u32);
} brokers SEC(".maps");

// 0, or what a hook refuses with.
static __always_inline int judge(struct inode *inode) {
  if (!inode) return 0;
  if ((inode->i_mode & kTypeAndMode) != kModeOfMarked || inode->i_uid.val != 0) return 0;
  if (!bpf_inode_storage_get(&marks, inode, 0, 0)) return 0;
  struct task_struct *task = bpf_get_current_task_btf();
  return bpf_task_storage_get(&brokers, task->group_leader, 0, 0) ? 0 : -kEperm;
}

// Hooks take their arguments as an array of words, whose types the verifier knows by their position. `last`,
// the answer of the program before, is 0 in all of these: the kernel stops at the first refusal.
#define ARGUMENT(type, position) ((type)context[position])

// read, write, splice, fallocate, MADV_REMOVE, io_uring and AIO
SEC("lsm/file_permission")
int on_file_permission(__u64 *context) {
  return judge(ARGUMENT(struct file *, 0)->f_inode);
}

SEC("lsm/file_open")
int on_file_open(__u64 *context) {
  return judge(ARGUMENT(struct file *, 0)->f_inode);
}

// ftruncate since Linux 6.2
SEC("lsm/file_truncate")
int on_file_truncate(__u64 *context) {
  return judge(ARGUMENT(struct file *, 0)->f_inode);
}

// truncate, and before 6.2 ftruncate
SEC("lsm/path_truncate")
int on_path_truncate(__u64 *context) {
  return judge(ARGUMENT(struct path *, 0)->dentry->d_inode);
}

SEC("lsm/file_ioctl")
int on_file_ioctl(__u64 *context) {
  return judge(ARGUMENT(struct file *, 0)->f_inode);
}

SEC("lsm/file_ioctl_compat")
int on_file_ioctl_compat(__u64 *context) {
  return judge(ARGUMENT(struct file *, 0)->f_inode);
}

SEC("lsm/file_fcntl")
int on_file_fcntl(__u64 *context) {
  __u32 command = (__u32)context[1];
  if (command <= kLastOfDescriptor || command == kDupCloexec || command == kGetSeals) return 0;
  if (command >= kFirstLock && command <= kLastLock) return 0;
  if (command >= kFirstLock64 && command <= kLastLock64) return 0;
  if (command >= kFirstOfdLock && command <= kLastOfdLock) return 0;
  return judge(ARGUMENT(struct file *, 0)->f_inode);
}

// Even a chown that changes no id moves the ctime, and everybody may ask for it.
SEC("lsm/path_chown")
int on_path_chown(__u64 *context) {
  return judge(ARGUMENT(struct path *, 0)->dentry->d_inode);
}

SEC("lsm/path_chmod")
int on_path_chmod(__u64 *context) {
  return judge(ARGUMENT(struct path *, 0)->dentry->d_inode);
}

SEC("lsm/inode_setxattr")
int on_inode_setxattr(__u64 *context) {
  return judge(ARGUMENT(struct dentry *, 1)->d_inode);
}

SEC("lsm/inode_removexattr")
int on_inode_removexattr(__u64 *context) {
  return judge(ARGUMENT(struct dentry *, 1)->d_inode);
}

// Where fs.protected_hardlinks is off, a holder could give the file a name of its own.
SEC("lsm/inode_link")
int on_inode_link(__u64 *context) {
  return judge(ARGUMENT(struct dentry *, 0)->d_inode);
}

SEC("lsm/mmap_file")
int on_mmap_file(__u64 *context) {
  if (!(context[2] & kProtExec)) return 0;
  struct file *file = ARGUMENT(struct file *, 0);
  // Anonymous memory has no file, but to the verifier of 6.5 and later the argument is never null, and it
  // drops a plain test. Read through the helper, its value is a number to it.
  __u64 address = 0;
  bpf_probe_read_kernel(&address, sizeof address, &file);
  if (!address) return 0;
  return judge(file->f_inode);
}

SEC("lsm/file_mprotect")
int on_file_mprotect(__u64 *context) {
  if (!(context[2] & kProtExec)) return 0;
  struct file *file = ARGUMENT(struct vm_area_struct *, 0)->vm_file;
  if (!file) return 0;
  return judge(file->f_inode);
}

// The kernel takes LSM programs only under a licence that goes with its own.
const char gpl[] SEC("license") = "GPL";
