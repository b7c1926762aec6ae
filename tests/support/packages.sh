# Sourced by examples/quickstart.sh and tests/check.sh: root, packages, and words on a terminal.

say() { printf '\033[1m== %s\033[0m\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# Runs the calling script again as root where it is not, if sudo exists.
become_root() {
  [ "$(id -u)" -eq 0 ] && return
  command -v sudo >/dev/null || die "needs root (it mounts FUSE and installs packages), and sudo is not installed: run it as root"
  exec sudo --preserve-env=MAPCAP_VM_CACHE,CI "$(readlink -f "$0")" "$@"
}

build_packages="g++ cmake ninja-build pkg-config git ca-certificates libboost1.81-dev libpmem2-dev capnproto libcapnp-dev
  libtomlplusplus-dev libcli11-dev nlohmann-json3-dev libsystemd-dev libcap-ng-dev libseccomp-dev libisal-dev liburing-dev
  libbpf-dev libndctl-dev libdaxctl-dev clang scdoc"
test_packages="libgtest-dev libgmock-dev libbenchmark-dev libmemkind-dev clang-tidy clang-format libclang-rt-14-dev python3 procps util-linux
  e2fsprogs xfsprogs qemu-system-x86 busybox-static kmod cpio xz-utils ndctl daxctl bpftool ccache llvm lld shellcheck
  mypy python3-numpy dpkg-dev runc strace zsh fish python3-venv"
system_packages="systemd-container debootstrap"
bench_packages="dbus-daemon"
program_packages="memcached sqlite3 python3-lmdb file openjdk-17-jdk-headless"

# install_packages NAME...: only what is missing, so that a second run needs no network.
install_packages() {
  command -v apt-get >/dev/null || die "installs its packages with apt-get, and this is not a Debian: install by hand: $*"
  local missing="" package
  for package in "$@"; do
    dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
  done
  [ -z "$missing" ] && return
  say "installing$missing"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq || die "apt-get update failed: is there a network and a Debian mirror in /etc/apt?"
  # shellcheck disable=SC2086
  apt-get install -y -qq --no-install-recommends $missing >/dev/null || die "apt-get could not install:$missing"
}
