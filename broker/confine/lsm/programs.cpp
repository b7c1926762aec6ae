#include "broker/confine/lsm/programs.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <vector>

#include "base/hash.h"
#include "broker/confine/lsm/object.h"
#include "broker/confine/lsm/pins.h"

namespace mapcap::broker::confine::lsm {

namespace {

constexpr const char* kMarks = "marks";
constexpr const char* kBrokers = "brokers";
constexpr const char* kLayout = "-1";

struct Hook {
  const char* name;
  bool every_kernel;  ///< False: older kernels lack it, and do without what it guards.
};

constexpr std::array<Hook, 14> kHooks{{
    {"file_permission", true},
    {"file_open", true},
    {"file_truncate", false},  // Linux 6.2; path_truncate does its work before
    {"path_truncate", true},
    {"file_ioctl", true},
    {"file_ioctl_compat", false},  // Linux 6.8 and stable releases; file_ioctl does its work before
    {"file_fcntl", true},
    {"path_chown", true},
    {"path_chmod", true},
    {"inode_setxattr", true},
    {"inode_removexattr", true},
    {"inode_link", true},
    {"mmap_file", true},
    {"file_mprotect", true},
}};

struct CloseObject {
  void operator()(bpf_object* object) const { bpf_object__close(object); }
};
using Object = std::unique_ptr<bpf_object, CloseObject>;

struct FreeTypes {
  void operator()(btf* types) const { btf__free(types); }
};
using Types = std::unique_ptr<btf, FreeTypes>;

/// Closes the link's descriptor; what is pinned stays attached.
struct LetGo {
  void operator()(bpf_link* link) const { bpf_link__destroy(link); }
};
using Link = std::unique_ptr<bpf_link, LetGo>;

Failure refused(const std::string& what, int failed) {
  if (failed == EPERM || failed == EACCES) {
    return failure(ErrorCode::unsupported,
                   "the kernel does not permit " + what +
                       ": mapcapd needs CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN, and a kernel that is "
                       "not locked down; else use another confinement");
  }
  return failure(ErrorCode::unsupported, "the kernel refuses " + what + " (errno " + std::to_string(failed) +
                                             "); use another confinement, or another kernel");
}

std::string program_name(const Hook& hook) {
  return std::string("on_") + hook.name;
}

/// The hooks that the running kernel has.
Result<std::vector<Hook>> present_hooks() {
  const Types types(btf__load_vmlinux_btf());
  if (!types) return refused("to tell the types of its structures (BTF)", errno);
  std::vector<Hook> present;
  for (const Hook& hook : kHooks) {
    const std::string function = std::string("bpf_lsm_") + hook.name;
    if (btf__find_by_name_kind(types.get(), function.c_str(), BTF_KIND_FUNC) >= 0) {
      present.push_back(hook);
    } else if (hook.every_kernel) {
      return failure(ErrorCode::unsupported, std::string("this kernel has no LSM hook ") + hook.name +
                                                 ": boot one with CONFIG_SECURITY_PATH=y");
    }
  }
  return present;
}

/// The object with the programs of these hooks, not loaded yet.
Result<Object> open_object(const std::vector<Hook>& hooks) {
  libbpf_set_print(nullptr);
  bpf_object_open_opts options{};
  options.sz = sizeof options;
  options.object_name = "mapcap";
  Object opened(bpf_object__open_mem(object().data(), object().size(), &options));
  if (!opened) return refused("the BPF object", errno);
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, opened.get()) {
    const std::string name = bpf_program__name(program);
    const bool wanted =
        std::any_of(hooks.begin(), hooks.end(), [&](const Hook& hook) { return program_name(hook) == name; });
    bpf_program__set_autoload(program, wanted);
  }
  return opened;
}

/// Tells one build's programs from another's.
std::string fingerprint() {
  const std::uint64_t hash = fnv1a(object());
  std::array<char, 17> text{};
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(hash));
  return text.data();
}

Result<std::uint32_t> map_id(BorrowedFd map) {
  bpf_map_info info{};
  std::uint32_t length = sizeof info;
  if (bpf_obj_get_info_by_fd(map.get(), &info, &length) != 0) return io_error("asking a map", errno);
  return info.id;
}

/// Whether a link's program uses both maps.
Result<bool> link_uses(BorrowedFd link, std::uint32_t marks, std::uint32_t brokers) {
  bpf_link_info of_link{};
  std::uint32_t length = sizeof of_link;
  if (bpf_obj_get_info_by_fd(link.get(), &of_link, &length) != 0) {
    return io_error("asking a pinned link", errno);
  }
  const Fd program(bpf_prog_get_fd_by_id(of_link.prog_id));
  if (!program.valid()) return io_error("opening a pinned link's program", errno);
  std::array<std::uint32_t, 8> ids{};
  bpf_prog_info of_program{};
  of_program.nr_map_ids = ids.size();
  // SAFETY: the kernel writes at most nr_map_ids words there, during the call.
  of_program.map_ids = reinterpret_cast<std::uintptr_t>(ids.data());
  length = sizeof of_program;
  if (bpf_obj_get_info_by_fd(program.get(), &of_program, &length) != 0) {
    return io_error("asking a pinned program", errno);
  }
  const auto uses = [&](std::uint32_t id) { return std::find(ids.begin(), ids.end(), id) != ids.end(); };
  return uses(marks) && uses(brokers);
}

/// Whether every hook's program is attached, on these maps.
Result<bool> all_attached(const std::string& links, const std::vector<Hook>& hooks, const Maps& maps) {
  if (!maps.marks.valid() || !maps.brokers.valid()) return false;
  MAPCAP_TRY(const std::uint32_t marks, map_id(maps.marks.borrow()));
  MAPCAP_TRY(const std::uint32_t brokers, map_id(maps.brokers.borrow()));
  for (const Hook& hook : hooks) {
    MAPCAP_TRY(const Fd link, find_pin(links + "/" + hook.name));
    if (!link.valid()) return false;
    MAPCAP_TRY(const bool uses, link_uses(link.borrow(), marks, brokers));
    if (!uses) return false;
  }
  return true;
}

Result<void> attach_and_pin(bpf_object* loaded, const std::vector<Hook>& hooks, const std::string& into) {
  MAPCAP_TRY_VOID(remove_pins(into));
  if (::mkdir(into.c_str(), 0700) != 0) return io_error("making " + into, errno);
  for (const Hook& hook : hooks) {
    bpf_program* program = bpf_object__find_program_by_name(loaded, program_name(hook).c_str());
    MAPCAP_INVARIANT(program != nullptr, "a hook without a program in mapcap_lsm.bpf.c");
    const Link link(bpf_program__attach_lsm(program));
    if (!link) return refused(std::string("to attach a program to the LSM hook ") + hook.name, errno);
    const std::string pin = into + "/" + hook.name;
    if (bpf_link__pin(link.get(), pin.c_str()) != 0) return io_error("pinning " + pin, errno);
  }
  return ok();
}

/// Loads this build's programs on the pinned maps (making those that are missing), and replaces what is
/// attached.
Result<void> attach_afresh(const std::string& pins, const std::string& links,
                           const std::vector<Hook>& hooks) {
  MAPCAP_TRY(const Object opened, open_object(hooks));
  for (const char* name : {kMarks, kBrokers}) {
    bpf_map* map = bpf_object__find_map_by_name(opened.get(), name);
    MAPCAP_INVARIANT(map != nullptr, "a map is missing in mapcap_lsm.bpf.c");
    const std::string pin = pins + "/" + name + kLayout;
    if (bpf_map__set_pin_path(map, pin.c_str()) != 0) return io_error("pinning " + pin, errno);
  }
  if (bpf_object__load(opened.get()) != 0) return refused("to load BPF LSM programs", errno);
  const std::string fresh = pins + "/new";
  if (Result<void> attached = attach_and_pin(opened.get(), hooks, fresh); !attached) {
    (void)remove_pins(fresh);
    return attached;
  }
  MAPCAP_TRY_VOID(remove_pins(links));
  if (::rename(fresh.c_str(), links.c_str()) != 0) return io_error("renaming " + fresh, errno);
  return ok();
}

Result<void> remove_others(const std::string& pins, const std::string& kept) {
  for (const std::string& name : names_in(pins)) {
    if (!name.starts_with("links-") || name == kept) continue;
    MAPCAP_TRY_VOID(remove_pins(pins + "/" + name));
  }
  return ok();
}

}  // namespace

Result<Maps> pinned_maps(const std::string& pins) {
  Maps maps;
  MAPCAP_TRY(maps.marks, find_pin(pins + "/" + kMarks + kLayout));
  MAPCAP_TRY(maps.brokers, find_pin(pins + "/" + kBrokers + kLayout));
  return maps;
}

Result<void> try_programs() {
  MAPCAP_TRY(const std::vector<Hook> hooks, present_hooks());
  MAPCAP_TRY(const Object opened, open_object(hooks));
  if (bpf_object__load(opened.get()) != 0) return refused("to load BPF LSM programs", errno);
  return ok();
}

Result<Maps> find_or_attach(const std::string& pins) {
  MAPCAP_TRY(const std::vector<Hook> hooks, present_hooks());
  MAPCAP_TRY(const Fd lock, claim_pins(pins));
  const std::string name = "links-" + fingerprint();
  const std::string links = pins + "/" + name;
  MAPCAP_TRY(Maps maps, pinned_maps(pins));
  MAPCAP_TRY(const bool found, all_attached(links, hooks, maps));
  if (!found) {
    MAPCAP_TRY_VOID(attach_afresh(pins, links, hooks));
    MAPCAP_TRY(maps, pinned_maps(pins));
  }
  MAPCAP_TRY_VOID(remove_others(pins, name));
  return maps;
}

Result<void> mark(const Maps& maps, BorrowedFd file) {
  const int key = file.get();
  const std::uint32_t value = 1;
  if (bpf_map_update_elem(maps.marks.get(), &key, &value, BPF_ANY) != 0) {
    return io_error("marking a region's memory for the LSM programs", errno);
  }
  return ok();
}

Result<void> exempt(const Maps& maps, BorrowedFd process) {
  const int key = process.get();
  const std::uint32_t value = 1;
  if (bpf_map_update_elem(maps.brokers.get(), &key, &value, BPF_ANY) != 0) {
    return io_error("exempting the broker from the LSM programs", errno);
  }
  return ok();
}

Result<void> exempt_this_process(const Maps& maps) {
  const Fd self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  if (!self.valid()) return io_error("pidfd_open of this process", errno);
  return exempt(maps, self.borrow());
}

}  // namespace mapcap::broker::confine::lsm
