// The streams of C++ under `mapcap run --at PATH=NAME:rw`, with the region as standard input too. It holds the letters of
// the alphabet over and over: ends with 1 where they are not read, and written, as from a file.
//
//     path_streams PATH
#include <fstream>
#include <iostream>
#include <string>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::string begin(4, ' ');
  std::ifstream in(argv[1]);
  if (!in.read(begin.data(), 4) || begin != "abcd") return std::cerr << "ifstream reads " << begin << '\n', 1;
  if (!in.seekg(26, std::ios::beg) || in.get() != 'a') return std::cerr << "ifstream does not seek\n", 1;

  const int first = std::cin.get();
  std::string rest;
  std::cin >> rest;
  if (first != 'a' || rest.substr(0, 3) != "bcd")
    return std::cerr << "cin reads " << rest.substr(0, 3) << '\n', 1;

  std::fstream both(argv[1], std::ios::in | std::ios::out);
  std::string seen(3, ' ');
  both << "AB" << std::flush;
  both.seekg(0);
  if (!both.read(seen.data(), 3) || seen != "ABc") return std::cerr << "fstream reads " << seen << '\n', 1;
  both.seekp(0);
  both << "ab" << std::flush;
  return both.good() ? 0 : 1;
}
