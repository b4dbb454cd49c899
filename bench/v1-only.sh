#!/bin/sh
# Runs "$@" where only the cgroup v1 hierarchies are visible: crun 1.8 refuses a hybrid host. All candidates run here, so
# that nobody joins one hierarchy more than another. A private mount namespace with a tmpfs of its own on /sys/fs/cgroup
# and binds of the hierarchies: nothing of the host is changed. Links (cpu -> cpu,cpuacct) are kept.
set -e
if [ "$LIBCONTAINER_BENCH_V1" != 1 ]; then
  LIBCONTAINER_BENCH_V1=1 exec unshare --mount --propagation private sh "$0" "$@"
fi
unset LIBCONTAINER_BENCH_V1
top=$(mktemp -d)
mount -t tmpfs -o mode=755 cgroup "$top"
for path in /sys/fs/cgroup/*; do
  name=${path##*/}
  if [ -L "$path" ]; then
    ln -s "$(readlink "$path")" "$top/$name"
  elif [ "$(stat -f -c %t "$path")" = 27e0eb ]; then
    mkdir "$top/$name"
    mount --bind "$path" "$top/$name"
  fi
done
mount --move "$top" /sys/fs/cgroup
rmdir "$top"
exec "$@"
