/* A unit test's own broker, from C89: prints what is not as it should be and ends with 1.
 *
 *     private_broker COMMAND         starts and uses some, by that command line tool
 *     private_broker COMMAND die     is killed while it has one
 */
#include <mapcap.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int wrong = 0;

static void expect(int is_so, int line, const char* what) {
  if (is_so) return;
  wrong = 1;
  printf("private_broker.c:%d: %s; last error %s: %s\n", line, what, mapcap_code_name(mapcap_error_code()),
         mapcap_error_sentence());
}
#define EXPECT(condition) expect((condition) != 0, __LINE__, #condition)

/* A connection to it, and a region there that is mapped; the mapping is the caller's. */
static mapcap_mapping* use(const mapcap_dev* dev) {
  mapcap_connect_options connect = MAPCAP_CONNECT_OPTIONS;
  mapcap_create_options what = MAPCAP_CREATE_OPTIONS;
  mapcap_client* client = NULL;
  mapcap_grant* grant = NULL;
  mapcap_mapping* mapping = NULL;
  connect.socket = mapcap_dev_socket(dev);
  what.name = "anybody/region";
  what.bytes = 4096;
  what.lifetime = MAPCAP_PERSISTENT; /* else it ends, and is zeroed, with its connection */
  EXPECT(mapcap_connect(&connect, &client) == MAPCAP_OK);
  EXPECT(mapcap_create_grant(client, &what, MAPCAP_READ_WRITE, &grant) == MAPCAP_OK);
  EXPECT(mapcap_map(grant, MAPCAP_READ_WRITE, &mapping) == MAPCAP_OK);
  if (mapping != NULL) strcpy(mapcap_address(mapping), "kept");
  mapcap_grant_close(grant);
  mapcap_disconnect(client);
  return mapping;
}

static void start_and_use(const char* command) {
  mapcap_dev_options options = MAPCAP_DEV_OPTIONS;
  mapcap_dev *one, *other;
  mapcap_mapping *mapping, *second;
  pid_t child;
  int status = -1;
  options.command = command;
  EXPECT(mapcap_dev_start(&options, &one) == MAPCAP_OK);
  EXPECT(mapcap_dev_start(&options, &other) == MAPCAP_OK);
  if (one == NULL || other == NULL) return;
  EXPECT(strcmp(mapcap_dev_socket(one), mapcap_dev_socket(other)) != 0);
  mapping = use(one);
  second = use(other); /* the same name: it is another broker */
  /* A child may leave its copy behind, and may even stop it: it is its parent's. */
  child = fork();
  if (child == 0) {
    mapcap_dev_stop(one);
    _exit(0);
  }
  EXPECT(waitpid(child, &status, 0) == child && status == 0);
  EXPECT(access(mapcap_dev_socket(one), F_OK) == 0);
  mapcap_dev_stop(one);
  EXPECT(access(mapcap_dev_socket(other), F_OK) == 0);
  mapcap_dev_stop(other);
  EXPECT(mapping != NULL && strcmp(mapcap_address(mapping), "kept") == 0);
  EXPECT(second != NULL && strcmp(mapcap_address(second), "kept") == 0);
  mapcap_unmap(mapping);
  mapcap_unmap(second);
  mapcap_dev_stop(NULL);
}

static void refusals(const char* command) {
  mapcap_dev_options options = MAPCAP_DEV_OPTIONS;
  mapcap_dev* dev;
  options.command = "/nonexistent/mapcap";
  EXPECT(mapcap_dev_start(&options, &dev) == MAPCAP_ERROR_NOT_FOUND && dev == NULL);
  EXPECT(strstr(mapcap_error_sentence(), "/nonexistent/mapcap") != NULL);
  options.command = "false"; /* It ends without a word. */
  EXPECT(mapcap_dev_start(&options, &dev) == MAPCAP_ERROR_UNAVAILABLE && dev == NULL);
  options.command = command;
  options.start_within_ms = 0;
  EXPECT(mapcap_dev_start(&options, &dev) == MAPCAP_ERROR_INVALID && dev == NULL);
  options.start_within_ms = 60000;
  options.size = 0;
  EXPECT(mapcap_dev_start(&options, &dev) == MAPCAP_ERROR_INVALID && dev == NULL);
  EXPECT(mapcap_dev_start(NULL, NULL) == MAPCAP_ERROR_INVALID);
}

int main(int argc, char** argv) {
  mapcap_dev_options options = MAPCAP_DEV_OPTIONS;
  mapcap_dev* dev;
  if (argc < 2) {
    fprintf(stderr, "usage: private_broker COMMAND [die]\n");
    return 2;
  }
  if (argc > 2) {
    options.command = argv[1];
    EXPECT(mapcap_dev_start(&options, &dev) == MAPCAP_OK);
    if (dev == NULL) return 1;
    mapcap_unmap(use(dev));
    if (wrong == 0) kill(getpid(), SIGKILL);
    return 1;
  }
  start_and_use(argv[1]);
  refusals(argv[1]);
  return wrong;
}
