// A table for people: columns as wide as their widest cell, two blanks between.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

namespace mapcap::cli {

enum class Align : std::uint8_t { left, right };

class Table {
 public:
  struct Column {
    std::string title;
    Align align = Align::left;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  /// As many cells as columns.
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  /// On a terminal (std::cout) that is narrower than the table: each row as lines "TITLE  cell".
  void print(std::ostream& out) const;

 private:
  /// One cell a line, where the terminal is too narrow for the rows.
  void print_records(std::ostream& out, std::size_t room) const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace mapcap::cli
