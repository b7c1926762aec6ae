// Calls that move bytes between two descriptors, and pages of a mapping into pipes and sockets.
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>

#include "client/attack/operation.h"

namespace mapcap::attack {
namespace {

constexpr std::size_t kLength = 512;

// A file whose bytes are not the region's.
int other_file(const Context& context) {
  const int file = scratch_file();
  const std::vector<std::byte> bytes = other_bytes(context, kLength);
  if (pwrite(file, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) _exit(125);
  return file;
}

Pipe filled_pipe(const Context& context) {
  const Pipe pipe = make_pipe();
  const std::vector<std::byte> bytes = other_bytes(context, kLength);
  if (write(pipe.write_end, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) _exit(125);
  return pipe;
}

// What arrived in `sink` counts, whatever the call said.
Attempt arrived(const Context& context, long answer, int sink) {
  if (answer < 0) return answered(answer);
  return delivered(context, answer, drain(sink, kLength));
}

Attempt arrived_in_file(const Context& context, long answer, int file) {
  if (answer < 0) return answered(answer);
  (void)lseek(file, 0, SEEK_SET);
  return arrived(context, answer, file);
}

void add_outwards(Family& out) {
  out.refused("sendfile to a socket", [](const Context& c) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0) return inconclusive("socketpair");
    off_t offset = 0;
    return arrived(c, sendfile(pair[0], c.fd, &offset, kLength), pair[1]);
  });
  out.refused("sendfile to a pipe", [](const Context& c) {
    const Pipe pipe = make_pipe();
    off_t offset = 0;
    return arrived(c, sendfile(pipe.write_end, c.fd, &offset, kLength), pipe.read_end);
  });
  out.refused("sendfile to a file", [](const Context& c) {
    const int file = scratch_file();
    off_t offset = 0;
    return arrived_in_file(c, sendfile(file, c.fd, &offset, kLength), file);
  });
  out.refused("sendfile at the descriptor's own offset", [](const Context& c) {
    const int file = scratch_file();
    return arrived_in_file(c, sendfile(file, c.fd, nullptr, kLength), file);
  });
  struct SpliceFlags {
    const char* name;
    unsigned value;
  };
  for (const SpliceFlags flags :
       {SpliceFlags{"0", 0}, SpliceFlags{"SPLICE_F_MOVE", SPLICE_F_MOVE},
        SpliceFlags{"SPLICE_F_NONBLOCK", SPLICE_F_NONBLOCK}, SpliceFlags{"SPLICE_F_MORE", SPLICE_F_MORE}}) {
    out.refused(std::string("splice to a pipe, ") + flags.name, [flags](const Context& c) {
      const Pipe pipe = make_pipe();
      off64_t offset = 0;
      return arrived(c, splice(c.fd, &offset, pipe.write_end, nullptr, kLength, flags.value), pipe.read_end);
    });
  }
  out.refused("tee from the fd", [](const Context& c) {
    const Pipe pipe = make_pipe();
    return arrived(c, tee(c.fd, pipe.write_end, kLength, 0), pipe.read_end);
  });
  out.refused("copy_file_range to a file", [](const Context& c) {
    const int file = scratch_file();
    off64_t from = 0;
    off64_t to = 0;
    return arrived_in_file(c, copy_file_range(c.fd, &from, file, &to, kLength, 0), file);
  });
  out.refused("copy_file_range to a memfd", [](const Context& c) {
    const int file = memfd_create("sink", MFD_CLOEXEC);
    off64_t from = 0;
    off64_t to = 0;
    return arrived_in_file(c, copy_file_range(c.fd, &from, file, &to, kLength, 0), file);
  });
  out.refused("copy_file_range to a pipe", [](const Context& c) {
    const Pipe pipe = make_pipe();
    off64_t from = 0;
    return arrived(c, copy_file_range(c.fd, &from, pipe.write_end, nullptr, kLength, 0), pipe.read_end);
  });
}

void add_inwards(Family& in) {
  in.unchanged("sendfile from a file", [](const Context& c) {
    off_t offset = 0;
    return answered(sendfile(c.fd, other_file(c), &offset, kLength));
  });
  in.unchanged("sendfile from a pipe", [](const Context& c) {
    return answered(sendfile(c.fd, filled_pipe(c).read_end, nullptr, kLength));
  });
  in.unchanged("splice from a pipe", [](const Context& c) {
    off64_t offset = 0;
    return answered(splice(filled_pipe(c).read_end, nullptr, c.fd, &offset, kLength, 0));
  });
  in.unchanged("splice from a pipe, SPLICE_F_MOVE", [](const Context& c) {
    off64_t offset = 0;
    return answered(splice(filled_pipe(c).read_end, nullptr, c.fd, &offset, kLength, SPLICE_F_MOVE));
  });
  in.refused("tee to the fd",
             [](const Context& c) { return answered(tee(filled_pipe(c).read_end, c.fd, kLength, 0)); });
  in.unchanged("copy_file_range from a file", [](const Context& c) {
    off64_t from = 0;
    off64_t to = 0;
    return answered(copy_file_range(other_file(c), &from, c.fd, &to, kLength, 0));
  });
  in.unchanged("copy_file_range within the fd", [](const Context& c) {
    off64_t from = 0;
    auto to = static_cast<off64_t>(c.page / 2);
    return answered(copy_file_range(c.fd, &from, c.fd, &to, kLength, 0));
  });
  in.refused("vmsplice to the fd", [](const Context& c) {
    std::vector<std::byte> bytes = other_bytes(c, kLength);
    const iovec one{bytes.data(), bytes.size()};
    return answered(vmsplice(c.fd, &one, 1, 0));
  });
}

// The pages of a mapping that lie in a pipe must not be a way to write to the region behind a ro mapping.
Attempt append_to_spliced_page(const Context& c, unsigned flags) {
  std::byte* region = map_region(c);
  if (region == nullptr) return inconclusive("cannot map");
  const Pipe pipe = make_pipe();
  const iovec part{region, 100};
  if (vmsplice(pipe.write_end, &part, 1, flags) != 100) return refused(errno);
  const std::vector<std::byte> bytes = other_bytes(c, 200);
  return answered(write(pipe.write_end, bytes.data(), bytes.size()));
}

void add_pages(Family& pages) {
  pages.harmless("vmsplice a mapping into a pipe", [](const Context& c) {
    std::byte* region = map_region(c);
    if (region == nullptr) return inconclusive("cannot map");
    const Pipe pipe = make_pipe();
    const iovec part{region, kLength};
    return arrived(c, vmsplice(pipe.write_end, &part, 1, 0), pipe.read_end);
  });
  pages.unchanged("append to a page in a pipe",
                  [](const Context& c) { return append_to_spliced_page(c, 0); });
  pages.unchanged("append to a page given to a pipe",
                  [](const Context& c) { return append_to_spliced_page(c, SPLICE_F_GIFT); });
  pages.unchanged("splice a given page into a file, then write there", [](const Context& c) {
    std::byte* region = map_region(c);
    if (region == nullptr) return inconclusive("cannot map");
    const Pipe pipe = make_pipe();
    const iovec part{region, c.page};
    if (vmsplice(pipe.write_end, &part, 1, SPLICE_F_GIFT) < 0) return refused(errno);
    const int file = scratch_file();
    if (splice(pipe.read_end, nullptr, file, nullptr, c.page, SPLICE_F_MOVE) < 0) return refused(errno);
    const std::vector<std::byte> bytes = other_bytes(c, kLength);
    return answered(pwrite(file, bytes.data(), bytes.size(), 0));
  });
  pages.harmless("write from a mapping to a file", [](const Context& c) {
    std::byte* region = map_region(c);
    if (region == nullptr) return inconclusive("cannot map");
    return answered(write(scratch_file(), region, kLength));
  });
  pages.harmless("send from a mapping", [](const Context& c) {
    std::byte* region = map_region(c);
    if (region == nullptr) return inconclusive("cannot map");
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return inconclusive("socketpair");
    return answered(send(pair[0], region, kLength, MSG_DONTWAIT));
  });
}

}  // namespace

void add_transfer(std::vector<Operation>& all) {
  Family transfer(all, "transfer");
  add_outwards(transfer);
  add_inwards(transfer);
  add_pages(transfer);
}

}  // namespace mapcap::attack
