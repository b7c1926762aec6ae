// argv to a Command. Only this file, parse_endpoint.cpp and completion_tree.cpp include CLI11, which takes seconds to compile.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <CLI/Validators.hpp>
#include <limits>
#include <map>
#include <optional>
#include <sstream>

#include "base/nearest.h"
#include "base/units.h"
#include "base/words.h"
#include "client/cli/command.h"
#include "client/cli/names.h"
#include "client/cli/parse_endpoint.h"
#include "client/cli/said.h"
#include "client/cli/terminal.h"
#include "mapcap/words.h"
#include "policy/model.h"

namespace mapcap::cli {
namespace {

constexpr int kUsage = 2;
constexpr std::size_t kHelpColumn = 34;  // where the help's explanations begin

// Everything before the first "--" is ours, everything after it is the program to run.
struct Split {
  std::vector<std::string> ours;
  std::optional<std::vector<std::string>> program;
};

Split split(int argc, const char* const* argv) {
  Split found;
  for (int i = 1; i < argc; ++i) {
    if (!found.program && std::string_view(argv[i]) == "--") {
      found.program.emplace();
    } else {
      (found.program ? *found.program : found.ours).emplace_back(argv[i]);
    }
  }
  return found;
}

class Parser {
 public:
  Parser() : app_("Asks mapcapd for memory that can be mmapped and nothing else.", "mapcap") {
    app_.set_version_flag("--version", "mapcap " MAPCAP_VERSION);
    app_.require_subcommand(1);
    app_.fallthrough();
    app_.get_formatter()->column_width(kHelpColumn);
    app_.add_option("--socket", common_.socket,
                    "The broker's socket [$MAPCAP_SOCKET, else /run/mapcap/mapcap.sock]");
    app_.add_flag("--json", common_.json, "Print JSON for programs");
    app_.footer(
        "Sizes are 4096, 64K, 64M, 1.5G; durations 500ms, 30s, 5m, 1h, 7d.\n"
        "Exit codes: 0 done, 1 refused or failed, 2 usage.");
    add_region_commands();
    add_program_commands();
    add_copy_commands();
    add_administration();
    endpoint_.add_to(app_, [this](CLI::App& parent, const std::string& name, const std::string& help,
                                  Maker maker) { return add(parent, name, help, std::move(maker)); });
  }

  std::variant<Invocation, Finished> parse(Split split) {
    try {
      std::vector<std::string> reversed(split.ours.rbegin(), split.ours.rend());
      app_.parse(reversed);
      const CLI::App* chosen = &app_;
      while (!chosen->get_subcommands().empty()) chosen = chosen->get_subcommands().front();
      program_ = std::move(split.program);
      return Invocation{common_, made(chosen)};
    } catch (const CLI::ParseError& error) {
      std::ostringstream out;
      std::ostringstream err;
      if (app_.exit(error, out, err) == 0)
        return Finished{0, fitted(out.str(), terminal_width(), kHelpColumn)};
      if (app_.get_subcommands().empty() && !app_.remaining().empty())
        return Finished{kUsage, unknown_command(app_.remaining().front())};
      return Finished{kUsage, std::string(error.what()) + "; see mapcap --help"};
    } catch (const Wrong& wrong) {
      return Finished{kUsage, wrong.sentence};
    }
  }

 private:
  using Maker = std::function<Command()>;

  CLI::App* add(CLI::App& parent, const std::string& name, const std::string& help, Maker maker) {
    CLI::App* command = parent.add_subcommand(name, help);
    command->fallthrough();
    makers_.emplace(command, std::move(maker));
    return command;
  }

  Command made(const CLI::App* chosen) {
    const bool needs_program = chosen->get_name() == "run" || chosen->get_name() == "clone";
    if (program_ && !needs_program && chosen->get_name() != "dev")
      throw Wrong{"`--` and a program make sense only after run, clone, dev and endpoint run"};
    if (needs_program && (!program_ || program_->empty()))
      throw Wrong{"what should be run? write mapcap " + chosen->get_name() + " ... -- PROGRAM ARGUMENTS"};
    return makers_.at(chosen)();
  }

  [[nodiscard]] std::string unknown_command(const std::string& word) const {
    std::vector<std::string> names;
    for (const CLI::App* command : app_.get_subcommands([](const CLI::App*) { return true; }))
      names.push_back(command->get_name());
    const std::string_view meant = nearest(word, {names.begin(), names.end()});
    return "there is no command \"" + word + "\"" +
           (meant.empty() ? "; see mapcap --help" : "; did you mean \"" + std::string(meant) + "\"?");
  }

  CLI::Option* name_argument(CLI::App* command) {
    return command->add_option("NAME", text_.name, "The region's name, for example alice/frames")->required();
  }

  void add_region_commands() {
    auto* create =
        add(app_, "create", "Create a region", [this] { return CreateCommand{region_spec(text_)}; });
    name_argument(create);
    create->add_option("--size", text_.size, "Bytes, for example 64M; rounded up to the pool's granule")
        ->required();
    create->add_option("--pool", text_.pool, "The pool to carve from [the first that you may use]");
    auto* cache = create->add_option("--cache", text_.cache, "Cache mode that must be met: wb, wt, wc or uc");
    create->add_option("--prefer-cache", text_.prefer_cache, "Cache mode to have if possible")
        ->excludes(cache);
    text_.lifetime = "persistent";
    create
        ->add_option("--lifetime", text_.lifetime,
                     "connection, ttl:1h or persistent. This program's connection ends with it, so here the "
                     "default is persistent")
        ->capture_default_str();
    text_.mode = "0600";
    create
        ->add_option("--mode", text_.mode, "Who else may open it: permission bits, rw for user, group, other")
        ->capture_default_str();
    create->add_option("--group", text_.group, "The region's group [your primary group]");
    auto* revocable = create->add_flag("--revocable", text_.revocable,
                                       "A revoke takes mappings away: touching them is SIGBUS");
    create->add_flag("--sealed", text_.sealed, "Holders never fault; a revoke zeroes the memory")
        ->excludes(revocable);

    auto* list = add(app_, "list", "List regions", [this] { return list_command(text_); });
    constexpr const char* kGlob = "Only names that match: '*' within a component, '**' across";
    list->add_option("GLOB", text_.glob, kGlob);
    list->add_option("--owner", text_.user, "Only this user's: a name or uid");
    list->add_option("--pool", text_.pool, "Only in this pool");
    list->add_option("--state", text_.state_word, "Only in this state: live, revoking, lost, ...");
    list->add_option("--sort", text_.sort, "By " + region_orders() + " [name]");
    list->add_flag("--watch", text_.watch, "Look again each second, until interrupted");

    add(app_, "holders", "Who holds grants of which regions", [this] {
      return HoldersCommand{text_.glob};
    })->add_option("GLOB", text_.glob, kGlob);

    name_argument(
        add(app_, "show", "Show one region and who holds it", [this] { return ShowCommand{text_.name}; }));

    auto* revoke =
        add(app_, "revoke", "Take a region away: nobody can read or write its contents any more", [this] {
          if (!text_.within.empty() && !text_.drain)
            throw Wrong{"--within says how long --drain waits: add --drain"};
          RevokeCommand command{text_.name, text_.drain, {}, text_.yes};
          if (!text_.within.empty()) command.within = judge("--within", parse_duration(text_.within));
          return command;
        });
    revoke
        ->add_option("NAME", text_.name,
                     "The region's name, or a glob such as 'alice/**': then all that match, after a question")
        ->required();
    revoke->add_flag("--yes", text_.yes, "With a glob: do not ask");
    revoke->add_flag("--drain", text_.drain, "Tell holders first, and wait until they have let go");
    revoke->add_option("--within", text_.within, "Wait so long at most, then revoke anyway [no limit]");

    auto* renew = add(app_, "renew", "Restart a region's ttl", [this] {
      return RenewCommand{text_.name, judge("--ttl", parse_duration(text_.ttl))};
    });
    name_argument(renew);
    renew->add_option("--ttl", text_.ttl, "From now, for example 1h")->required();

    auto* publish =
        add(app_, "publish", "From now on nobody can write a region, and its readers can see that",
            [this] { return publish_command(text_); });
    name_argument(publish);
    within_option(publish);
    publish->footer("While it waits nobody gets a writable grant; when it fails they may have one again.");
  }

  void within_option(CLI::App* command) {
    command->add_option("--within", text_.within,
                        "Wait so long for those who can still write it [only for what ends at this moment]");
  }

  void add_program_commands() {
    auto* run =
        add(app_, "run", "Run a program that inherits grants from descriptor 3 up (LISTEN_FDS)", [this] {
          RunCommand command;
          for (const std::string& name : text_.names) command.grants.push_back(wanted_grant(name));
          for (const std::string& path : text_.paths) command.paths.push_back(wanted_path(path));
          if (command.grants.empty() && command.paths.empty())
            throw Wrong{"which regions? give NAME[:rw], or --at PATH=NAME[:rw]"};
          command.program = *program_;
          return command;
        });
    run->add_option("NAME[:ro|:rw]", text_.names, "Regions to open; ro unless :rw follows");
    run->add_option("--at", text_.paths,
                    "PATH=NAME[:rw]: the program finds the region under PATH, if it is dynamically linked")
        ->allow_extra_args(false);
    run->footer(
        "Example: mapcap run alice/frames:rw -- ./encoder --fast\n"
        "         mapcap run --at /models/a.gguf=models/a -- ./infer -m /models/a.gguf");

    auto* clone =
        add(app_, "clone", "Run a program with an mmap-only clone of a file as descriptor 3", [this] {
          return CloneCommand{text_.file, text_.read_only ? Access::read_only : Access::read_write,
                              *program_};
        });
    clone->add_option("FILE", text_.file, "A regular file that you can open")->required();
    clone->add_flag("--ro", text_.read_only, "Only for reading");
    clone->footer("Example: mapcap clone /srv/model.bin --ro -- ./infer");

    add(app_, "dev", "Run a program, or a shell, with a private broker that needs no root and ends with it",
        [this] { return DevCommand{program_.value_or(std::vector<std::string>())}; })
        ->footer(
            "Example: mapcap dev -- python3 -m unittest\n"
            "Without a program and a terminal it prints the socket, and stays until SIGINT or SIGTERM.");
  }

  void add_copy_commands() {
    auto* fill = add(app_, "fill", "Copy a file into a region, and make it as durable as the region can be",
                     [this] { return fill_command(text_); });
    name_argument(fill);
    fill->add_option("FILE", text_.file, "What to copy; - is standard input")->required();
    fill->add_flag("--publish", text_.publish, "Publish it then: nobody can write it any more");
    within_option(fill);

    auto* dump = add(app_, "dump", "Copy a region into a file", [this] {
      DumpCommand command{text_.name, text_.file, {}};
      if (!text_.bytes.empty()) command.bytes = bytes_of("--bytes", text_.bytes);
      return command;
    });
    name_argument(dump);
    dump->add_option("FILE", text_.file, "Where to; - is standard output")->required();
    dump->add_option("--bytes", text_.bytes, "Only so many, from the start [all]");
  }

  void add_administration() {
    add(app_, "pools", "List the pools and what they can do", [] { return PoolsCommand{}; });

    auto* quota = add(app_, "quota", "List usage and limits; administrators set them",
                      [this] { return QuotaListCommand{quota_filter(text_)}; });
    quota->require_subcommand(0, 1);
    auto* slots = add(*quota, "list", "List usage and limits",
                      [this] { return QuotaListCommand{quota_filter(text_)}; });
    for (CLI::App* command : {quota, slots}) {
      command->add_option("--user", text_.user, "Only this user's: a name or uid");
      command->add_option("--over", text_.over, "Only where more than this part of a limit is used: 80%");
    }
    auto* set = add(*quota, "set", "Change the limits that are named, until cleared", [this] {
      return QuotaSetCommand{quota_slot(text_), limits(text_)};
    });
    auto* clear = add(*quota, "clear", "Return to the policy's limits",
                      [this] { return QuotaClearCommand{quota_slot(text_)}; });
    for (CLI::App* command : {set, clear}) {
      command->add_option("--user", text_.user, "A user's name or uid");
      command->add_option("--group", text_.group, "A group's name or gid");
      command->add_flag("--any", text_.any, "Every user that has no quota of its own");
      command->add_option("--pool", text_.pool, "In this pool [over all pools]");
    }
    set->add_option("--bytes", text_.bytes, "For example 1G, or unlimited");
    set->add_option("--regions", text_.regions);
    set->add_option("--grants", text_.grants);
    set->add_option("--connections", text_.connections);

    add(app_, "metrics", "Use and limits for Prometheus (text format)", [] { return MetricsCommand{}; });
    add(app_, "top", "Who uses how much now, again each second", [] { return TopCommand{}; });
    add_service();

    add_policy_commands();
    add(app_, "reload", "Have the broker read its policy file again: all problems, or what has changed",
        [] { return ReloadCommand{}; });

    auto* doctor = app_.add_subcommand("doctor", "What this machine can enforce, and why not");
    doctor->fallthrough();
    auto* attack_option =
        doctor
            ->add_option("--attack", text_.attack,
                         "Try every operation on a fresh grant of this region (its contents are overwritten "
                         "and put back when --rights is rw)")
            ->expected(0, 1);
    doctor
        ->add_flag("--memfd", text_.memfd, "With --attack: on a plain sealed memfd instead, which has holes")
        ->needs(attack_option);
    text_.rights = "ro";
    doctor->add_option("--rights", text_.rights, "With --attack: ro or rw")->capture_default_str();
    doctor
        ->add_option("--except", text_.except,
                     "With --attack: an operation that is not tried, such as advice/cachestat")
        ->needs(attack_option);
    doctor->add_flag("--all", text_.all, "With --attack: print every operation, not only the findings");
    doctor->add_option("--state", text_.state, "The daemon's state directory")->capture_default_str();
    makers_.emplace(doctor, [this, attack_option]() -> Command {
      if (attack_option->count() > 0) return attack(text_);
      return DoctorCommand{text_.state};
    });

    auto* completion =
        add(app_, "completion", "Print a script that completes mapcap's commands in a shell", [this] {
          return CompletionCommand{text_.shell, tree_of(app_)};
        });
    completion->add_option("SHELL", text_.shell, "bash, zsh or fish")
        ->required()
        ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  }

  void add_service() {
    add(app_, "status", "How the broker is: keeper, ledger, and memory that has no second holder",
        [] { return StatusCommand{}; });
    auto* shutdown = add(app_, "shutdown", "End the broker; regions stay, unless they are to end", [this] {
      if (text_.yes && !text_.end_regions)
        throw Wrong{"--yes answers the question that --end-regions asks: add --end-regions"};
      return ShutdownCommand{text_.end_regions, text_.yes};
    });
    shutdown->add_flag("--end-regions", text_.end_regions,
                       "End all regions of volatile memory, after a question, and the keeper");
    shutdown->add_flag("--yes", text_.yes, "With --end-regions: do not ask");
  }

  void add_policy_commands() {
    auto* policy = app_.add_subcommand("policy", "Check, compare and explain policies");
    policy->fallthrough();
    policy->require_subcommand(1);
    auto* check = add(*policy, "check", "Check a policy file; needs no broker",
                      [this] { return PolicyCheckCommand{text_.file}; });
    check->add_option("FILE", text_.file)->required();
    add(*policy, "show", "Print the policy in force; for administrators", [] { return PolicyShowCommand{}; });
    auto* diff = add(*policy, "diff", "Who gains and who loses what, of this machine's regions", [this] {
      return PolicyDiffCommand{text_.before, text_.after};
    });
    diff->add_option("OLD", text_.before)->required();
    diff->add_option("NEW", text_.after)->required();
    add(*policy, "default", "Print the policy that mapcapd uses when it is given none",
        [] { return PolicyDefaultCommand{}; });
    add_explain(*policy);
  }

  void add_explain(CLI::App& policy) {
    auto* explain =
        policy.add_subcommand("explain", "What would be answered to whom, which rule decides, and why");
    explain->fallthrough();
    explain->add_option("--as", text_.user, "The user who would ask: a name or a uid")->required();
    explain->add_option("VERB", text_.verb, "create, open, list, show, renew, revoke, pools, quota-set, ...")
        ->required();
    explain->add_option("NAME", text_.name, "The region's name");
    auto* broker = explain->add_flag(
        "--broker", text_.broker, "Ask the broker: by the policy, the regions and the quotas that there are");
    explain->add_option("--policy", text_.policy, "The policy file [" MAPCAP_POLICY ", else the default]")
        ->excludes(broker);
    explain->add_option("--rights", text_.rights,
                        "Of an open or a clone, or of a create that opens: ro or rw");
    explain->add_option("--size", text_.size, "[the smallest region]");
    explain->add_option("--pool", text_.pool, "[the first that the user may use]");
    auto* cache = explain->add_option("--cache", text_.cache);
    explain->add_option("--prefer-cache", text_.prefer_cache)->excludes(cache);
    explain->add_option("--lifetime", text_.lifetime, "[persistent]");
    explain->add_option("--mode", text_.mode, "[0600]");
    explain->add_option("--group", text_.group, "[the user's primary group]");
    auto* revocable = explain->add_flag("--revocable", text_.revocable);
    explain->add_flag("--sealed", text_.sealed)->excludes(revocable);
    explain->add_option("--ttl", text_.ttl, "Of a renew");
    explain->add_option("--owner", text_.owner, "Of a region that exists [the user]; --broker knows it")
        ->excludes(broker);
    explain->footer(
        "Of a create the options are what it asks for, of every other verb what the region is.\n"
        "Example: mapcap policy explain --as alice create alice/a --size 1G --lifetime ttl:24h");
    makers_.emplace(explain, [this, explain]() -> Command {
      PolicyExplainCommand command;
      command.user = text_.user;
      command.file = text_.policy;
      command.ask_broker = text_.broker;
      command.question.verb = text_.verb;
      command.question.region = region_spec(text_);
      const policy::Verb verb = judge("VERB", policy::parse_verb(text_.verb));
      if (!policy::nameless(verb) && text_.name.empty())
        throw Wrong{"which region? write mapcap policy explain --as " + text_.user + " " + text_.verb +
                    " NAME"};
      if (explain->count("--rights") > 0)
        command.question.rights = static_cast<Access>(judge("--rights", parse_access(text_.rights)));
      if (!text_.ttl.empty()) command.question.ttl = judge("--ttl", parse_duration(text_.ttl));
      if (!text_.owner.empty()) command.owner = id_of("--owner", uid_named(text_.owner), text_.owner);
      for (const CLI::Option* option : explain->get_options()) {
        if (option->count() > 0) command.given.insert(option->get_name());
      }
      return command;
    });
  }

  CLI::App app_;
  Common common_;
  Text text_;
  std::optional<std::vector<std::string>> program_;
  EndpointWords endpoint_{program_};
  std::map<const CLI::App*, Maker> makers_;
};

}  // namespace

std::variant<Invocation, Finished> parse(int argc, const char* const* argv) {
  return Parser().parse(split(argc, argv));
}

}  // namespace mapcap::cli
