# Writes the bytes of FROM into the C++ source TO, as NAMESPACE::object(), declared in HEADER.
file(READ ${FROM} bytes HEX)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "(................................................................................)" "\\1\n" bytes "${bytes}")
file(WRITE ${TO} "#include \"${HEADER}\"

namespace ${NAMESPACE} {
namespace {
alignas(8) constexpr unsigned char kBytes[] = {
${bytes}};
}  // namespace

std::span<const unsigned char> object() {
  return kBytes;
}

}  // namespace ${NAMESPACE}
")
