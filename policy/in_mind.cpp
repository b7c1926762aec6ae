#include "policy/in_mind.h"

#include <algorithm>
#include <utility>

#include "base/glob.h"
#include "schema/region_name.h"

namespace mapcap::policy {

Subject somebody(std::vector<std::uint32_t> groups) {
  constexpr std::uint32_t nobodys = 0xFFFFFFFD;
  return Subject::for_explanation(nobodys, nobodys, std::move(groups), "SOMEBODY");
}

std::string name_like(std::string glob, const Subject& subject) {
  const auto put = [&glob](const std::string& what, const std::string& with) {
    for (std::size_t at = 0; (at = glob.find(what, at)) != std::string::npos; at += with.size())
      glob.replace(at, what.size(), with);
  };
  put("{user}", subject.user());
  put("{uid}", std::to_string(subject.uid()));
  std::string name = glob;
  name.erase(std::unique(name.begin(), name.end(), [](char a, char b) { return a == '*' && b == '*'; }),
             name.end());
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == '*' || c == '?'; }, 'x');
  return schema::RegionName::parse(name) && glob_match(glob, name) ? name : "";
}

void Steps::add(const Rule& rule) {
  if (rule.max_ttl) ttls.insert(*rule.max_ttl);
  if (rule.max_size) sizes.insert(std::max<std::uint64_t>(rule.max_size->value, 1));
}

Everybodys::Everybodys(const Policy& before, const Policy& after) {
  const Subject anybody = somebody({});
  std::set<std::string> found;
  for (const Policy* policy : {&before, &after}) {
    for (const Rule* rule : policy->rules_for(anybody, RuleIndex::Of::everybody)) {
      steps.add(*rule);
      if (rule->names.empty()) found.insert(kAnyName);
      for (const std::string& glob : rule->names) {
        if (glob.find('{') != std::string::npos) {
          globs_with_the_asker.push_back(glob);
        } else {
          found.insert(name_like(glob, anybody));
        }
      }
    }
  }
  found.erase("");
  names.assign(found.begin(), found.end());
}

}  // namespace mapcap::policy
