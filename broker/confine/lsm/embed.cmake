# Writes the bytes of FROM into the C++ source TO.
file(READ ${FROM} bytes HEX)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "(................................................................................)" "\\1\n" bytes "${bytes}")
file(WRITE ${TO} "#include \"broker/confine/lsm/object.h\"

namespace mapcap::broker::confine::lsm {
namespace {
alignas(8) constexpr unsigned char kBytes[] = {
${bytes}};
}  // namespace

std::span<const unsigned char> object() {
  return kBytes;
}

}  // namespace mapcap::broker::confine::lsm
")
