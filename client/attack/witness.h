// The trusted observer of a region under attack: it maps the region before the attack begins, and tells
// afterwards what an attempt changed, whatever the attempt's calls answered.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "client/attack/attack.h"

namespace mapcap::attack {

class Witness {
 public:
  // Maps the target; fills its observed windows with a pattern that is nowhere zero when the rights allow it.
  explicit Witness(const Target& target);
  ~Witness();
  Witness(const Witness&) = delete;
  Witness& operator=(const Witness&) = delete;

  // False when the region could not be mapped; then contents are not watched, and every mapping entry will
  // say so.
  [[nodiscard]] bool mapped() const { return head_.address != nullptr; }
  [[nodiscard]] std::span<const std::byte> contents() const { return head_.expected; }

  struct Change {
    bool contents = false;
    std::string other;  // size, mode, owner, links, blocks, seals; empty when unchanged

    [[nodiscard]] bool any() const { return contents || !other.empty(); }
  };
  [[nodiscard]] Change observe();

  // Undoes a change as well as it can, and from then on takes what is there as the truth. Also resets what
  // attempts share with the caller's descriptor: its offset, status flags, owner, leases and locks.
  void restore(const Change& change);

 private:
  // A stretch of the region that is compared after each attempt. Two of them, for a region may be terabytes.
  struct Window {
    std::byte* address = nullptr;
    bool within_whole = false;  // no mapping of its own
    std::vector<std::byte> original;
    std::vector<std::byte> expected;
    std::vector<std::byte> now;
  };

  void watch(Window& window, std::uint64_t offset, std::size_t length);
  // nullptr with errno when refused.
  [[nodiscard]] std::byte* map(std::uint64_t offset, std::size_t length) const;
  void unmap(const Window& window) const;
  [[nodiscard]] std::vector<Window*> mapped_windows();
  // Fills `now` of each; false when one of them faults.
  [[nodiscard]] bool copy_out(const std::vector<Window*>& windows);
  [[nodiscard]] bool copy_out(Window& window);
  void write_back(const Window& window, std::span<const std::byte> bytes);
  void remember_attributes();
  void differs_in_seals(std::string& text) const;

  const Target target_;
  Window head_;
  Window tail_;
  std::byte* whole_ = nullptr;     // the whole region, where no part can be mapped
  std::byte* transfer_ = nullptr;  // shared with the child that does the touching
  std::size_t transfer_length_ = 0;
  struct stat attributes_ {};
  int seals_ = -1;
  int status_flags_ = 0;
};

}  // namespace mapcap::attack
