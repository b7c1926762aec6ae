/* A part of <mapcap.h>: endpoints, sockets that are an authority. Whoever can connect to one may do what it allows, as far
 * as the policy allows its maker the same, whatever uid he has. He needs nothing of this: MAPCAP_SOCKET names the
 * socket. */
#ifndef MAPCAP_ENDPOINT_H
#define MAPCAP_ENDPOINT_H

#include <mapcap.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MAPCAP_PATH_ROOM 257

enum mapcap_on_end {
  MAPCAP_END_REVOKES = 0, /* what it made ends with it */
  MAPCAP_END_KEEPS = 1    /* what it made is its maker's then, where the policy lets him create it */
};
enum mapcap_endpoint_state { MAPCAP_ENDPOINT_ACTIVE = 0, MAPCAP_ENDPOINT_ENDING = 1, MAPCAP_ENDPOINT_ENDED = 2 };

typedef struct mapcap_endpoint_options {
  size_t size;
  const char *id;            /* 1 to 64 of [a-z0-9._-], the first a letter or a digit; unique among the caller's */
  const char *const *names;  /* globs, and NULL after the last; NULL: all below USER/ID, USER being the caller */
  const char *const *pools;  /* the same; NULL: all */
  const char *const *verbs;  /* the same, of the policy's words; NULL: all about regions, pools and quota */
  const char *const *labels; /* the same, "KEY=VALUE", for policy and audit; NULL: none */
  int rights;
  mapcap_amounts limits; /* its own; the caller is charged as well */
  int64_t ttl_ns;        /* at least a second; 0: it does not end by time */
  int on_end;            /* enum mapcap_on_end */
} mapcap_endpoint_options;
#define MAPCAP_ENDPOINT_OPTIONS \
  {sizeof(mapcap_endpoint_options), NULL, NULL, NULL, NULL, NULL, MAPCAP_READ_WRITE, \
   {MAPCAP_UNLIMITED, MAPCAP_UNLIMITED, MAPCAP_UNLIMITED, MAPCAP_UNLIMITED}, 0, MAPCAP_END_REVOKES}

typedef struct mapcap_endpoint_info {
  size_t size;
  char id[MAPCAP_ENDPOINT_ROOM];
  char directory[MAPCAP_PATH_ROOM]; /* of its socket, mapcap.sock: for a container, by a read-only mount */
  uint32_t maker;                   /* uid */
  uint32_t principal;               /* what its regions' owner, holders and quotas call it */
  int state;                        /* enum mapcap_endpoint_state */
  int rights;
  mapcap_amounts limits;
  mapcap_amounts used;
  int64_t ttl_ns;
  int64_t created_unix_ns;
  int64_t remaining_ns; /* -1: it does not end by time */
  int on_end;
} mapcap_endpoint_info;
#define MAPCAP_ENDPOINT_INFO \
  {sizeof(mapcap_endpoint_info), "", "", 0, 0, 0, 0, {0, 0, 0, 0}, {0, 0, 0, 0}, 0, 0, 0, 0}

/* It listens when this returns. info may be NULL. Errors: `exists`, `invalid`, `over_quota` for too many of them. */
MAPCAP_C_API int mapcap_endpoint_create(mapcap_client *client, const mapcap_endpoint_options *options,
                                        mapcap_endpoint_info *info);

/* Called for each; not 0 ends the walk. */
typedef int (*mapcap_endpoint_visitor)(const mapcap_endpoint_info *info, void *context);
/* The caller's own; every one for an administrator. */
MAPCAP_C_API int mapcap_endpoint_list(mapcap_client *client, mapcap_endpoint_visitor visit, void *context);

enum mapcap_endpoint_text {
  MAPCAP_ENDPOINT_NAME = 0,
  MAPCAP_ENDPOINT_POOL = 1,
  MAPCAP_ENDPOINT_VERB = 2,
  MAPCAP_ENDPOINT_LABEL = 3 /* "KEY=VALUE" */
};
typedef int (*mapcap_endpoint_text_visitor)(int kind, const char *text, void *context);
/* One endpoint; `visit` (may be NULL) is called for each name, pool, verb and label that it has. An administrator names
 * another's as USER/ID. Errors: `not_found`, `invalid` where an id could be several users'. */
MAPCAP_C_API int mapcap_endpoint_show(mapcap_client *client, const char *id, mapcap_endpoint_info *info,
                                      mapcap_endpoint_text_visitor visit, void *context);
/* Restarts its ttl. info may be NULL. Errors: `not_found`, `invalid` for one without. */
MAPCAP_C_API int mapcap_endpoint_renew(mapcap_client *client, const char *id, int64_t ttl_ns,
                                       mapcap_endpoint_info *info);
/* *fd is the caller's to close: a mount of the endpoint's directory that is in no tree. Whoever has it can connect to
 * /proc/self/fd/N/mapcap.sock, and reach nothing else by it. Errors: `not_found`, `busy` while it ends, `exhausted` when
 * the caller was given too many; `unsupported` by a private broker without root: use its path. */
MAPCAP_C_API int mapcap_endpoint_directory(mapcap_client *client, const char *id, int *fd);

typedef struct mapcap_end_options {
  size_t size;
  int revoke_opened; /* not 0: the maker's own regions end too that the endpoint's clients have open */
} mapcap_end_options;
#define MAPCAP_END_OPTIONS {sizeof(mapcap_end_options), 0}
typedef struct mapcap_end_info {
  size_t size;
  uint64_t revoked; /* regions that it made */
  uint64_t kept;    /* those of them that are its maker's now */
  uint64_t held;    /* bytes that stay charged until the last holder lets go */
  uint64_t opened;  /* grants of regions that live on, still with whoever got them through it */
  uint64_t cut;     /* by revoke_opened */
} mapcap_end_info;
#define MAPCAP_END_INFO {sizeof(mapcap_end_info), 0, 0, 0, 0, 0}
/* A region of `opened`; 64 are named at most. */
typedef int (*mapcap_opened_visitor)(const char *name, void *context);
/* When it returns, nobody can connect to the endpoint or is connected by it, and what it made is revoked, or its maker's.
 * options, info and visit may be NULL. Errors: `not_found`; `busy` when an end without revoke_opened is under way; `io` when
 * the broker cannot record it, which can be repeated. */
MAPCAP_C_API int mapcap_endpoint_end(mapcap_client *client, const char *id, const mapcap_end_options *options,
                                     mapcap_end_info *info, mapcap_opened_visitor visit, void *context);

#ifdef __cplusplus
}
#endif

#endif
