// Legacy asynchronous I/O (io_submit), by system call: libaio is not worth a dependency.
#include <linux/aio_abi.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>

#include "client/attack/operation.h"

namespace mapcap::attack {
namespace {

constexpr std::size_t kLength = 4096;

// Submits one request and waits for its result.
Attempt submit(const Context& context, iocb request, std::span<const std::byte> buffer, bool reads) {
  aio_context_t queue = 0;
  if (syscall(SYS_io_setup, 1, &queue) != 0) return unsupported("io_setup is not available");
  request.aio_fildes = static_cast<std::uint32_t>(context.fd);
  iocb* requests[] = {&request};
  if (syscall(SYS_io_submit, queue, 1L, requests) != 1) return answered(-1);
  io_event event{};
  timespec patience{2, 0};
  if (syscall(SYS_io_getevents, queue, 1L, 1L, &event, &patience) != 1) return inconclusive("no completion");
  if (event.res < 0) {
    errno = static_cast<int>(-event.res);
    return answered(-1);
  }
  return reads ? delivered(context, event.res, buffer) : answered(event.res);
}

iocb request_of(std::uint16_t opcode, const void* buffer, std::size_t length) {
  iocb request{};
  request.aio_lio_opcode = opcode;
  request.aio_buf = reinterpret_cast<std::uintptr_t>(buffer);
  request.aio_nbytes = length;
  return request;
}

struct alignas(4096) Buffer {
  std::array<std::byte, kLength> bytes;
};

}  // namespace

void add_aio(std::vector<Operation>& all) {
  Family aio(all, "aio");
  aio.refused("IOCB_CMD_PREAD", [](const Context& c) {
    Buffer buffer{};
    return submit(c, request_of(IOCB_CMD_PREAD, &buffer, kLength), buffer.bytes, true);
  });
  aio.refused("IOCB_CMD_PREADV", [](const Context& c) {
    Buffer buffer{};
    const iovec one{buffer.bytes.data(), kLength};
    return submit(c, request_of(IOCB_CMD_PREADV, &one, 1), buffer.bytes, true);
  });
  aio.unchanged("IOCB_CMD_PWRITE", [](const Context& c) {
    const std::vector<std::byte> bytes = other_bytes(c, kLength);
    return submit(c, request_of(IOCB_CMD_PWRITE, bytes.data(), kLength), {}, false);
  });
  aio.unchanged("IOCB_CMD_PWRITEV", [](const Context& c) {
    std::vector<std::byte> bytes = other_bytes(c, kLength);
    const iovec one{bytes.data(), kLength};
    return submit(c, request_of(IOCB_CMD_PWRITEV, &one, 1), {}, false);
  });
  aio.harmless("IOCB_CMD_FSYNC",
               [](const Context& c) { return submit(c, request_of(IOCB_CMD_FSYNC, nullptr, 0), {}, false); });
  aio.harmless("IOCB_CMD_FDSYNC", [](const Context& c) {
    return submit(c, request_of(IOCB_CMD_FDSYNC, nullptr, 0), {}, false);
  });
  aio.harmless("IOCB_CMD_POLL", [](const Context& c) {
    iocb request = request_of(IOCB_CMD_POLL, nullptr, 0);
    request.aio_buf = 1;  // POLLIN
    return submit(c, request, {}, false);
  });
}

}  // namespace mapcap::attack
