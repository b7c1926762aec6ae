// Where a peer runs, as a condition of what is denied to it.
//
// A cgroup is no authority: a process below a delegated one moves within it, whoever may write cgroups moves others, and a
// connection can be handed on. So a place narrows a deny and never allows; it means everything below it, where alone its
// processes can go by themselves; and who is where cannot be told counts as there.
#pragma once

#include <string>
#include <string_view>

#include "policy/model.h"
#include "policy/subject.h"

namespace mapcap::policy {

/// What is wrong with it as a rule's unit ("postgresql.service", "getty@*.service"); empty: nothing.
std::string why_no_unit(std::string_view glob);
/// The same of its cgroup ("/kubepods.slice/**").
std::string why_no_cgroup(std::string_view glob);

/// Whether its cgroup was told at all; else it counts as in every place.
bool place_known(const Subject& subject);
/// Whether the rule means where it is: always of a rule without a place.
bool in_place(const SubjectMatch& match, const Subject& subject);
/// One that the match, which is placed, means.
std::string some_cgroup(const SubjectMatch& match);
/// "unit a.service, cgroup /x/**"
std::string in_words(const SubjectMatch& match);

}  // namespace mapcap::policy
