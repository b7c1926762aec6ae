# What travels between a client and the broker: one flat, single-segment message a packet, over a connected
# SOCK_SEQPACKET Unix socket; descriptors ride beside it (SCM_RIGHTS).
#
# Data only: an `interface` here would bring Cap'n Proto RPC with it, and passing descriptors through that is not
# safe. Numbers (fields, enumerants, union members) are for ever: append only. Where a value may be absent there
# is a union with a Void member, so that absence is said and never guessed from a zero.
#
# Text is UTF-8 without NUL and without control characters. Limits in bytes: names, globs, cursors and paths 256,
# pools 64, client 64, ids of endpoints, verbs, keys and values of labels 64, an error's sentence 2048. Durations are nanoseconds, 0 to 100 years, sizes are bytes, ids are the kernel's.
@0x821966028b109d32;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("mapcap::wire");

# ---- words ----

enum Access { readOnly @0; readWrite @1; }
enum CacheMode { writeBack @0; writeThrough @1; writeCombining @2; uncached @3; }
enum CacheMechanism { pageAttribute @0; storeDiscipline @1; platform @2; }
enum Granularity { none @0; page @1; cacheLine @2; byte @3; }
enum PersistenceDomain { volatileMemory @0; blockDevice @1; memoryController @2; cpuCache @3; }
enum Confinement { sealed @0; clone @1; native @2; lsm @3; }
enum SealKind { sealed @0; revocable @1; irrevocable @2; }
enum RegionState { live @0; revoking @1; draining @2; scrubbing @3; quarantined @4; lost @5; }
enum SubjectKind { any @0; user @1; group @2; }
enum OnEnd { revoke @0; keep @1; }
enum EndpointState { active @0; ending @1; ended @2; }
enum NoticeKind { expiring @0; revoking @1; revoked @2; progress @3; }

struct Lifetime {
  union {
    connection @0 :Void;
    ttlNs @1 :Int64;
    persistent @2 :Void;
  }
}

struct CacheStatus {
  requested @0 :CacheMode;
  required @1 :Bool;
  effective @2 :CacheMode;
  mechanism @3 :CacheMechanism;
  verified @4 :Bool;
}

struct Durability {
  granularity @0 :Granularity;
  domain @1 :PersistenceDomain;
  mapSync @2 :Bool;
}

struct RegionInfo {
  id @0 :UInt64;
  name @1 :Text;
  pool @2 :Text;
  owner @3 :UInt32;
  group @4 :UInt32;
  mode @5 :UInt16;             # permission bits, 0 to 0666
  size @6 :UInt64;
  cache @7 :CacheStatus;
  durability @8 :Durability;
  confinement @9 :Confinement;
  seal @10 :SealKind;
  lifetime @11 :Lifetime;
  createdUnixNs @12 :Int64;
  remaining :union {
    unlimited @13 :Void;       # does not expire by time
    ns @14 :Int64;
  }
  state @15 :RegionState;
  grants @16 :UInt32;
  held @17 :UInt64;
  badBlocks @18 :UInt32;
  draining @19 :Bool;          # of one that is revoking: its holders may finish first
  published :union {
    no @20 :Void;
    unixNs @21 :Int64;         # since when nobody can write it
  }
  endpoint @22 :Text;          # whose number owner is; empty: a uid
}

# ---- requests ----

struct Request {
  id @0 :UInt64;               # comes back in the reply
  body :union {
    hello @1 :Hello;           # first packet of a connection, and only there
    create @2 :Create;
    open @3 :Open;
    list @4 :ListRegions;
    show @5 :Show;
    renew @6 :Renew;
    revoke @7 :Revoke;
    pools @8 :Void;
    quota @9 :Quota;
    quotaSet @10 :QuotaSet;
    quotaClear @11 :QuotaClear;
    cloneFd @12 :CloneFd;
    clonePort @13 :Void;       # a socket of its own for the file that is to be cloned
    goodbye @14 :Void;         # the connection's regions of lifetime connection end now
    shutdown @15 :Shutdown;
    status @16 :Void;
    reload @17 :Void;          # the policy file is read again
    policyShow @18 :PolicyShow;
    policyExplain @19 :PolicyExplain;
    publish @20 :Publish;
    endpointCreate @21 :EndpointSpec;
    endpointList @22 :EndpointList;
    endpointShow @23 :EndpointShow;
    endpointRenew @24 :EndpointRenew;
    endpointEnd @25 :EndpointEnd;
  }
}

struct Hello {
  version @0 :UInt32;
  features @1 :UInt64;
  client @2 :Text;
  resume @3 :Data;             # empty or 16 bytes
}

struct Create {
  name @0 :Text;
  size @1 :UInt64;
  pool @2 :Text;               # empty: the first pool the caller may use
  cacheMode @3 :CacheMode;
  cacheRequired @4 :Bool;
  lifetime @5 :Lifetime;
  mode @6 :UInt16;
  group :union {
    callers @7 :Void;
    gid @8 :UInt32;
  }
  seal :union {
    poolDefault @9 :Void;
    kind @10 :SealKind;
  }
  grant :union {
    none @11 :Void;
    rights @12 :Access;
  }
}

struct Open {
  name @0 :Text;
  rights @1 :Access;
}

struct ListRegions {
  glob @0 :Text;
  cursor @1 :Text;
  limit @2 :UInt32;
}

struct Show { name @0 :Text; }

struct Renew {
  name @0 :Text;
  ttlNs @1 :Int64;
}

struct Revoke {
  name @0 :Text;
  how :union {
    now @1 :Void;
    drainWithinNs @2 :Int64;   # 0: without limit
  }
}

struct Publish {
  name @0 :Text;
  withinNs @1 :Int64;          # how long to wait for writers
}

struct Quota { cursor @0 :Text; }

struct Limit {
  union {
    unlimited @0 :Void;
    most @1 :UInt64;
  }
}

struct Limits {
  bytes @0 :Limit;
  regions @1 :Limit;
  grants @2 :Limit;
  connections @3 :Limit;
}

struct QuotaSlot {
  subject @0 :SubjectKind;
  id @1 :UInt32;
  pool @2 :Text;               # empty: over all pools
}

struct QuotaSet {
  slot @0 :QuotaSlot;
  limits @1 :Limits;
}

struct QuotaClear { slot @0 :QuotaSlot; }

struct CloneFd {
  rights @0 :Access;
  ticket @1 :UInt64;           # the port that the file was sent to; 0 from clients before ports
}

struct Shutdown {
  endRegions @0 :Bool;         # those of volatile memory, and the keeper
  onlyTell @1 :Bool;           # nothing ends: the reply says what would
}

struct PolicyShow { offset @0 :UInt64; } # of the text

# What would be answered to whom; nothing is done.
struct PolicyExplain {
  uid @0 :UInt32;              # who would ask: oneself, or for an administrator anybody
  verb @1 :Text;               # as rules say it: "create", "quota-set"
  ask @2 :Create;              # of verbs but create only the name, and the rights in grant
  ttl :union {
    none @3 :Void;
    ns @4 :Int64;              # of a renew
  }
}

struct Label {
  key @0 :Text;
  value @1 :Text;
}

struct EndpointSpec {
  id @0 :Text;
  names @1 :List(Text);        # globs; empty: USER/ID/**
  pools @2 :List(Text);        # empty: all
  verbs @3 :List(Text);        # the policy's words; empty: all about regions, pools and quota
  rights @4 :Access;
  limits @5 :Limits;
  ttlNs @6 :Int64;             # 0: it does not end by time
  onEnd @7 :OnEnd;
  labels @8 :List(Label);
}

struct EndpointList { cursor @0 :Text; }

struct EndpointShow {
  id @0 :Text;
  directory @1 :Bool;          # asks for a descriptor of its directory
}

struct EndpointRenew {
  id @0 :Text;
  ttlNs @1 :Int64;
}

struct EndpointEnd {
  id @0 :Text;
  revokeOpened @1 :Bool;       # also its maker's regions that its clients have open
}

# ---- replies and notices ----

struct FromBroker {
  union {
    reply @0 :Reply;
    notice @1 :Notice;
  }
}

struct Reply {
  id @0 :UInt64;               # the request's; 0 when it could not be decoded
  body :union {
    error @1 :Error;
    welcome @2 :Welcome;
    granted @3 :Granted;
    listing @4 :Listing;
    shown @5 :Shown;
    renewed @6 :RegionInfo;
    revoked @7 :Revoked;
    pools @8 :PoolList;
    quotas @9 :QuotaList;
    done @10 :Void;
    clonePort @11 :ClonePort;  # one descriptor rides on the packet: the client's end of the port
    shuttingDown @12 :ShuttingDown;
    status @13 :Status;
    reloaded @14 :Reloaded;
    policy @15 :PolicyInForce;
    explained @16 :Explained;
    published @17 :RegionInfo;
    endpoint @18 :EndpointTold;
    endpoints @19 :EndpointListing;
    endpointEnded @20 :EndpointEnded;
  }
}

struct Error {
  code @0 :UInt16;             # see base/result.h
  sentence @1 :Text;
  details @2 :List(Detail);

  struct Detail {
    key @0 :Text;
    value @1 :Text;
  }
}

struct Welcome {
  version @0 :UInt32;
  features @1 :UInt64;
  broker @2 :Text;
  resume @3 :Data;
  graceNs @4 :Int64;
  resumed @5 :Bool;
}

struct ClonePort { ticket @0 :UInt64; }

struct Granted {
  region @0 :RegionInfo;
  rights @1 :Access;
  withFd @2 :Bool;             # exactly one descriptor rides on the packet
}

struct Listing {
  regions @0 :List(RegionInfo);
  next @1 :Text;               # empty: the last page
}

struct Shown {
  region @0 :RegionInfo;
  holders @1 :List(Holder);

  struct Holder {
    uid @0 :UInt32;
    rights @1 :Access;
    count @2 :UInt32;
    endpoint @3 :Text;         # whose number uid is; empty: none
    ended @4 :Bool;            # of an endpoint that is no more
    unit @5 :Text;             # where he ran when he connected, in a word for people: a systemd unit,
    container @6 :Text;        # the first digits of a container's id,
    cgroup @7 :Text;           # or where it is neither, the path; each empty: not that, or not known
  }
}

struct Revoked {
  held @0 :UInt64;
  grants @1 :UInt32;
}

struct PoolList { pools @0 :List(PoolInfo); }

struct PoolInfo {
  name @0 :Text;
  backing @1 :Text;
  capacity @2 :UInt64;
  used @3 :UInt64;
  regions @4 :UInt64;
  granule @5 :UInt64;
  confinement @6 :Confinement;
  confinementReason @7 :Text;
  seals @8 :List(SealKind);
  cacheModes @9 :List(CacheMode);
  durability @10 :Durability;
  cacheVerified @11 :Bool;     # the modes were read back from the kernel
}

struct QuotaList {
  quotas @0 :List(QuotaInfo);
  next @1 :Text;               # empty: the last page
}

struct QuotaInfo {
  slot @0 :QuotaSlot;
  limits @1 :Limits;
  bytes @2 :UInt64;
  regions @3 :UInt64;
  grants @4 :UInt64;
  connections @5 :UInt64;
  overridden @6 :Bool;
  endpoint @7 :Text;           # whose number a user's id is; empty: none
}

struct EndpointInfo {
  spec @0 :EndpointSpec;       # with what was left open filled in
  maker @1 :UInt32;
  principal @2 :UInt32;        # the number that it owns, holds and is charged as
  state @3 :EndpointState;
  directory @4 :Text;          # of its socket, mapcap.sock
  createdUnixNs @5 :Int64;
  remaining :union {
    unlimited @6 :Void;        # does not expire by time
    ns @7 :Int64;
  }
  bytes @8 :UInt64;            # charged now
  regions @9 :UInt64;
  grants @10 :UInt64;
  connections @11 :UInt64;
}

struct EndpointTold {
  endpoint @0 :EndpointInfo;
  withFd @1 :Bool;             # exactly one descriptor rides on the packet: of the directory
}

struct EndpointListing {
  endpoints @0 :List(EndpointInfo);
  next @1 :Text;               # empty: the last page
}

struct EndpointEnded {
  revoked @0 :UInt64;
  kept @1 :UInt64;
  held @2 :UInt64;
  opened @3 :UInt64;           # grants of regions that live on, still with whoever got them through it
  openedRegions @4 :List(Text); # of which regions: some of them
  cut @5 :UInt64;              # its maker's regions that were revoked, since revokeOpened asked for that
}

struct ShuttingDown {
  regions @0 :UInt64;          # of volatile memory: those that stay, or that ended
  users @1 :UInt64;            # who own them
  bytes @2 :UInt64;
  lasting @3 :UInt64;          # regions of non-volatile memory, which stay as they are
  quarantined @4 :UInt64;      # of `regions`: devices that somebody still has
}

struct Status {
  broker @0 :Text;
  pid @1 :UInt32;
  startedUnixNs @2 :Int64;
  policy @3 :Text;
  policyLoadedUnixNs @4 :Int64;
  regions @5 :List(StateCount);
  unguarded @6 :UInt64;        # regions whose memory ends with the broker, at the moment
  unguardedRegions @7 :List(Unguarded);  # some of them, to administrators
  keeper @8 :Keeper;
  ledgerTrouble @9 :Text;      # empty: it takes changes
  store :union {
    none @10 :Void;            # no service manager keeps descriptors
    use @11 :StoreUse;
  }
  connections @12 :UInt32;
  maxConnections @13 :UInt32;
  pools @14 :List(Confined);

  struct StateCount {
    state @0 :RegionState;
    count @1 :UInt64;
  }
  struct Unguarded {
    id @0 :UInt64;
    name @1 :Text;
    owner @2 :UInt32;
  }
  struct Keeper {
    pid @0 :UInt32;            # 0: there is none at the moment
    serving @1 :Bool;
    adopted @2 :Bool;          # an earlier broker started it
    held @3 :UInt64;
    replaced @4 :UInt64;
    lastEnd @5 :Text;
    blanks @6 :UInt64;         # made ahead of creates and ready: memory without size, nobody's
    blanksUsed @7 :UInt64;     # creates that took one, since the broker started
    opens @8 :UInt64;          # made ahead of opens and ready: grants of regions, nobody's
    opensUsed @9 :UInt64;      # opens that took one, since the broker started
    sockets @10 :UInt64;       # listening sockets of endpoints that it holds
  }
  struct StoreUse {
    stored @0 :UInt64;
    withoutPlace @1 :UInt64;
    most @2 :Limit;
    sockets @3 :UInt64;        # listening sockets of endpoints
  }
  struct Confined {
    pool @0 :Text;
    confinement @1 :Confinement;
  }
}

# What came of a reload. Every problem of the file, or every change, as far as a packet holds them.
struct Reloaded {
  file @0 :Text;
  inForce @1 :Bool;            # else the policy from before is, all of it
  problems @2 :List(Problem);
  changes @3 :List(Change);
  more @4 :UInt32;             # problems and changes that are not told

  struct Problem {
    line @0 :UInt32;
    column @1 :UInt32;
    warning @2 :Bool;          # else an error
    message @3 :Text;
  }
  struct Change {
    what @0 :Text;             # "rule added", "pool grown"
    whom @1 :Text;             # "group staff", "pool dram"
    place @2 :Text;            # "policy.toml:12"; empty: none
    detail @3 :Text;
  }
}

# A piece of the text of the policy in force, and whose it is.
struct PolicyInForce {
  file @0 :Text;
  sha256 @1 :Text;             # of the whole text, in hexadecimal
  loadedUnixNs @2 :Int64;
  loadedBy @3 :Text;           # "start", "SIGHUP", "user alice"
  pools @4 :UInt32;
  rules @5 :UInt32;
  quotas @6 :UInt32;
  size @7 :UInt64;             # of the whole text, in bytes
  offset @8 :UInt64;
  text @9 :Data;               # from there on; empty: that was all
}

struct Explained {
  verdict :union {
    allowed @0 :Void;
    refused @1 :Error;         # as the broker would answer
  }
  policy @2 :Text;             # the file
  user @3 :Text;               # as whom the policy knows him
  rule @4 :Text;               # that allows or denies; empty: none does
  judged :union {
    nothing @5 :Void;
    region @6 :RegionInfo;     # what would be made, in the pool that came closest; or what there is
  }
  rules @7 :List(RuleSaid);    # about that user: what decides first, then the closest
  more @8 :UInt32;             # rules that are not told
  elsewhere @9 :Text;          # of what is allowed: by which rule, and where, it is denied; empty: nowhere

  struct RuleSaid {
    place @0 :Text;
    denies @1 :Bool;
    subject @2 :Text;
    applies @3 :Bool;
    why @4 :Text;              # why not
  }
}

struct Notice {
  kind @0 :NoticeKind;
  region @1 :UInt64;
  name @2 :Text;
  withinNs @3 :Int64;
  request @4 :UInt64;          # only progress
  done @5 :UInt64;
  total @6 :UInt64;
}
