// What both sides of a connection agree on: version, features, and how long a text may be.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mapcap::schema {

inline constexpr std::uint32_t kProtocolVersion = 1;

// Feature bits of hello and welcome. Each side ignores bits that it does not know.
inline constexpr std::uint64_t kFeatureNotices = 1;  ///< Wants Notice packets (expiring, revoking, revoked).
/// Of clients up to 0.1.0, which sent the file to clone on their connection. Nothing may ride there any more.
inline constexpr std::uint64_t kFeatureSendsFds = 2;
/// Files to clone are sent to a port (ClonePort).
inline constexpr std::uint64_t kFeatureClonePorts = 4;
/// The broker knows Goodbye.
inline constexpr std::uint64_t kFeatureGoodbye = 8;
/// The broker knows Publish.
inline constexpr std::uint64_t kFeaturePublish = 16;

// Limits of text on the wire, in bytes; more is malformed. A name is decoded up to kMaxNameText, so that
// RegionName can say what is wrong with it.
inline constexpr std::size_t kMaxNameText = 256;  ///< Names, globs and cursors.
inline constexpr std::size_t kMaxPoolName = 64;
inline constexpr std::size_t kMaxClientText = 64;  ///< Hello::client and Welcome::broker.
inline constexpr std::size_t kResumeBytes = 16;
inline constexpr std::size_t kMaxSentence = 2048;   ///< Longer sentences are cut by the encoder.
inline constexpr std::size_t kMaxReason = 256;      ///< PoolInfo::confinement_reason; cut by the encoder.
inline constexpr std::size_t kMaxPolicyLine = 512;  ///< Each text about a policy; cut by the encoder.
inline constexpr std::size_t kMaxVerbText = 32;
/// Of a policy's text in one PolicyPiece.
inline constexpr std::size_t kPolicyPiece = 48U << 10U;
inline constexpr std::size_t kMaxWord = 64;    ///< Ids of endpoints, verbs, and keys and values of labels.
inline constexpr std::size_t kMaxPath = 256;   ///< EndpointInfo::directory, Holder::cgroup.
inline constexpr std::size_t kMaxUnit = 128;   ///< Holder::unit and container; cut by the broker.
inline constexpr std::size_t kMaxOpened = 64;  ///< EndpointEnded::opened_regions.

/// How many unguarded regions a status names.
inline constexpr std::size_t kMostUnguarded = 100;

}  // namespace mapcap::schema
