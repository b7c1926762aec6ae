// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Reads the page table entry of one address of the calling process, on x86-64.
//
// Run on demand, attached to nothing. Tables hold physical addresses; where the kernel maps all of physical
// memory is not told to programs, so the caller proposes a base and judges by what comes of it. Reads of a
// wrong base's addresses fail and harm nobody.
#include <linux/bpf.h>
// bpf_helpers.h uses the names of the header before it.
#include <bpf/bpf_helpers.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct mm_struct {
  void *pgd;
};
struct task_struct {
  struct mm_struct *mm;
};
#pragma clang attribute pop

// The same as in page_attribute.cpp.
struct walk {
  __u64 address;
  __u64 base;   // 0: only tell pgd
  __u64 pgd;
  __u64 entry;  // of the page, present or not
  __u32 levels;
  __u32 level;  // where the walk ended: 1 for 4 KiB pages, 2 for 2 MiB, 3 for 1 GiB; 0: it came to nothing
};

enum { kPresent = 1, kLarge = 1 << 7, kIndexBits = 9, kPageBits = 12 };
#define FRAME 0x000ffffffffff000ULL

SEC("syscall")
int walk_page_table(struct walk *context) {
  struct task_struct *task = bpf_get_current_task_btf();
  __u64 table = (__u64)task->mm->pgd;
  __u64 address = context->address;
  __u64 base = context->base;
  __u32 levels = context->levels;
  context->pgd = table;
  context->level = 0;
  if (!base) return 0;
#pragma unroll
  for (__u32 level = 5; level >= 1; --level) {
    if (level > levels) continue;
    __u32 shift = kPageBits + kIndexBits * (level - 1);
    __u64 entry = 0;
    if (bpf_probe_read_kernel(&entry, sizeof entry, (void *)(table + ((address >> shift) & 511) * 8))) return 0;
    if (!(entry & kPresent)) return 0;
    if (level == 1 || (level <= 3 && (entry & kLarge))) {
      context->entry = entry;
      context->level = level;
      return 0;
    }
    table = base + (entry & FRAME);
  }
  return 0;
}

// bpf_probe_read_kernel is for programs under such a licence.
const char gpl[] SEC("license") = "GPL";
