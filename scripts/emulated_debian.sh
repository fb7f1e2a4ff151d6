#!/usr/bin/env bash
# emulated_debian.sh [--bind FROM:TO]... [--writable FROM:TO]... ARCHITECTURE COMMAND...: runs a command in a Debian of another architecture (riscv64, aarch64).
#
# The first call makes it, in some minutes, below the user's cache: Debian trixie with Python and those packages that PerfXLM needs.
# This checkout is seen there as /checkout, read-only, as are files and folders of --bind. QEMU_CPU says which processor it is.
# It must be root, for it mounts; debootstrap, unshare and apt must be installed. Packages come from this machine's own Debian mirror.
set -euo pipefail
cd "$(dirname "$0")/.."
suite=trixie
packages="python3 python3-venv python3-pip python3-numpy python3-cffi python3-pydantic python3-pluggy python3-jinja2 python3-rich python3-yaml
  python3-sentencepiece"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/perfxapi"

fail() { echo "emulated_debian.sh: $*" >&2; exit 1; }

binds=("ro:$PWD:/checkout")
while [[ ${1:-} == --bind || ${1:-} == --writable ]]; do
  if [[ $1 == --bind ]]; then binds+=("ro:$2"); else binds+=("rw:$2"); fi
  shift 2
done
architecture=${1:?an architecture: riscv64 or aarch64}
shift
case $architecture in
  riscv64) debian=riscv64 elf_machine='\xf3' ;;
  aarch64) debian=arm64 elf_machine='\xb7' ;;
  *) fail "no emulation of $architecture is known; there are riscv64 and aarch64" ;;
esac
root="$cache/debian-$suite-$debian"
emulator="$cache/qemu/usr/bin/qemu-$architecture"
handlers=/proc/sys/fs/binfmt_misc

[[ $(id -u) -eq 0 ]] || fail "must be run as root: it mounts file systems and registers the emulator with the kernel"
for tool in debootstrap unshare apt-get dpkg-deb; do
  command -v "$tool" >/dev/null || fail "$tool is not installed; on Debian: apt-get install debootstrap util-linux apt dpkg"
done
mkdir -p "$cache"

debian_mirror() {
  # shellcheck disable=SC2016
  apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' | awk '$1 == "Debian" && !found { print $2; found = 1 }'
}

# The emulator of the same Debian: what older ones lack (hwprobe, half-precision vectors) decides which kernels run.
make_emulator() {
  local work
  work=$(mktemp -d)
  mkdir -p "$work/lists/partial" "$work/archives/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$work/sources.list"
  local options=(-qq -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$work/lists"
    -o "Dir::Cache=$work" -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update
  (cd "$work" && apt-get "${options[@]}" download qemu-user)
  dpkg-deb --extract "$work"/qemu-user_*.deb "$work/qemu"
  find "$work/qemu" -type f ! -name qemu-riscv64 ! -name qemu-aarch64 -delete
  mv "$work/qemu" "$cache/qemu"
  rm -r "$work"
}

# The flags: F opens the emulator now, so that it is found in the other root; P keeps a program's own name.
register_emulator() {
  [[ -e $handlers/register ]] || mount -t binfmt_misc binfmt_misc "$handlers" || fail "the kernel has no binfmt_misc"
  [[ -e $handlers/perfxapi-$architecture ]] && return
  local magic="\\x7fELF\\x02\\x01\\x01$(printf '\\x00%.0s' {1..9})\\x02\\x00$elf_machine\\x00"
  local mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  echo ":perfxapi-$architecture:M::$magic:$mask:$emulator:PF" >"$handlers/register"
}

# debootstrap alone would install the packages too, but knows no virtual ones. Python compiles a module when it is first
# imported: all modules of all packages at once take the emulator many minutes. Nor need each file be on the disk at once.
make_root() {
  echo "making a Debian $suite for $debian in $root; $cache/debian-$debian.log tells more" >&2
  rm -rf "$root.partial"
  {
    debootstrap "--arch=$debian" --variant=minbase --include=ca-certificates "$suite" "$root.partial" "$mirror"
    echo force-unsafe-io >"$root.partial/etc/dpkg/dpkg.cfg.d/unsafe-io"
    chroot "$root.partial" dpkg-divert --local --rename --add /usr/bin/py3compile
    ln -s true "$root.partial/usr/bin/py3compile"
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8 chroot "$root.partial" apt-get -qq -y --no-install-recommends install $packages
  } >"$cache/debian-$debian.log" 2>&1 || fail "the Debian could not be made: see $cache/debian-$debian.log"
  rm -rf "$root.partial"/var/cache/apt/archives/*.deb
  mv "$root.partial" "$root"
}

mirror=$(debian_mirror)
[[ -n $mirror ]] || fail "apt knows no Debian mirror on this machine"
# One maker at a time; whoever comes meanwhile waits.
{
  flock 9
  [[ -x $emulator ]] || make_emulator
} 9>"$cache/emulator.lock"
register_emulator
{
  flock 9
  [[ -d $root ]] || make_root
} 9>"$cache/debian-$debian.lock"

# In a mount namespace of its own, so that nothing stays mounted. Names are resolved and certificates checked as outside.
export root binds_list="${binds[*]}" HOME=/tmp LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
exec unshare --mount --propagation private bash -euc '
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  [[ ! -e /etc/resolv.conf ]] || { : >>"$root/etc/resolv.conf"; mount --bind /etc/resolv.conf "$root/etc/resolv.conf"; }
  [[ ! -d /etc/ssl/certs ]] || { mkdir -p "$root/etc/ssl/certs"; mount --rbind /etc/ssl/certs "$root/etc/ssl/certs"; }
  for bind in $binds_list; do
    mode=${bind%%:*} from_to=${bind#*:}
    from=${from_to%%:*} to=$root${from_to#*:}
    if [[ -d $from ]]; then mkdir -p "$to"; else mkdir -p "${to%/*}"; : >>"$to"; fi
    mount --bind "$from" "$to"
    mount -o "remount,bind,$mode" "$to"
  done
  exec chroot "$root" "$@"' emulated "$@"
