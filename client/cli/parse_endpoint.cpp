#include "client/cli/parse_endpoint.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "base/units.h"
#include "base/words.h"
#include "client/cli/said.h"

namespace mapcap::cli {

struct EndpointWords::Text {
  std::string id, rights = "rw", bytes, regions, grants, connections, ttl, on_end = "revoke", renewed;
  std::vector<std::string> names, pools, verbs, labels;
  bool revoke_opened = false;
};

namespace {

Label label_of(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos) throw Wrong{"--label \"" + text + "\": write KEY=VALUE"};
  return {text.substr(0, equals), text.substr(equals + 1)};
}

}  // namespace

EndpointWords::EndpointWords(const std::optional<std::vector<std::string>>& program)
    : program_(program), text_(std::make_unique<Text>()) {}
EndpointWords::~EndpointWords() = default;

EndpointSpec EndpointWords::spec() const {
  const Text& text = *text_;
  EndpointSpec spec;
  spec.id = text.id;
  spec.names = text.names;
  spec.pools = text.pools;
  spec.verbs = text.verbs;
  spec.rights = judge("--rights", parse_access(text.rights));
  if (!text.bytes.empty()) spec.limits.bytes = bytes_of("--bytes", text.bytes);
  if (!text.regions.empty()) spec.limits.regions = count_of("--regions", text.regions);
  if (!text.grants.empty()) spec.limits.grants = count_of("--grants", text.grants);
  if (!text.connections.empty()) spec.limits.connections = count_of("--connections", text.connections);
  if (!text.ttl.empty()) spec.ttl = judge("--ttl", parse_duration(text.ttl));
  spec.on_end = judge("--on-end", parse_on_end(text.on_end));
  for (const std::string& label : text.labels) spec.labels.push_back(label_of(label));
  return spec;
}

void EndpointWords::add_to(CLI::App& app, const Add& add) {
  auto* endpoint = app.add_subcommand(
      "endpoint", "Sockets that are an authority: whoever can connect may do what they allow");
  endpoint->fallthrough();
  endpoint->require_subcommand(1);
  const auto with_id = [this](CLI::App* command) {
    command->add_option("ID", text_->id, "The endpoint, for example reader-1")->required();
    return command;
  };

  auto* create =
      with_id(add(*endpoint, "create", "Make an endpoint", [this] { return EndpointCreateCommand{spec()}; }));
  const auto list = [create](const char* name, std::vector<std::string>& into, const char* help) {
    return create->add_option(name, into, help)->allow_extra_args(false)->take_all();
  };
  list("--names", text_->names, "Only regions whose name matches this glob; may be repeated [USER/ID/**]");
  list("--pool", text_->pools, "Only this pool; may be repeated [all]");
  list("--verbs", text_->verbs,
       "create, open, list, show, renew, revoke, publish, pools, quota or clone; may be repeated [all but "
       "clone]")
      ->delimiter(',');
  create->add_option("--rights", text_->rights, "At most these rights: ro or rw")->capture_default_str();
  create->add_option("--bytes", text_->bytes, "At most so much memory, for example 1G");
  create->add_option("--regions", text_->regions, "At most so many regions");
  create->add_option("--grants", text_->grants, "At most so many grants at a time");
  create->add_option("--connections", text_->connections, "At most so many connections at a time");
  create->add_option("--ttl", text_->ttl, "It ends after this, unless renewed [never]");
  create
      ->add_option("--on-end", text_->on_end,
                   "What becomes of its regions: revoke, or keep, then they are yours")
      ->capture_default_str();
  list("--label", text_->labels, "KEY=VALUE, for policies and audit; may be repeated");
  create->footer("Example: mapcap endpoint create readers --names 'models/**' --verbs open --rights ro");

  add(*endpoint, "list", "List your endpoints", [] { return EndpointListCommand{}; });
  with_id(add(*endpoint, "show", "Show one endpoint", [this] { return EndpointShowCommand{text_->id}; }));
  auto* renew = with_id(add(*endpoint, "renew", "Restart an endpoint's ttl", [this] {
    return EndpointRenewCommand{text_->id, judge("--ttl", parse_duration(text_->renewed))};
  }));
  renew->add_option("--ttl", text_->renewed, "From now, for example 1h")->required();
  auto* end = with_id(add(*endpoint, "end", "End an endpoint, its connections, and what it made", [this] {
    return EndpointEndCommand{text_->id, text_->revoke_opened};
  }));
  end->add_flag("--revoke-opened", text_->revoke_opened,
                "Revoke its maker's own regions too that its clients have open");
  auto* run =
      with_id(add(*endpoint, "run", "Run a program that has this endpoint and no other socket", [this] {
        return EndpointRunCommand{text_->id, *program_};
      }));
  run->footer("Example: mapcap endpoint run readers -- ./infer --model models/a");
}

}  // namespace mapcap::cli
