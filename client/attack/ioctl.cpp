// ioctl: the calls that the kernel answers itself for every file, those of filesystems, and those of devices
// that might take an fd for one of theirs.
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/fscrypt.h>
#include <linux/fsverity.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <new>

#include "client/attack/operation.h"

namespace mapcap::attack {
namespace {

// An ioctl argument of that many bytes.
template <std::size_t Count>
using Bytes = std::array<char, Count>;

// Requests whose argument may be zeros.
struct Request {
  const char* name;
  unsigned long request;
  Rule rule;
};

constexpr unsigned long kGetUuid = _IOR(0x15, 0, Bytes<17>);
constexpr unsigned long kGetSysfsPath = _IOR(0x15, 1, Bytes<129>);

constexpr Request kRequests[] = {
    {"FS_IOC_GETFLAGS", FS_IOC_GETFLAGS, Rule::harmless},
    {"FS_IOC_FSGETXATTR", FS_IOC_FSGETXATTR, Rule::harmless},
    {"FS_IOC_GETVERSION", FS_IOC_GETVERSION, Rule::harmless},
    {"FS_IOC_SETVERSION", FS_IOC_SETVERSION, Rule::refused},
    {"FS_IOC_GETFSLABEL", FS_IOC_GETFSLABEL, Rule::harmless},
    {"FS_IOC_SETFSLABEL", FS_IOC_SETFSLABEL, Rule::refused},
    {"FS_IOC_GETFSUUID", kGetUuid, Rule::harmless},
    {"FS_IOC_GETFSSYSFSPATH", kGetSysfsPath, Rule::harmless},
    {"FIBMAP", FIBMAP, Rule::refused},
    {"FIGETBSZ", FIGETBSZ, Rule::harmless},
    {"FIONREAD", FIONREAD, Rule::harmless},
    {"FIOQSIZE", FIOQSIZE, Rule::harmless},
    {"FIONBIO", FIONBIO, Rule::harmless},
    {"FIOASYNC", FIOASYNC, Rule::harmless},
    {"FIOCLEX", FIOCLEX, Rule::harmless},
    {"FIONCLEX", FIONCLEX, Rule::harmless},
    {"FIFREEZE", FIFREEZE, Rule::refused},
    {"FITHAW", FITHAW, Rule::refused},
    {"FITRIM", FITRIM, Rule::refused},
    {"FS_IOC_GET_ENCRYPTION_POLICY", FS_IOC_GET_ENCRYPTION_POLICY, Rule::refused},
    {"FS_IOC_SET_ENCRYPTION_POLICY", FS_IOC_SET_ENCRYPTION_POLICY, Rule::refused},
    {"FS_IOC_ADD_ENCRYPTION_KEY", FS_IOC_ADD_ENCRYPTION_KEY, Rule::refused},
    {"FS_IOC_MEASURE_VERITY", FS_IOC_MEASURE_VERITY, Rule::refused},
    {"FS_IOC_READ_VERITY_METADATA", FS_IOC_READ_VERITY_METADATA, Rule::refused},
    {"EXT4_IOC_MOVE_EXT", _IOWR('f', 15, Bytes<40>), Rule::refused},
    {"EXT4_IOC_MIGRATE", _IO('f', 9), Rule::refused},
    {"EXT4_IOC_ALLOC_DA_BLKS", _IO('f', 12), Rule::refused},
    {"EXT4_IOC_SWAP_BOOT", _IO('f', 17), Rule::refused},
    {"EXT4_IOC_CLEAR_ES_CACHE", _IO('f', 40), Rule::refused},
    {"XFS_IOC_GETBMAPX", _IOWR('X', 56, Bytes<48>), Rule::refused},
    {"XFS_IOC_SWAPEXT", _IOWR('X', 109, Bytes<472>), Rule::refused},
    {"XFS_IOC_EXCHANGE_RANGE", _IOW('X', 129, Bytes<40>), Rule::refused},
    {"F2FS_IOC_START_ATOMIC_WRITE", _IO(0xf5, 1), Rule::refused},
    {"BTRFS_IOC_DEFRAG", _IOW(0x94, 2, Bytes<4096>), Rule::refused},
    {"BLKGETSIZE64", BLKGETSIZE64, Rule::refused},
    {"BLKDISCARD", BLKDISCARD, Rule::refused},
    {"BLKZEROOUT", BLKZEROOUT, Rule::refused},
    {"BLKSECDISCARD", BLKSECDISCARD, Rule::refused},
    {"BLKFLSBUF", BLKFLSBUF, Rule::refused},
    {"BLKROSET", BLKROSET, Rule::refused},
    {"LOOP_CLR_FD", LOOP_CLR_FD, Rule::refused},
    {"LOOP_GET_STATUS64", LOOP_GET_STATUS64, Rule::refused},
    {"TCGETS", 0x5401, Rule::refused},
    {"SIOCGIFCONF", 0x8912, Rule::refused},
    {"DMA_BUF_IOCTL_SYNC", _IOW('b', 0, std::uint64_t), Rule::refused},
    {"DMA_BUF_IOCTL_EXPORT_SYNC_FILE", _IOWR('b', 2, std::uint64_t), Rule::refused},
    {"UDMABUF_CREATE", _IOW('u', 0x42, Bytes<24>), Rule::refused},
    {"FUSE_DEV_IOC_CLONE", _IOR(229, 0, std::uint32_t), Rule::refused},
    {"FUSE_DEV_IOC_BACKING_OPEN", _IOW(229, 1, Bytes<16>), Rule::refused},
    {"FUSE_DEV_IOC_BACKING_CLOSE", _IOW(229, 2, std::uint32_t), Rule::refused},
    {"KVM_GET_API_VERSION", _IO(0xAE, 0), Rule::refused},
    {"UFFDIO_API", _IOWR(0xAA, 0x3F, Bytes<24>), Rule::refused},
    {"PAGEMAP_SCAN", _IOWR('f', 16, Bytes<96>), Rule::refused},
    {"PERF_EVENT_IOC_ENABLE", _IO('$', 0), Rule::refused},
    {"NS_GET_USERNS", _IO(0xb7, 1), Rule::refused},
    {"an unknown request", 0xdeadbeef, Rule::refused},
};

void add_plain(Family& family) {
  for (const Request& request : kRequests) {
    family.add(request.name, request.rule, [request](const Context& c) {
      // The largest argument that an ioctl number can state is 16 KiB.
      std::array<std::byte, 16384> argument{};
      return answered(ioctl(c.fd, request.request, argument.data()));
    });
  }
}

void add_flags(Family& family) {
  struct Flag {
    const char* name;
    int value;
  };
  for (const Flag flag :
       {Flag{"0", 0}, Flag{"append", FS_APPEND_FL}, Flag{"immutable", FS_IMMUTABLE_FL},
        Flag{"nodump", FS_NODUMP_FL}, Flag{"noatime", FS_NOATIME_FL}, Flag{"dax", FS_DAX_FL}}) {
    family.refused(std::string("FS_IOC_SETFLAGS ") + flag.name, [flag](const Context& c) {
      const int value = flag.value;
      return answered(ioctl(c.fd, FS_IOC_SETFLAGS, &value));
    });
  }
  family.refused("FS_IOC_FSSETXATTR nodump", [](const Context& c) {
    fsxattr attributes{};
    (void)ioctl(c.fd, FS_IOC_FSGETXATTR, &attributes);
    attributes.fsx_xflags |= FS_XFLAG_NODUMP;
    return answered(ioctl(c.fd, FS_IOC_FSSETXATTR, &attributes));
  });
  family.refused("FS_IOC_FSSETXATTR project", [](const Context& c) {
    fsxattr attributes{};
    attributes.fsx_projid = 4711;
    return answered(ioctl(c.fd, FS_IOC_FSSETXATTR, &attributes));
  });
  family.refused("FS_IOC_ENABLE_VERITY", [](const Context& c) {
    fsverity_enable_arg argument{};
    argument.version = 1;
    argument.hash_algorithm = FS_VERITY_HASH_ALG_SHA256;
    argument.block_size = 4096;
    return answered(ioctl(c.fd, FS_IOC_ENABLE_VERITY, &argument));
  });
  family.refused("FS_IOC_FIEMAP", [](const Context& c) {
    alignas(fiemap) std::array<std::byte, sizeof(fiemap) + 4 * sizeof(fiemap_extent)> storage{};
    fiemap* map = new (storage.data()) fiemap{};
    map->fm_length = c.size;
    map->fm_extent_count = 4;
    return answered(ioctl(c.fd, FS_IOC_FIEMAP, map));
  });
}

void add_sharing(Family& family) {
  family.unchanged("FICLONE into the fd",
                   [](const Context& c) { return answered(ioctl(c.fd, FICLONE, scratch_file(c.size))); });
  family.refused("FICLONE from the fd",
                 [](const Context& c) { return answered(ioctl(scratch_file(), FICLONE, c.fd)); });
  family.unchanged("FICLONERANGE into the fd", [](const Context& c) {
    const file_clone_range range{scratch_file(c.page), 0, c.page, 0};
    return answered(ioctl(c.fd, FICLONERANGE, &range));
  });
  family.refused("FICLONERANGE from the fd", [](const Context& c) {
    const file_clone_range range{c.fd, 0, c.page, 0};
    return answered(ioctl(scratch_file(), FICLONERANGE, &range));
  });
  // Deduplication tells whether two ranges are equal: an oracle of the contents.
  family.refused("FIDEDUPERANGE from the fd", [](const Context& c) {
    alignas(file_dedupe_range)
        std::array<std::byte, sizeof(file_dedupe_range) + sizeof(file_dedupe_range_info)>
            storage{};
    file_dedupe_range* range = new (storage.data()) file_dedupe_range{};
    file_dedupe_range_info* to = new (storage.data() + sizeof(file_dedupe_range)) file_dedupe_range_info{};
    range->src_length = c.page;
    range->dest_count = 1;
    to->dest_fd = scratch_file(c.page);
    const int answer = ioctl(c.fd, FIDEDUPERANGE, range);
    if (answer == 0 && to->status < 0) {
      errno = -to->status;
      return answered(-1);
    }
    return answered(answer);
  });
}

void add_devices(Family& family) {
  family.refused("LOOP_SET_FD by /dev/loop0", [](const Context& c) {
    const int device = open("/dev/loop0", O_RDWR | O_CLOEXEC);
    if (device < 0) return refused(errno, "/dev/loop0 is not open to this user");
    const int answer = ioctl(device, LOOP_SET_FD, c.fd);
    if (answer == 0) (void)ioctl(device, LOOP_CLR_FD, 0);
    return answered(answer);
  });
  family.refused("LOOP_CONFIGURE by /dev/loop0", [](const Context& c) {
    const int device = open("/dev/loop0", O_RDONLY | O_CLOEXEC);
    if (device < 0) return refused(errno, "/dev/loop0 is not open to this user");
    loop_config config{};
    config.fd = static_cast<std::uint32_t>(c.fd);
    const int answer = ioctl(device, LOOP_CONFIGURE, &config);
    if (answer == 0) (void)ioctl(device, LOOP_CLR_FD, 0);
    return answered(answer);
  });
  family.refused("UDMABUF_CREATE by /dev/udmabuf", [](const Context& c) {
    const int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
    if (device < 0) return errno == ENOENT ? unsupported("no /dev/udmabuf") : refused(errno);
    struct {
      std::uint32_t memfd;
      std::uint32_t flags;
      std::uint64_t offset;
      std::uint64_t size;
    } create{static_cast<std::uint32_t>(c.fd), 0, 0, c.page};
    return answered(ioctl(device, _IOW('u', 0x42, Bytes<24>), &create));
  });
  family.refused("FUSE_DEV_IOC_BACKING_OPEN by /dev/fuse", [](const Context& c) {
    const int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (device < 0) return refused(errno, "/dev/fuse is not open to this user");
    struct {
      std::int32_t fd;
      std::uint32_t flags;
      std::uint64_t padding;
    } backing{c.fd, 0, 0};
    return answered(ioctl(device, _IOW(229, 1, Bytes<16>), &backing));
  });
}

}  // namespace

void add_ioctl(std::vector<Operation>& all) {
  Family family(all, "ioctl");
  add_plain(family);
  add_flags(family);
  add_sharing(family);
  add_devices(family);

  Family as_root(all, "ioctl as namespace root", Where::own_namespace);
  as_root.refused("FS_IOC_SETFLAGS immutable", [](const Context& c) {
    const int value = FS_IMMUTABLE_FL;
    return answered(ioctl(c.fd, FS_IOC_SETFLAGS, &value));
  });
  as_root.refused("FIFREEZE", [](const Context& c) { return answered(ioctl(c.fd, FIFREEZE, 0)); });
  as_root.refused("FS_IOC_FIEMAP", [](const Context& c) {
    fiemap head{};
    head.fm_length = c.size;
    return answered(ioctl(c.fd, FS_IOC_FIEMAP, &head));
  });
}

}  // namespace mapcap::attack
