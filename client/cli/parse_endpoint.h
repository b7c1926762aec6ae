// The words of `mapcap endpoint`.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/cli/command.h"

namespace CLI {
class App;
}

namespace mapcap::cli {

class EndpointWords {
 public:
  using Maker = std::function<Command()>;
  /// How parse.cpp adds a command.
  using Add = std::function<CLI::App*(CLI::App& parent, const std::string& name, const std::string& help,
                                      Maker maker)>;
  /// `program`: what stands behind "--", once that is known.
  explicit EndpointWords(const std::optional<std::vector<std::string>>& program);
  ~EndpointWords();
  EndpointWords(const EndpointWords&) = delete;
  EndpointWords& operator=(const EndpointWords&) = delete;

  void add_to(CLI::App& app, const Add& add);

 private:
  struct Text;
  [[nodiscard]] EndpointSpec spec() const;

  const std::optional<std::vector<std::string>>& program_;
  std::unique_ptr<Text> text_;
};

}  // namespace mapcap::cli
