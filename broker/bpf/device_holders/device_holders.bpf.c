// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Reads what the kernel counts of a device: open files, and references to pages. Run on demand, attached to
// nothing; reads of what is not there fail and harm nobody.
#include <linux/bpf.h>
// bpf_helpers.h uses the names of the header before it.
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
typedef struct {
  int counter;
} atomic_t;
struct refcount_struct {
  atomic_t refs;
};
struct kref {
  struct refcount_struct refcount;
};
struct kobject {
  struct kref kref;
};
struct cdev {
  struct kobject kobj;
};
struct kernfs_open_node;
struct kernfs_elem_attr {
  struct kernfs_open_node *open;
};
struct kernfs_node {
  struct kernfs_elem_attr attr;
};
struct super_block {
  __u32 s_dev;
};
struct inode {
  __u16 i_mode;
  __u32 i_rdev;
  unsigned long i_ino;
  struct super_block *i_sb;
  struct cdev *i_cdev;
  void *i_private;
};
struct file {
  __u32 f_mode;
  struct inode *f_inode;
  void *private_data;
};
struct vm_area_struct {
  struct file *vm_file;
};
struct fdtable {
  struct file **fd;
};
struct files_struct {
  struct fdtable *fdt;
};
struct task_struct {
  int tgid;
  struct files_struct *files;
};
struct seq_file;
struct bpf_iter_meta {
  struct seq_file *seq;
};
struct bpf_iter__task_file {
  struct bpf_iter_meta *meta;
  struct task_struct *task;
  struct file *file;
};
struct bpf_iter__task_vma {
  struct bpf_iter_meta *meta;
  struct task_struct *task;
  struct vm_area_struct *vma;
};
struct page {
  atomic_t _refcount;
};
struct pipe_buffer {
  struct page *page;
};
struct pipe_inode_info {
  struct pipe_buffer *bufs;
};
#pragma clang attribute pop

// The same as in device_holders.cpp.
struct opens {
  __u32 fd;
  __u32 sysfs;  // in: whether it is a file in sysfs, else a character device
  __u32 count;
  __u32 found;
};
struct pins {
  __u64 page;    // in: of which struct page; 0: of the first page in the pipe `fd`, which is told here
  __u64 offset;  // in: pages from there
  __u32 fd;
  __u32 pages;   // in: how many to look at
  __s32 most;    // out: the largest count of references
  __u32 failed;  // out: a page could not be read
};

static struct file *file_of(__u32 number) {
  struct task_struct *task = bpf_get_current_task_btf();
  struct file **table = BPF_CORE_READ(task, files, fdt, fd);
  struct file *file = 0;
  if (bpf_probe_read_kernel(&file, sizeof file, table + number)) return 0;
  return file;
}

SEC("syscall")
int count_opens(struct opens *context) {
  struct file *file = file_of(context->fd);
  context->found = 0;
  if (!file) return 0;
  struct inode *inode = BPF_CORE_READ(file, f_inode);
  if (!inode) return 0;
  if (context->sysfs) {
    struct kernfs_node *node = BPF_CORE_READ(inode, i_private);
    if (!node) return 0;
    context->count = BPF_CORE_READ(node, attr.open) != 0;
  } else {
    // Nobody has opened the device by this node yet, and so nobody has it from here.
    struct cdev *device = BPF_CORE_READ(inode, i_cdev);
    context->count = device ? BPF_CORE_READ(device, kobj.kref.refcount.refs.counter) - 1 : 0;
  }
  context->found = 1;
  return 0;
}

static long look_at_page(__u32 index, void *argument) {
  struct pins *pins = argument;
  struct page *page = (struct page *)(pins->page + (pins->offset + index) * bpf_core_type_size(struct page));
  int count = 0;
  if (bpf_core_read(&count, sizeof count, &page->_refcount.counter)) {
    pins->failed = 1;
    return 1;
  }
  if (count > pins->most) pins->most = count;
  return 0;
}

SEC("syscall")
int count_pins(struct pins *context) {
  struct pins pins = *context;
  if (!pins.page) {
    struct file *file = file_of(pins.fd);
    struct pipe_inode_info *pipe = file ? BPF_CORE_READ(file, private_data) : 0;
    struct pipe_buffer *buffers = pipe ? BPF_CORE_READ(pipe, bufs) : 0;
    pins.page = buffers ? (__u64)BPF_CORE_READ(buffers, page) : 0;
  }
  pins.most = 0;
  pins.failed = !pins.page;
  if (pins.page) bpf_loop(pins.pages, look_at_page, &pins, 0);
  context->page = pins.page;
  context->most = pins.most;
  context->failed = pins.failed;
  return 0;
}

// Whose holders are listed: written before an iterator is made. The same as in device_holders.cpp.
struct sought {
  __u64 inode;
  __u32 device;     // the filesystem's
  __u32 character;  // the device's own number; 0 for a file in sysfs, which inode and filesystem tell
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct sought);
} sought SEC(".maps");

enum { kTypeOfFile = 0170000, kCharacterDevice = 0020000, kOnlyPath = 1 << 14 };

static int is_sought(struct file *file) {
  const __u32 first = 0;
  struct sought *wanted = bpf_map_lookup_elem(&sought, &first);
  struct inode *inode = BPF_CORE_READ(file, f_inode);
  if (!wanted || !inode) return 0;
  if (BPF_CORE_READ(file, f_mode) & kOnlyPath) return 0;  // Can be neither mapped nor used.
  if (wanted->character) {
    return (BPF_CORE_READ(inode, i_mode) & kTypeOfFile) == kCharacterDevice &&
           BPF_CORE_READ(inode, i_rdev) == wanted->character;
  }
  return BPF_CORE_READ(inode, i_ino) == wanted->inode && BPF_CORE_READ(inode, i_sb, s_dev) == wanted->device;
}

static int tell(struct bpf_iter_meta *meta, struct task_struct *task, struct file *file) {
  if (!is_sought(file)) return 0;
  __u32 pid = task->tgid;
  bpf_seq_write(meta->seq, &pid, sizeof pid);
  return 0;
}

SEC("iter/task_file")
int list_openers(struct bpf_iter__task_file *context) {
  struct task_struct *task = context->task;
  struct file *file = context->file;
  if (!task || !file) return 0;
  return tell(context->meta, task, file);
}

SEC("iter/task_vma")
int list_mappers(struct bpf_iter__task_vma *context) {
  struct task_struct *task = context->task;
  struct vm_area_struct *vma = context->vma;
  if (!task || !vma) return 0;
  struct file *file = vma->vm_file;
  if (!file) return 0;
  return tell(context->meta, task, file);
}

// bpf_probe_read_kernel is for programs under such a licence.
const char gpl[] SEC("license") = "GPL";
