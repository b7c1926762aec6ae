// mapcap: the command line. Parses, performs, and turns errors into one sentence and an exit code.
#include <exception>
#include <iostream>

#include "client/cli/commands.h"
#include "client/cli/json.h"
#include "mapcap/error.h"

int main(int argc, char** argv) {
  using namespace mapcap::cli;
  bool json_wanted = false;
  try {
    const auto parsed = parse(argc, argv);
    if (const auto* finished = std::get_if<Finished>(&parsed)) {
      (finished->code == 0 ? std::cout : std::cerr) << finished->text;
      return finished->code;
    }
    const auto& invocation = std::get<Invocation>(parsed);
    json_wanted = invocation.common.json;
    const int code = std::visit([&](const auto& command) { return perform(invocation.common, command); },
                                invocation.command);
    std::cout.flush();
    if (!std::cout) {
      std::cerr << "mapcap: standard output cannot be written to; check the disk or the pipe behind it\n";
      return 1;
    }
    return code;
  } catch (const mapcap::Error& error) {
    std::cerr << "mapcap: " << error.what() << '\n';
    if (json_wanted) std::cout << json(error) << '\n';
  } catch (const std::exception& error) {
    std::cerr << "mapcap: " << error.what() << '\n';
  }
  return 1;
}
