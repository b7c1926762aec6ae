// Writes one packet of every message into the directory of its only argument: seeds for codec_fuzz.
#include <cstdio>
#include <fstream>
#include <string>

#include "schema/codec.h"
#include "tests/unit/schema_examples.h"

namespace {

using namespace mapcap;
using namespace mapcap::schema;

void write(const std::string& path, char direction, const Packet& packet) {
  std::ofstream file(path, std::ios::binary);
  file.put(direction);
  file.write(reinterpret_cast<const char*>(packet.data()),  // SAFETY: bytes as chars
             static_cast<std::streamsize>(packet.size()));
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: codec_seeds DIRECTORY\n");
    return 2;
  }
  const std::string directory = arguments[1];
  int number = 0;
  for (const Request& request : examples::all_requests()) {
    write(directory + "/request-" + std::to_string(number++), 0, encode(request));
  }
  for (const FromBroker& answer : examples::all_answers()) {
    write(directory + "/answer-" + std::to_string(number++), 1, encode(answer));
  }
  return 0;
}
