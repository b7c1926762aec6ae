#include "tests/support/crash_states.h"

#include <algorithm>

#include "broker/ledger/table/slot.h"

namespace mapcap::test {

namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kPage = 4096;

bool is_barrier(const Event& event) {
  return event.kind == Event::Kind::fence || event.kind == Event::Kind::sync_done ||
         event.kind == Event::Kind::sync_failed;
}

}  // namespace

CrashStates::CrashStates(const RecordingMedium& recording, Bounds bounds)
    : recording_(recording),
      bounds_(bounds),
      pages_(recording.granularity() == Granularity::page),
      durable_(recording.initially_durable()) {
  for (const Event& event : recording.initially_dirty()) apply(event, 0);
}

void CrashStates::power_cuts(const Visit& visit) {
  const std::vector<Event>& events = recording_.events();
  for (std::size_t number = 0; number < events.size(); ++number) {
    if (is_barrier(events[number]) && !visit_states(number, visit)) return;
    // Numbered from 1, so that what was dirty at the beginning comes before all of them.
    apply(events[number], number + 1);
  }
  visit_states(events.size(), visit);
}

void CrashStates::apply(const Event& event, std::size_t number) {
  switch (event.kind) {
    case Event::Kind::store: {
      Line& line = lines_[event.offset / kLine];
      line.pending.push_back({number, event.offset, event.word});
      line.fresh = true;
      clean_before_.erase(event.offset / kPage);
      break;
    }
    case Event::Kind::touch:
      if (event.range.size == 0) clean_before_.clear();
      clean_before_.erase(event.range.offset / kPage);
      break;
    case Event::Kind::flush:
      for (std::size_t at = event.range.offset / kLine; at * kLine < event.range.offset + event.range.size;
           ++at) {
        if (auto line = lines_.find(at); line != lines_.end()) line->second.flushed_to = number;
      }
      break;
    case Event::Kind::fence:
      for (auto& [at, line] : lines_) settle_line(line, line.flushed_to);
      break;
    case Event::Kind::sync_begin:
      sync_began_ = number;
      break;
    case Event::Kind::sync_done:
      settle_range(event.range, sync_began_);
      break;
    case Event::Kind::sync_failed:
      for (std::size_t page = event.range.offset / kPage;
           page * kPage < event.range.offset + event.range.size; ++page) {
        clean_before_[page] = number;
      }
      break;
    case Event::Kind::grow:
      durable_.resize(event.range.size);
      break;
  }
  if (is_barrier(event)) {
    std::erase_if(lines_, [](const auto& entry) { return entry.second.pending.empty(); });
    for (auto& [at, line] : lines_) line.fresh = false;
  }
}

void CrashStates::settle_line(Line& line, std::size_t before) {
  auto first = line.pending.begin();
  for (; first != line.pending.end() && first->number < before; ++first) {
    broker::ledger::save64(durable_, first->offset, first->word);
  }
  line.pending.erase(line.pending.begin(), first);
}

void CrashStates::settle_range(broker::ledger::Range range, std::size_t before) {
  const std::size_t from = range.offset / kPage * kPage;
  const std::size_t to = (range.offset + range.size + kPage - 1) / kPage * kPage;
  for (auto at = lines_.lower_bound(from / kLine); at != lines_.end() && at->first * kLine < to; ++at) {
    // A page that the kernel takes for clean is not written, whatever it holds.
    if (!clean_before_.contains(at->first * kLine / kPage)) settle_line(at->second, before);
  }
}

bool CrashStates::visit_states(std::size_t position, const Visit& visit) {
  struct Choice {
    const Line* line;
    std::vector<std::size_t> prefixes;
    std::size_t chosen = 0;
  };
  std::vector<Choice> fresh;
  std::vector<Choice> old;
  std::size_t states = 1;
  for (const auto& [at, line] : lines_) {
    const std::size_t n = line.pending.size();
    std::set<std::size_t> prefixes{0, n};
    if (n > 1) prefixes.insert({1, n - 1});
    Choice choice{&line, {prefixes.begin(), prefixes.end()}};
    if (line.fresh) {
      states = std::min(states * choice.prefixes.size(), bounds_.exhaustive + 1);
      fresh.push_back(std::move(choice));
    } else {
      old.push_back(std::move(choice));
    }
  }
  std::vector<std::byte> bytes;
  auto build = [&] {
    bytes = durable_;
    for (Choice& choice : old) choice.chosen = random_() % choice.prefixes.size();
    for (const auto* choices : {&old, &fresh}) {
      for (const Choice& choice : *choices) {
        for (std::size_t i = 0; i < choice.prefixes[choice.chosen]; ++i) {
          const Store& store = choice.line->pending[i];
          broker::ledger::save64(bytes, store.offset, store.word);
        }
      }
    }
    return visit(position, bytes);
  };
  if (states <= bounds_.exhaustive) {
    for (;;) {
      if (!build()) return false;
      auto digit = fresh.begin();
      while (digit != fresh.end() && ++digit->chosen == digit->prefixes.size()) (digit++)->chosen = 0;
      if (digit == fresh.end()) return true;
    }
  }
  // The corners (nothing, all, one line alone, all but one), then at random.
  auto set_all = [&](bool arrived) {
    for (Choice& choice : fresh) choice.chosen = arrived ? choice.prefixes.size() - 1 : 0;
  };
  for (bool arrived : {false, true}) {
    set_all(arrived);
    if (!build()) return false;
    for (Choice& choice : fresh) {
      choice.chosen = arrived ? 0 : choice.prefixes.size() - 1;
      if (!build()) return false;
      choice.chosen = arrived ? choice.prefixes.size() - 1 : 0;
    }
  }
  for (std::size_t i = 0; i < bounds_.sampled; ++i) {
    for (Choice& choice : fresh) choice.chosen = random_() % choice.prefixes.size();
    if (!build()) return false;
  }
  return true;
}

void CrashStates::kills(const Visit& visit) const {
  const std::vector<Event>& events = recording_.events();
  std::vector<std::byte> view = recording_.initially_durable();
  for (const Event& event : recording_.initially_dirty())
    broker::ledger::save64(view, event.offset, event.word);
  if (!visit(0, view)) return;
  for (std::size_t number = 0; number < events.size(); ++number) {
    if (events[number].kind == Event::Kind::grow) view.resize(events[number].range.size);
    if (events[number].kind != Event::Kind::store) continue;
    broker::ledger::save64(view, events[number].offset, events[number].word);
    if (!visit(number + 1, view)) return;
  }
}

CrashStates::Killed CrashStates::killed_at(std::size_t position) const {
  CrashStates replay(recording_, bounds_);
  for (std::size_t number = 0; number < position; ++number)
    replay.apply(recording_.events()[number], number + 1);
  Killed killed{replay.durable_, replay.durable_};
  for (const auto& [at, line] : replay.lines_) {
    for (const Store& store : line.pending) broker::ledger::save64(killed.view, store.offset, store.word);
  }
  return killed;
}

}  // namespace mapcap::test
