// mapcap: the command line. Parses, performs, and turns errors into one sentence and an exit code.
#include <algorithm>
#include <exception>
#include <iostream>
#include <string_view>

#include "client/cli/commands.h"
#include "client/cli/json.h"
#include "mapcap/error.h"

namespace {

using namespace mapcap::cli;

/// Asked for before "--", wherever it stands: also of a command line that cannot be read.
bool wants_json(int argc, const char* const* argv) {
  const char* const* end =
      std::find_if(argv, argv + argc, [](const char* word) { return std::string_view(word) == "--"; });
  return std::any_of(argv, end, [](const char* word) { return std::string_view(word) == "--json"; });
}

/// A sentence for people; for programs that asked for JSON an object as well.
int failed(const mapcap::Error& error, bool json_wanted, int code) {
  std::cerr << "mapcap: " << error.what() << '\n';
  if (json_wanted) std::cout << json(error) << '\n';
  return code;
}

int finish(const Finished& finished, bool json_wanted) {
  if (finished.code == 0) {
    std::cout << finished.text;
    return 0;
  }
  return failed(mapcap::Error(mapcap::ErrorCode::invalid, finished.text), json_wanted, finished.code);
}

}  // namespace

int main(int argc, char** argv) {
  const bool json_wanted = wants_json(argc, argv);
  try {
    const auto parsed = parse(argc, argv);
    if (const auto* finished = std::get_if<Finished>(&parsed)) return finish(*finished, json_wanted);
    const auto& invocation = std::get<Invocation>(parsed);
    const int code = std::visit([&](const auto& command) { return perform(invocation.common, command); },
                                invocation.command);
    std::cout.flush();
    if (!std::cout) {
      std::cerr << "mapcap: standard output cannot be written to; check the disk or the pipe behind it\n";
      return 1;
    }
    return code;
  } catch (const NotRun& error) {
    return failed(error, json_wanted, error.exit_code);
  } catch (const mapcap::Error& error) {
    return failed(error, json_wanted, 1);
  } catch (const std::exception& error) {
    return failed(mapcap::Error(mapcap::ErrorCode::io, error.what()), json_wanted, 1);
  }
}
