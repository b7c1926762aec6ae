#include "client/cli/table.h"

#include <algorithm>
#include <iostream>

#include "client/cli/terminal.h"

namespace mapcap::cli {

void Table::print(std::ostream& out) const {
  std::vector<std::size_t> widths;
  for (const Column& column : columns_) widths.push_back(column.title.size());
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  const std::size_t room = &out == &std::cout ? terminal_width() : 0;
  std::size_t whole = 0;
  for (const std::size_t width : widths) whole += width + 2;
  if (room > 0 && whole > room + 2) {
    print_records(out, room);
    return;
  }
  const auto print_row = [&](auto cell) {
    std::string line;
    for (std::size_t i = 0; i < widths.size(); ++i) {
      const std::string& text = cell(i);
      const std::string padding(widths[i] - text.size(), ' ');
      if (i > 0) line += "  ";
      line += columns_[i].align == Align::right ? padding + text : text + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out << line << '\n';
  };
  print_row([&](std::size_t i) -> const std::string& { return columns_[i].title; });
  for (const auto& row : rows_) print_row([&](std::size_t i) -> const std::string& { return row[i]; });
}

void Table::print_records(std::ostream& out, std::size_t room) const {
  std::size_t widest = 0;
  for (const Column& column : columns_) widest = std::max(widest, column.title.size());
  bool first = true;
  for (const auto& row : rows_) {
    if (!first) out << '\n';
    first = false;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string& title = columns_[i].title;
      out << fitted(title + std::string(widest + 2 - title.size(), ' ') + row[i], room, widest + 2);
    }
  }
}

}  // namespace mapcap::cli
