// malloc() on top of a region: memkind (jemalloc) allocates from the mapping of an inherited grant.
//
//     mapcap create alice/heap --size 64M
//     mapcap run alice/heap:rw -- allocator
#include <mapcap/mapcap.h>
#include <memkind.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <set>
#include <vector>

namespace {

// A kind cannot outlive its memory: keep the two together.
class Heap {
 public:
  explicit Heap(const mapcap::Grant& grant) : mapping_(grant) {
    const auto memory = mapping_.writable();
    if (memkind_create_fixed(memory.data(), memory.size(), &kind_) != MEMKIND_SUCCESS)
      throw mapcap::Error(mapcap::ErrorCode::invalid, "memkind needs a larger region: create one of 64M");
  }
  ~Heap() { memkind_destroy_kind(kind_); }
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

  void* allocate(std::size_t bytes) { return memkind_malloc(kind_, bytes); }
  void release(void* block) { memkind_free(kind_, block); }
  [[nodiscard]] bool contains(const void* block) const {
    const auto* byte = static_cast<const std::byte*>(block);
    const auto memory = mapping_.bytes();
    return byte >= memory.data() && byte < memory.data() + memory.size();
  }

 private:
  mapcap::Mapping mapping_;
  memkind_t kind_ = nullptr;
};

}  // namespace

int main() {
  try {
    const auto all = mapcap::inherited();
    if (all.empty()) {
      std::fprintf(stderr, "allocator: nothing was passed; start me by mapcap run NAME:rw -- allocator\n");
      return 2;
    }
    Heap heap(mapcap::inherited(all.front().name));
    constexpr std::size_t kBlocks = 10000;
    std::vector<void*> blocks;
    for (std::size_t i = 0; i < kBlocks; ++i) {
      const std::size_t bytes = 16 + i % 2000;
      void* block = heap.allocate(bytes);
      if (block == nullptr || !heap.contains(block)) {
        std::fprintf(stderr, "allocator: block %zu is not in the region\n", i);
        return 1;
      }
      std::memset(block, static_cast<int>(i), bytes);
      blocks.push_back(block);
    }
    const bool distinct = std::set<void*>(blocks.begin(), blocks.end()).size() == kBlocks;
    for (void* block : blocks) heap.release(block);
    std::printf("allocated and freed %zu blocks inside %s%s\n", kBlocks, all.front().name.c_str(),
                distinct ? "" : ", but some overlap");
    return distinct ? 0 : 1;
  } catch (const mapcap::Error& error) {
    std::fprintf(stderr, "allocator: %s\n", error.what());
    return 1;
  }
}
