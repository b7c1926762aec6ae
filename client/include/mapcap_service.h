/* A part of <mapcap.h>: how the broker is, and its end. */
#ifndef MAPCAP_SERVICE_H
#define MAPCAP_SERVICE_H

#include <mapcap.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mapcap_status_info {
  size_t size;
  char broker[65]; /* name and version */
  uint32_t pid;
  int64_t started_unix_ns;
  char policy[256]; /* where it was read; what is longer is cut */
  int64_t policy_loaded_unix_ns;
  uint64_t regions[6]; /* how many, by enum mapcap_state */
  uint64_t unguarded;  /* whose memory nobody but the broker and its clients holds at the moment */
  uint32_t keeper_pid; /* 0: there is none at the moment */
  int keeper_serving;  /* 0 while it is being replaced */
  int keeper_adopted;  /* an earlier broker started it */
  uint64_t keeper_held; /* regions whose memory it holds */
  uint64_t keeper_replaced;
  char keeper_last_end[256]; /* how the last one ended; empty: none did */
  char ledger_trouble[512];  /* why changes are refused (a full disk); empty: they are not */
  int has_store;             /* a service manager keeps descriptors */
  uint64_t store_stored;     /* regions */
  uint64_t store_without_place;
  uint64_t store_most; /* regions and sockets; MAPCAP_UNLIMITED: nobody says */
  uint32_t connections;
  uint32_t max_connections;
  uint64_t keeper_blanks;      /* made ahead of creates and ready: memory without size, nobody's */
  uint64_t keeper_blanks_used; /* creates that took one, since the broker started */
  uint64_t keeper_opens;       /* made ahead of opens and ready: grants of regions, nobody's */
  uint64_t keeper_opens_used;
  uint64_t keeper_sockets;     /* listening sockets of endpoints that it holds */
  uint64_t store_sockets;
} mapcap_status_info;
#define MAPCAP_STATUS_INFO \
  {sizeof(mapcap_status_info), "", 0, 0, "", 0, {0, 0, 0, 0, 0, 0}, 0, 0, 0, 0, 0, 0, "", "", 0, 0, 0, 0, 0, 0, 0, 0, \
   0, 0, 0, 0}
/* One of the unguarded regions; for administrators, and a hundred at most. */
typedef int (*mapcap_unguarded_visitor)(uint64_t id, const char *name, uint32_t owner, void *context);
/* info and visit may be NULL. */
MAPCAP_C_API int mapcap_status(mapcap_client *client, mapcap_status_info *info, mapcap_unguarded_visitor visit,
                               void *context);

typedef struct mapcap_shutdown_options {
  size_t size;
  int end_regions; /* all regions of volatile memory end first, and the keeper ends too */
  int only_tell;   /* nothing ends: the answer says what would */
} mapcap_shutdown_options;
#define MAPCAP_SHUTDOWN_OPTIONS {sizeof(mapcap_shutdown_options), 0, 0}
typedef struct mapcap_shutdown_info {
  size_t size;
  uint64_t regions;     /* of volatile memory: those that stay with the keeper, or that ended */
  uint64_t users;       /* who own them */
  uint64_t bytes;
  uint64_t lasting;     /* regions of non-volatile memory, which stay as they are */
  uint64_t quarantined; /* of `regions`: devices that somebody still has, which end when he lets go */
} mapcap_shutdown_info;
#define MAPCAP_SHUTDOWN_INFO {sizeof(mapcap_shutdown_info), 0, 0, 0, 0, 0}
/* For administrators: the broker ends, in order, a moment after this has returned. options may be NULL, and info.
 * Errors: `denied`; `busy` when volatile memory has no second holder at the moment and would be lost; `io`. */
MAPCAP_C_API int mapcap_shutdown(mapcap_client *client, const mapcap_shutdown_options *options,
                                 mapcap_shutdown_info *info);

#ifdef __cplusplus
}
#endif

#endif
