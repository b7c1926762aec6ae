// Mappings, on plain memfds and ordinary files: what they are made of does not matter here.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "mapcap/mapcap.h"
#include "tests/unit/client_grant_test_support.h"

namespace mapcap {
namespace {

// Promise 10: whoever stores is told by what the store became durable, or that it did not.
TEST(MappingPersist, EachGranularityIsToldAsItIs) {
  for (Granularity granularity :
       {Granularity::none, Granularity::page, Granularity::cache_line, Granularity::byte}) {
    const Grant grant = grant_with({granularity, PersistenceDomain::memory_controller, false});
    Mapping mapping(grant);
    mapping.writable()[100] = std::byte{1};
    EXPECT_EQ(mapping.persist(100, 1), granularity);
    EXPECT_EQ(mapping.flush(0, kSize), granularity);
    mapping.drain();
    EXPECT_EQ(mapping.persist(), granularity);
  }
}

TEST(MappingPersist, CopiesAndFillsLandWhateverTheMeans) {
  const CacheStatus discipline{CacheMode::write_through, true, CacheMode::write_through,
                               CacheMechanism::store_discipline, false};
  const CacheStatus combining{CacheMode::write_combining, true, CacheMode::write_combining,
                              CacheMechanism::page_attribute, true};
  std::array<std::byte, 5000> source{};
  for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 7);
  for (const CacheStatus& cache : {CacheStatus{}, discipline, combining}) {
    for (Granularity granularity :
         {Granularity::none, Granularity::page, Granularity::cache_line, Granularity::byte}) {
      const Grant grant = grant_with({granularity, PersistenceDomain::memory_controller, false}, cache);
      Mapping mapping(grant);
      mapping.memcpy_persist(33, source);  // neither end is aligned to anything
      mapping.memset_persist(33 + source.size(), std::byte{0xee}, 10);
      const auto bytes = mapping.bytes();
      EXPECT_EQ(bytes[32], std::byte{0});
      EXPECT_TRUE(std::equal(source.begin(), source.end(), bytes.begin() + 33));
      EXPECT_EQ(bytes[33 + source.size() + 9], std::byte{0xee});
      EXPECT_EQ(bytes[33 + source.size() + 10], std::byte{0});
    }
  }
}

TEST(MappingPersist, ARangeOutsideTheMappingIsInvalidAtBothEdges) {
  const Grant grant = grant_with({Granularity::page, PersistenceDomain::block_device, false});
  Mapping mapping(grant);
  EXPECT_NO_THROW(mapping.persist(kSize, 0));
  EXPECT_NO_THROW(mapping.persist(0, kSize));
  EXPECT_EQ(code_of([&] { mapping.persist(kSize, 1); }), ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { mapping.persist(1, kSize); }), ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { mapping.persist(SIZE_MAX, 2); }), ErrorCode::invalid);
}

TEST(MappingPersist, AFileThatMustBeSyncedIsSynced) {
  char path[] = "/tmp/mapcap-mapping-XXXXXX";
  Fd file(::mkostemp(path, O_CLOEXEC));
  ASSERT_EQ(::unlink(path), 0);
  ASSERT_EQ(::ftruncate(file.get(), kSize), 0);
  RegionInfo info;
  info.size = kSize;
  info.durability = {Granularity::page, PersistenceDomain::block_device, false};
  const Grant grant(std::move(file), Access::read_write, std::move(info));
  Mapping mapping(grant);
  const std::array<std::byte, 3> stored{std::byte{1}, std::byte{2}, std::byte{3}};
  EXPECT_EQ(mapping.memcpy_persist(4095, stored), Granularity::page);
  std::array<std::byte, 3> read{};
  EXPECT_EQ(::pread(grant.fd(), read.data(), read.size(), 4095), 3);
  EXPECT_EQ(read, stored);
}

// Promise 2: the library does not even try.
TEST(MappingRights, AReadOnlyGrantCannotBeStoredTo) {
  const Fd fd = memfd();
  const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
  const Grant grant = Grant::adopt(Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)));
  EXPECT_EQ(grant.rights(), Access::read_only);
  Mapping mapping(grant);
  EXPECT_EQ(code_of([&] { static_cast<void>(mapping.writable()); }), ErrorCode::denied);
  EXPECT_EQ(code_of([&] { mapping.memset_persist(0, std::byte{1}, 1); }), ErrorCode::denied);
  EXPECT_EQ(code_of([&] { Mapping(grant, Access::read_write); }), ErrorCode::denied);
}

TEST(MappingAccess, ObjectsAreCheckedForBoundsAndAlignment) {
  const Grant grant = grant_with({});
  Mapping mapping(grant);
  *mapping.writable_at<std::uint64_t>(kSize - 8) = 5;
  EXPECT_EQ(*mapping.at<std::uint64_t>(kSize - 8), 5U);
  EXPECT_EQ(code_of([&] { static_cast<void>(mapping.at<std::uint64_t>(kSize - 7)); }), ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { static_cast<void>(mapping.at<std::uint64_t>(4)); }), ErrorCode::invalid);
}

TEST(MappingAccess, AMoveLeavesTheMemoryMappedOnceAndADestructorUnmapsIt) {
  const Grant grant = grant_with({Granularity::cache_line, PersistenceDomain::memory_controller, false});
  const std::byte* address = nullptr;
  {
    Mapping first(grant);
    address = first.bytes().data();
    Mapping second(std::move(first));
    EXPECT_EQ(second.bytes().data(), address);
    Mapping third(grant);
    third = std::move(second);
    EXPECT_EQ(third.bytes().data(), address);
    EXPECT_EQ(third.persist(), Granularity::cache_line);
  }
  unsigned char resident = 0;
  EXPECT_EQ(::mincore(const_cast<std::byte*>(address), 4096, &resident), -1);
  EXPECT_EQ(errno, ENOMEM);
}
}  // namespace
}  // namespace mapcap
