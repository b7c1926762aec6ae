/* libmapcap for C, and for whatever calls C: memory that can be mmapped and nothing else.
 *
 *     struct mapcap_create_options what = MAPCAP_CREATE_OPTIONS;
 *     mapcap_client *broker;
 *     mapcap_grant *grant;
 *     mapcap_mapping *memory;
 *     what.name = "alice/frames";
 *     what.bytes = 1 << 20;
 *     if (mapcap_connect(NULL, &broker) || mapcap_create_grant(broker, &what, MAPCAP_READ_WRITE, &grant)
 *         || mapcap_map(grant, MAPCAP_READ_WRITE, &memory)) {
 *       fprintf(stderr, "%s\n", mapcap_error_sentence());
 *       return 1;
 *     }
 *     ((char *)mapcap_address(memory))[0] = 1;
 *
 * Errors. A function that returns `int` returns MAPCAP_OK (0) or one of enum mapcap_code. What went wrong is then told
 * by mapcap_error_*(), for the calling thread, until that thread's next call that fails.
 *
 * Ownership. What a function makes through a `**` argument is the caller's, and ended by the function that the type
 * names. It is set to NULL when the function fails. Structures are the caller's; text in them is within them. Text that
 * is passed is only read during the call. Functions that end something take NULL, too.
 *
 * Growing. Structures begin with their own size, which the initializers (MAPCAP_..._OPTIONS, MAPCAP_..._INFO) set; a
 * newer library reads and writes no more than that. A structure with a size of 0, or a larger one than the library
 * knows, is `invalid`. Enumerators and members are only ever added at the end.
 *
 * Threads. A client may be used by several threads, one call at a time: the others wait. A grant and a mapping may be
 * read by any number of threads at once; whoever ends one makes sure that nobody uses it any more. Nothing here may be
 * called in a child after fork() but functions on grants and mappings.
 *
 * Names, texts and meanings are those of the C++ library (<mapcap/mapcap.h>), whose comments say more. C89 and later,
 * C++98 and later. Sizes are bytes, times nanoseconds unless their names say otherwise. */
#ifndef MAPCAP_H
#define MAPCAP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MAPCAP_C_API __attribute__((visibility("default")))

/* ---- words: the numbers never change ---- */

enum mapcap_code {
  MAPCAP_OK = 0,
  MAPCAP_ERROR_MALFORMED = 1,    /* the other side sent what the protocol does not allow */
  MAPCAP_ERROR_VERSION = 2,      /* no protocol version that both sides speak */
  MAPCAP_ERROR_DENIED = 3,       /* the policy, or the region's mode, does not allow it */
  MAPCAP_ERROR_NOT_FOUND = 4,    /* no such region, pool or quota */
  MAPCAP_ERROR_EXISTS = 5,       /* the name is taken */
  MAPCAP_ERROR_OVER_QUOTA = 6,   /* a quota would be exceeded; details: slot, used, limit, asked */
  MAPCAP_ERROR_POOL_FULL = 7,    /* the pool's capacity would be exceeded */
  MAPCAP_ERROR_INVALID = 8,      /* an argument is outside its range or makes no sense here */
  MAPCAP_ERROR_CACHE_MODE = 9,   /* the required cache mode cannot be met */
  MAPCAP_ERROR_UNSUPPORTED = 10, /* the pool, the confinement or the machine cannot do this */
  MAPCAP_ERROR_BUSY = 11,        /* the region is being revoked, drained or scrubbed */
  MAPCAP_ERROR_LOST = 12,        /* a region whose memory is not there any more */
  MAPCAP_ERROR_TIMED_OUT = 13,   /* a deadline passed */
  MAPCAP_ERROR_IO = 14,          /* the kernel or a device refused; details: errno, call */
  MAPCAP_ERROR_EXHAUSTED = 15,   /* a limit per client on connections, requests or descriptors */
  MAPCAP_ERROR_UNAVAILABLE = 16, /* no broker answers at the socket */
  MAPCAP_ERROR_REVOKED = 1000,   /* the mapping was taken away while it was being used */
  MAPCAP_ERROR_NO_MEMORY = 1001, /* this process has no memory left */
  MAPCAP_ERROR_UNEXPECTED = 1002 /* a bug of the library: the sentence says what was thrown */
};

enum mapcap_rights { MAPCAP_READ_ONLY = 0, MAPCAP_READ_WRITE = 1 };
enum mapcap_cache_mode {
  MAPCAP_WRITE_BACK = 0,
  MAPCAP_WRITE_THROUGH = 1,
  MAPCAP_WRITE_COMBINING = 2,
  MAPCAP_UNCACHED = 3
};
enum mapcap_cache_mechanism {
  MAPCAP_PAGE_ATTRIBUTE = 0,
  MAPCAP_STORE_DISCIPLINE = 1,
  MAPCAP_PLATFORM = 2
};
enum mapcap_granularity {
  MAPCAP_GRANULARITY_NONE = 0, /* stores are never durable */
  MAPCAP_GRANULARITY_PAGE = 1,
  MAPCAP_GRANULARITY_CACHE_LINE = 2,
  MAPCAP_GRANULARITY_BYTE = 3
};
enum mapcap_domain {
  MAPCAP_VOLATILE = 0,
  MAPCAP_BLOCK_DEVICE = 1,
  MAPCAP_MEMORY_CONTROLLER = 2,
  MAPCAP_CPU_CACHE = 3
};
enum mapcap_confinement {
  MAPCAP_CONFINED_BY_SEALS = 0,
  MAPCAP_CONFINED_AS_CLONE = 1,
  MAPCAP_CONFINED_NATIVELY = 2,
  MAPCAP_CONFINED_BY_LSM = 3
};
enum mapcap_seal {
  MAPCAP_SEALED = 0,     /* holders never fault; a revoke zeroes */
  MAPCAP_REVOCABLE = 1,  /* a revoke takes mappings away: SIGBUS */
  MAPCAP_IRREVOCABLE = 2 /* devices */
};
/* Beyond the numbers of enum mapcap_seal: what a create leaves to the pool. */
#define MAPCAP_SEAL_OF_POOL (-1)
enum mapcap_lifetime {
  MAPCAP_CONNECTION = 0, /* until the creator's connection, and its grace period, end */
  MAPCAP_TTL = 1,
  MAPCAP_PERSISTENT = 2 /* until revoked */
};
enum mapcap_state {
  MAPCAP_STATE_LIVE = 0,
  MAPCAP_STATE_REVOKING = 1,
  MAPCAP_STATE_DRAINING = 2,
  MAPCAP_STATE_SCRUBBING = 3,
  MAPCAP_STATE_QUARANTINED = 4,
  MAPCAP_STATE_LOST = 5
};
enum mapcap_subject { MAPCAP_ANY = 0, MAPCAP_USER = 1, MAPCAP_GROUP = 2 };
enum mapcap_notice_kind {
  MAPCAP_EXPIRING = 0,   /* the region's ttl ends within `within` unless it is renewed */
  MAPCAP_REVOKING = 1,   /* a drain began: let go within `within` (0: no limit) */
  MAPCAP_GONE = 2,       /* revoked: mappings of it fault, or read zeros */
  MAPCAP_RECONNECTED = 3 /* the connection was lost and is there again */
};

#define MAPCAP_NAME_ROOM 257 /* a region's name and its NUL */
#define MAPCAP_POOL_ROOM 65
#define MAPCAP_ENDPOINT_ROOM 65 /* an endpoint's id and its NUL */
#define MAPCAP_REASON_ROOM 257
#define MAPCAP_PLACE_ROOM 257

typedef struct mapcap_client mapcap_client;
typedef struct mapcap_grant mapcap_grant;
typedef struct mapcap_mapping mapcap_mapping;

/* ---- errors, of the calling thread ---- */

MAPCAP_C_API int mapcap_error_code(void);             /* of its last call that failed; MAPCAP_OK: none has */
MAPCAP_C_API const char *mapcap_error_sentence(void); /* what is wrong, where, and what to do; never NULL */
/* A fact for programs, by its key ("slot", "errno"), or NULL. Like the sentence it lives until the thread's next
 * failure. */
MAPCAP_C_API const char *mapcap_error_detail(const char *key);
/* The key of detail `index`, counted from 0, or NULL beyond the last. */
MAPCAP_C_API const char *mapcap_error_detail_key(size_t index);
/* The short stable name of a code: "over_quota"; "ok" and, for what is none, "unknown". */
MAPCAP_C_API const char *mapcap_code_name(int code);
/* The library's version, "0.1.0". */
MAPCAP_C_API const char *mapcap_version(void);

/* ---- the connection ---- */

typedef struct mapcap_connect_options {
  size_t size;
  const char *socket;         /* NULL: $MAPCAP_SOCKET, else /run/mapcap/mapcap.sock */
  const char *program;        /* for the broker's log; NULL: the program's name */
  int64_t deadline_ms;        /* of one call in all, 1 and up */
  int64_t reconnect_within_ms; /* how long a call tries to reach a broker that went away; 0: not at all */
  int64_t wait_for_broker_ms; /* how long to wait for a broker to appear; 0: it must be there */
  int notices;                /* not 0: keep notices for mapcap_next_notice() */
} mapcap_connect_options;
#define MAPCAP_CONNECT_OPTIONS {sizeof(mapcap_connect_options), NULL, NULL, 30000, 10000, 0, 0}

/* Ended by mapcap_disconnect(). options may be NULL. Errors: `unavailable` (says what to start), `denied` (the socket's
 * permissions), `version`, `timed_out`. */
MAPCAP_C_API int mapcap_connect(const mapcap_connect_options *options, mapcap_client **client);
/* Regions with lifetime `connection` end with it, at once: this waits for that, at most a second. */
MAPCAP_C_API void mapcap_disconnect(mapcap_client *client);
/* Readable when mapcap_next_notice() should be called: the same number for the client's whole life, still the
 * client's. */
MAPCAP_C_API int mapcap_client_fd(const mapcap_client *client);
/* Name and version of the broker, and the path of its socket. They live as long as the client; the broker's name is that
 * of the last call. */
MAPCAP_C_API const char *mapcap_client_broker(mapcap_client *client);
MAPCAP_C_API const char *mapcap_client_socket(const mapcap_client *client);

/* ---- regions ---- */

typedef struct mapcap_region_info {
  size_t size;
  uint64_t id; /* never reused; 0: not known (a grant from another process) */
  char name[MAPCAP_NAME_ROOM];
  char pool[MAPCAP_POOL_ROOM];
  uint32_t owner;
  uint32_t group;
  uint32_t mode;
  uint64_t bytes;
  int cache_requested; /* enum mapcap_cache_mode */
  int cache_required;
  int cache_effective;
  int cache_mechanism;
  int cache_verified; /* read back from a page table */
  int granularity;
  int domain;
  int map_sync;
  int confinement;
  int seal;
  int lifetime;
  int64_t ttl_ns; /* of MAPCAP_TTL */
  int64_t created_unix_ns;
  int64_t remaining_ns; /* -1: does not expire by time */
  int state;
  uint32_t grants; /* descriptors or mappings still alive, as far as the kernel tells */
  uint64_t held;   /* bytes still charged */
  uint32_t bad_blocks;
  int64_t published_unix_ns; /* since when nobody can write it; 0: it is not published */
  int draining;              /* of one that is revoking: its holders may finish first */
  char endpoint[MAPCAP_ENDPOINT_ROOM]; /* the endpoint whose number owner is; empty: a user's */
} mapcap_region_info;
#define MAPCAP_REGION_INFO \
  {sizeof(mapcap_region_info), 0, "", "", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ""}

/* Reports bytes done of bytes to do. Must not call the client. */
typedef void (*mapcap_progress)(uint64_t done, uint64_t total, void *context);

typedef struct mapcap_create_options {
  size_t size;
  const char *name;
  uint64_t bytes;      /* rounded up to the pool's granule */
  const char *pool;    /* NULL: the first that the caller may use */
  int cache_mode;      /* enum mapcap_cache_mode */
  int cache_required;  /* not 0: fail where the mode cannot be met */
  int lifetime;        /* enum mapcap_lifetime */
  int64_t ttl_ns;      /* for MAPCAP_TTL, at least a second */
  uint32_t mode;       /* 0 to 0666 */
  int has_group;       /* 0: the caller's primary group */
  uint32_t group;
  int seal;            /* enum mapcap_seal, or MAPCAP_SEAL_OF_POOL */
  mapcap_progress progress; /* may be NULL */
  void *progress_context;
} mapcap_create_options;
#define MAPCAP_CREATE_OPTIONS \
  {sizeof(mapcap_create_options), NULL, 0, NULL, MAPCAP_WRITE_BACK, 0, MAPCAP_CONNECTION, 0, 0600, 0, 0, \
   MAPCAP_SEAL_OF_POOL, NULL, NULL}

/* Errors: `exists`, `over_quota`, `pool_full`, `cache_mode`, `invalid`, `unsupported`, `denied`. info may be NULL. */
MAPCAP_C_API int mapcap_create(mapcap_client *client, const mapcap_create_options *options, mapcap_region_info *info);
/* Creates and opens in one round trip. The grant is ended by mapcap_grant_close() or mapcap_grant_release(). */
MAPCAP_C_API int mapcap_create_grant(mapcap_client *client, const mapcap_create_options *options, int rights,
                                     mapcap_grant **grant);
/* Errors: `not_found`, `denied`, `busy`, `lost`. */
MAPCAP_C_API int mapcap_open(mapcap_client *client, const char *name, int rights, mapcap_grant **grant);

/* Called for each; not 0 ends the walk. May call the client: everything was fetched before the first call. */
typedef int (*mapcap_region_visitor)(const mapcap_region_info *info, void *context);
/* What the caller may see of the regions that match a glob, by name. glob may be NULL: all. */
MAPCAP_C_API int mapcap_list(mapcap_client *client, const char *glob, mapcap_region_visitor visit, void *context);
/* Grants of a region that one user or endpoint holds. */
typedef struct mapcap_holder_info {
  size_t size;
  uint32_t uid;
  int rights;
  uint32_t count;
  char endpoint[MAPCAP_ENDPOINT_ROOM]; /* the endpoint whose number uid is; empty: none */
  int ended; /* that endpoint has ended, and these grants stay with whoever has them */
  /* Where whoever got them ran when he connected; each empty: not that, or not known. Labels, and no authority. */
  char unit[MAPCAP_PLACE_ROOM];      /* "postgresql.service" */
  char container[MAPCAP_PLACE_ROOM]; /* the first 12 digits of its id */
  char cgroup[MAPCAP_PLACE_ROOM];    /* the path, where it is neither */
} mapcap_holder_info;
typedef int (*mapcap_holder_visitor)(const mapcap_holder_info *info, void *context);
/* One region; `visit` (may be NULL) is called for each that holds it, by rights and place. Errors: `not_found`. */
MAPCAP_C_API int mapcap_show(mapcap_client *client, const char *name, mapcap_region_info *info,
                             mapcap_holder_visitor visit, void *context);
/* Restarts a ttl. info may be NULL. Errors: `invalid` for a region without ttl, or above the policy's maximum. */
MAPCAP_C_API int mapcap_renew(mapcap_client *client, const char *name, int64_t ttl_ns, mapcap_region_info *info);

typedef struct mapcap_revoke_options {
  size_t size;
  int drain;         /* not 0: holders are told and may finish */
  int64_t within_ns; /* how long they may; 0: without limit */
  mapcap_progress progress;
  void *progress_context;
} mapcap_revoke_options;
#define MAPCAP_REVOKE_OPTIONS {sizeof(mapcap_revoke_options), 0, 0, NULL, NULL}
/* When it returns, nobody can read or write the region's contents any more. options, held (bytes that stay charged) and
 * grants (until so many are let go) may be NULL. */
MAPCAP_C_API int mapcap_revoke(mapcap_client *client, const char *name, const mapcap_revoke_options *options,
                               uint64_t *held, uint32_t *grants);

/* When it returns, nobody can write the region any more, its owner neither, until it ends. Waits up to within_ns for
 * writable grants, mappings and pinned pages that are left. info may be NULL. Errors: `busy` while somebody can write it,
 * naming those that are known; `unsupported`, `denied`, `lost`. */
MAPCAP_C_API int mapcap_publish(mapcap_client *client, const char *name, int64_t within_ns, mapcap_region_info *info);

/* An mmap-only clone of a regular file that the caller has open, with at most the rights of `fd`, which stays the
 * caller's. Errors: `unsupported`, `denied`, `invalid`. */
MAPCAP_C_API int mapcap_clone(mapcap_client *client, int fd, int rights, mapcap_grant **grant);

/* ---- pools and quotas ---- */

typedef struct mapcap_pool_info {
  size_t size;
  char name[MAPCAP_POOL_ROOM];
  char backing[16]; /* "memory", "dax-file", "dax-device", "pci-bar" */
  uint64_t capacity;
  uint64_t used;
  uint64_t regions;
  uint64_t granule;
  int confinement;
  uint32_t seals;       /* bit 1 << enum mapcap_seal for each that is allowed */
  int default_seal;
  uint32_t cache_modes; /* bit 1 << enum mapcap_cache_mode */
  int granularity;
  int domain;
  int map_sync;
  int cache_verified; /* the modes were read back from the kernel */
  char confinement_reason[MAPCAP_REASON_ROOM]; /* why not a stronger one; empty for the strongest */
} mapcap_pool_info;
typedef int (*mapcap_pool_visitor)(const mapcap_pool_info *info, void *context);
MAPCAP_C_API int mapcap_pools(mapcap_client *client, mapcap_pool_visitor visit, void *context);

/* A limit that there is not. */
#define MAPCAP_UNLIMITED UINT64_MAX
typedef struct mapcap_amounts {
  uint64_t bytes;
  uint64_t regions;
  uint64_t grants;
  uint64_t connections;
} mapcap_amounts;
typedef struct mapcap_quota_info {
  size_t size;
  int subject; /* enum mapcap_subject */
  uint32_t id; /* uid or gid; 0 for MAPCAP_ANY */
  char pool[MAPCAP_POOL_ROOM]; /* empty: over all pools */
  mapcap_amounts limits;       /* MAPCAP_UNLIMITED: none */
  mapcap_amounts used;
  int overridden; /* by mapcap_quota_set() */
  char endpoint[MAPCAP_ENDPOINT_ROOM]; /* the endpoint whose number a user's id is; empty: none */
} mapcap_quota_info;
typedef int (*mapcap_quota_visitor)(const mapcap_quota_info *info, void *context);
/* The caller's own slots; every slot for an administrator. */
MAPCAP_C_API int mapcap_quota(mapcap_client *client, mapcap_quota_visitor visit, void *context);
/* For administrators. pool may be NULL: over all pools. */
MAPCAP_C_API int mapcap_quota_set(mapcap_client *client, int subject, uint32_t id, const char *pool,
                                  const mapcap_amounts *limits);
MAPCAP_C_API int mapcap_quota_clear(mapcap_client *client, int subject, uint32_t id, const char *pool);

/* ---- notices ---- */

typedef struct mapcap_notice {
  size_t size;
  int kind; /* enum mapcap_notice_kind */
  uint64_t region;
  char name[MAPCAP_NAME_ROOM];
  int64_t within_ns;
  int resumed; /* MAPCAP_RECONNECTED only: `connection` regions are still this client's */
} mapcap_notice;
#define MAPCAP_NOTICE {sizeof(mapcap_notice), 0, 0, "", 0, 0}
/* Takes the next notice; *there is 0 when there is none now. Waits for nothing, but after the broker went away it tries
 * to reach it. Needs mapcap_connect_options::notices. */
MAPCAP_C_API int mapcap_next_notice(mapcap_client *client, mapcap_notice *notice, int *there);

/* ---- grants ---- */

MAPCAP_C_API void mapcap_grant_close(mapcap_grant *grant);
/* Ends the grant and gives its descriptor to the caller, who closes it. -1 for NULL. */
MAPCAP_C_API int mapcap_grant_release(mapcap_grant *grant);
MAPCAP_C_API int mapcap_grant_fd(const mapcap_grant *grant); /* still the grant's */
MAPCAP_C_API int mapcap_grant_rights(const mapcap_grant *grant);
MAPCAP_C_API uint64_t mapcap_grant_size(const mapcap_grant *grant);
/* The region as it was when the grant was made. */
MAPCAP_C_API int mapcap_grant_info(const mapcap_grant *grant, mapcap_region_info *info);
/* Takes over a descriptor that somebody else was granted; it stays the caller's when this fails. Errors: `invalid` for
 * what cannot be mapped, `io`. */
MAPCAP_C_API int mapcap_grant_adopt(int fd, mapcap_grant **grant);
/* The grant that a parent process passed on under this name (LISTEN_FDS; `mapcap run`). Each can be taken once. Reads
 * the environment. Errors: `not_found`, listing what is there. */
MAPCAP_C_API int mapcap_inherited(const char *name, mapcap_grant **grant);
/* Passes a copy over a connected Unix socket, and takes one that was passed. Errors: `io`, `unavailable`, `malformed`. */
MAPCAP_C_API int mapcap_grant_send(const mapcap_grant *grant, int unix_socket);
MAPCAP_C_API int mapcap_grant_receive(int unix_socket, mapcap_grant **grant);
/* What a descriptor's own attributes say, without a broker: only name, bytes, cache, durability, confinement and
 * published_unix_ns of `info` are set, and *rights. *there is 0 for a descriptor that does not describe itself. Errors: `io`, `malformed`. */
MAPCAP_C_API int mapcap_describe(int fd, mapcap_region_info *info, int *rights, int *there);

/* ---- memory ---- */

/* Maps the whole region, shared, with at most the grant's rights. The grant may be ended while the mapping lives. Ended
 * by mapcap_unmap(). Errors: `io`, `denied`. */
MAPCAP_C_API int mapcap_map(const mapcap_grant *grant, int rights, mapcap_mapping **mapping);
MAPCAP_C_API void mapcap_unmap(mapcap_mapping *mapping);
MAPCAP_C_API void *mapcap_address(const mapcap_mapping *mapping); /* storing is SIGSEGV without rw */
MAPCAP_C_API size_t mapcap_mapping_size(const mapcap_mapping *mapping);

/* Make stores to [offset, offset + length) durable. *granularity (may be NULL) tells by which granularity they now are;
 * MAPCAP_GRANULARITY_NONE: they are not, this memory is volatile. Errors: `invalid` for a range outside, `io` (then
 * nothing is known to be durable), `revoked`, `denied`. */
MAPCAP_C_API int mapcap_persist(mapcap_mapping *mapping, size_t offset, size_t length, int *granularity);
MAPCAP_C_API int mapcap_flush(mapcap_mapping *mapping, size_t offset, size_t length, int *granularity);
MAPCAP_C_API int mapcap_drain(mapcap_mapping *mapping);
MAPCAP_C_API int mapcap_copy_persist(mapcap_mapping *mapping, size_t offset, const void *from, size_t length,
                                     int *granularity);
MAPCAP_C_API int mapcap_fill_persist(mapcap_mapping *mapping, size_t offset, int byte, size_t length,
                                     int *granularity);

/* Copy out of and into a mapping; where it has been revoked, the error is `revoked` instead of a SIGBUS. Some of the
 * bytes may have been copied. The first use installs a handler for SIGBUS (see <mapcap/guard.h>). Errors: `invalid` for
 * a range outside, `denied`. */
MAPCAP_C_API int mapcap_read(const mapcap_mapping *mapping, size_t offset, void *to, size_t length);
MAPCAP_C_API int mapcap_write(mapcap_mapping *mapping, size_t offset, const void *from, size_t length);
/* Runs call(context), which may touch [begin, begin + length). Where a touch faults, `call` is left at once by siglongjmp
 * and the error is `revoked`. So `call` must hold no lock and own no memory or descriptor while it touches the memory. */
MAPCAP_C_API int mapcap_guarded(const void *begin, size_t length, void (*call)(void *context), void *context);

/* ---- a broker for a unit test ---- */

typedef struct mapcap_dev mapcap_dev;
typedef struct mapcap_dev_options {
  size_t size;
  const char *command;     /* the command line tool; NULL: $MAPCAP_COMMAND, else mapcap as PATH has it */
  int64_t start_within_ms; /* 1 and up */
} mapcap_dev_options;
#define MAPCAP_DEV_OPTIONS {sizeof(mapcap_dev_options), NULL, 60000}

/* Starts a private broker (`mapcap dev`) that needs no root, whose clients may do everything, and returns when it
 * serves. It ends by mapcap_dev_stop(), or with the process, however that ends; what is mapped by then stays mapped. Its
 * grants are mmap-only where the caller is the machine's root, else plain sealed descriptors (mapcap_region_info::
 * confinement). options may be NULL. Errors: `not_found` where the command is not installed, `unavailable` with its own
 * words, `timed_out`, `io`. */
MAPCAP_C_API int mapcap_dev_start(const mapcap_dev_options *options, mapcap_dev **dev);
/* For MAPCAP_SOCKET and mapcap_connect_options::socket; lives as long as the broker. */
MAPCAP_C_API const char *mapcap_dev_socket(const mapcap_dev *dev);
/* Returns when nothing of it is left. */
MAPCAP_C_API void mapcap_dev_stop(mapcap_dev *dev);

#ifdef __cplusplus
}
#endif

/* Parts of this header, not to be included by themselves. */
#include <mapcap_endpoint.h> /* sockets that are an authority */
#include <mapcap_service.h>  /* the broker itself: how it is, and its end */

#endif
