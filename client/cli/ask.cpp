#include "client/cli/ask.h"

#include <unistd.h>

#include <iostream>

#include "mapcap/error.h"

namespace mapcap::cli {

void ask(const std::string& question) {
  if (::isatty(STDIN_FILENO) == 0)
    throw Error(ErrorCode::invalid, question + " Nobody can be asked here: say --yes, and it is done");
  std::cerr << question << " [y/N] " << std::flush;
  std::string answer;
  std::getline(std::cin, answer);
  if (answer != "y" && answer != "yes") throw Error(ErrorCode::denied, "nothing was done");
}

}  // namespace mapcap::cli
