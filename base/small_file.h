// The small files by which the kernel tells about itself (procfs, sysfs, /boot): read whole, and no error is made of
// one that is not there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace mapcap {

/// The whole file; empty when it cannot be read.
std::string contents_of(const std::filesystem::path& file);
/// Without its line's end; empty when it cannot be read.
std::string first_line_of(const std::filesystem::path& file);
/// The number at its beginning: decimal, octal after 0, hexadecimal after 0x. Nothing when there is none ("max").
std::optional<std::uint64_t> number_in(const std::filesystem::path& file);

}  // namespace mapcap
