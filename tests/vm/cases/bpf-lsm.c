// The smallest LSM program with a visible effect: nobody may set the clock. For cases/bpf-lsm.sh.

__attribute__((section("lsm/settime"), used)) int refuse_settime(void* context) {
  (void)context;
  return -1;  // EPERM
}

__attribute__((section("license"), used)) const char gpl[] = "GPL";
