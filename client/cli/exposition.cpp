#include "client/cli/exposition.h"

#include <nlohmann/json.hpp>

namespace mapcap::cli {
namespace {

/// A label's value may hold anything but these three as they are.
std::string escaped(const std::string& value) {
  std::string text;
  for (const char c : value) {
    if (c == '\n') {
      text += "\\n";
      continue;
    }
    if (c == '\\' || c == '"') text += '\\';
    text += c;
  }
  return text;
}

}  // namespace

void Exposition::family(std::string name, std::string help) {
  families_.push_back({std::move(name), std::move(help), {}});
}

void Exposition::sample(Labels labels, std::uint64_t value) {
  families_.back().samples.push_back({std::move(labels), value});
}

std::string Exposition::text() const {
  std::string text;
  for (const Family& family : families_) {
    if (family.samples.empty()) continue;
    text += "# HELP " + family.name + ' ' + family.help + "\n# TYPE " + family.name + " gauge\n";
    for (const Sample& sample : family.samples) {
      std::string labels;
      for (const auto& [key, value] : sample.labels)
        labels += (labels.empty() ? "" : ",") + key + "=\"" + escaped(value) + '"';
      text += family.name + (labels.empty() ? "" : '{' + labels + '}') + ' ' + std::to_string(sample.value) +
              '\n';
    }
  }
  return text;
}

std::string Exposition::json() const {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const Family& family : families_) {
    for (const Sample& sample : family.samples) {
      nlohmann::ordered_json labels = nlohmann::ordered_json::object();
      for (const auto& [key, value] : sample.labels) labels[key] = value;
      all.push_back({{"name", family.name}, {"labels", labels}, {"value", sample.value}});
    }
  }
  return all.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + '\n';
}

}  // namespace mapcap::cli
