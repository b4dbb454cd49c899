// SPDX-License-Identifier: Apache-2.0
// overlay: a file system of layers on top of the rootfs that openRootfs has opened.
// https://docs.kernel.org/filesystems/overlayfs.html
#include <linux/mount.h>
#include <sys/stat.h>

#include "../filesystem.h"
#include "../mounts.h"
#include "../procfs.h"
#include "../views.h"
#include "steps.h"

namespace init {

namespace {

constexpr size_t max_lower = 256;
constexpr size_t upper_index = max_lower, work_index = max_lower + 1;

struct Layers {
  Fd fds[max_lower + 2];
  size_t lower = 0;
  Fd memory;
};

// As the rootfs: the names were free of links when the configuration was made. In a user namespace the
// parent has opened them, in this order.
Result open_layer(Init& init, const Message& message, uint32_t order, const char* path, Fd& layer) {
  uint32_t at = 0;
  message.each_number(7, [&](uint64_t view) {
    if (at++ == order) layer = take_view(init, static_cast<uint32_t>(view));
  });
  if (at == 0) layer = Fd(call(SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  return layer ? Result::ok : init.failed("open", path, Raw{"O_PATH|O_DIRECTORY|O_NOFOLLOW"});
}

Result open_layers(Init& init, const Message& message, Layers& layers) {
  Result result = Result::ok;
  uint32_t order = 0;
  message.each_bytes(2, [&](Bytes path) {
    if (result != Result::ok) return;
    result = layers.lower == max_lower
                 ? init.refused(E2BIG, "", "more than 256 layers")
                 : open_layer(init, message, order++, init.arena.text(path), layers.fds[layers.lower++]);
  });
  if (result != Result::ok || !message.has(3)) return result;
  if (open_layer(init, message, order++, init.text(message, 3), layers.fds[upper_index]) != Result::ok)
    return Result::failed;
  return open_layer(init, message, order, init.text(message, 4), layers.fds[work_index]);
}

// A new mount on top of `on`. mount(2) gives no descriptor: the name of the rootfs is then walked once more.
Result put(Init& init, const Filesystem& filesystem, int on, const char* path, Fd& mount) {
  if (!needs_classic(filesystem)) {
    if (make_mount(init, filesystem, mount) == Result::ok &&
        attach(init, mount.get(), on, path) == Result::ok)
      return Result::ok;
    if (!denied(init)) return Result::failed;
  }
  if (classic_mount(init, filesystem.source, on, path, filesystem.type, filesystem.flags, filesystem.data) !=
      Result::ok)
    return Result::failed;
  mount = Fd(call(SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  return mount ? Result::ok : init.failed("open", path, Raw{"O_PATH|O_DIRECTORY|O_NOFOLLOW"});
}

Result make_directory(Init& init, const Layers& layers, const char* name, mode_t mode, Fd& fd) {
  const int memory = layers.memory.get();
  if (call(SYS_mkdirat, memory, name, mode) < 0) return init.failed("mkdirat", Raw{"tmpfs"}, name);
  fd = Fd(call(SYS_openat, memory, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  return fd ? Result::ok : init.failed("openat", Raw{"tmpfs"}, name);
}

// Attached, not detached: until Linux 6.15 a layer must be in our mount namespace (clone_private_mount in
// fs/namespace.c). Below the overlay nobody can reach it by a name, and it goes with the old root.
Result make_memory(Init& init, const Message& message, const char* path, Layers& layers) {
  const Filesystem tmpfs = {"tmpfs", "tmpfs", 0, init.text(message, 6), nullptr};
  if (put(init, tmpfs, init.root.get(), path, layers.memory) != Result::ok) return Result::failed;
  // The root directory of the whole is the upper one: it looks as the topmost lower one does.
  struct stat stat;
  if (fstat(layers.fds[0].get(), &stat) < 0) return init.failed("fstat", path);
  if (make_directory(init, layers, "upper", stat.st_mode & 07777, layers.fds[upper_index]) != Result::ok ||
      make_directory(init, layers, "work", 0700, layers.fds[work_index]) != Result::ok)
    return Result::failed;
  // An owner without an id in this user namespace cannot be given (user_namespaces(7)): it is root's then.
  if (call(SYS_fchownat, layers.memory.get(), "upper", stat.st_uid, stat.st_gid, 0) < 0 && errno != EINVAL &&
      errno != EPERM)
    return init.failed("fchownat", Raw{"tmpfs"}, "upper");
  return Result::ok;
}

// By descriptor, so that no path is walked again, ':' and ',' in one mean nothing, and the container's
// mountinfo tells no path of the host.
void add_layer(Text<4096>& options, const char* before, const Fd& layer) {
  options.add(before).add("self/fd/").number(static_cast<uint64_t>(layer.get()));
}

}  // namespace

Result steps::overlay(Init& init, const Message& message) {
  const char* path = init.text(message, 1);
  Layers layers;
  if (open_procfs(init) != Result::ok || open_layers(init, message, layers) != Result::ok)
    return Result::failed;
  if (layers.lower == 0) return init.refused(EBADMSG, "", "an overlay without a lower layer");
  // What is mounted on a shared mount appears on the host, and pivot_root refuses a root whose parent is
  // shared.
  if (set_propagation(init, init.root.get(), MS_PRIVATE, path) != Result::ok) return Result::failed;
  // For the names of the layers: self/fd/N.
  if (call(SYS_fchdir, init.procfs.get()) < 0) return init.failed("fchdir", Raw{"procfs"});
  const bool memory = !message.has(3);
  if (memory && make_memory(init, message, path, layers) != Result::ok) return Result::failed;
  Text<4096> options;
  for (size_t i = 0; i < layers.lower; i++) add_layer(options, i == 0 ? "lowerdir=" : ":", layers.fds[i]);
  add_layer(options, ",upperdir=", layers.fds[upper_index]);
  add_layer(options, ",workdir=", layers.fds[work_index]);
  const char* more = init.text(message, 5);
  if (more[0] != 0) options.add(",").add(more);
  if (options.cut()) return init.refused(E2BIG, "", "the options of the overlay do not fit into a page");
  Fd mount;
  const Filesystem filesystem = {"overlay", "overlay", 0, options.c_str(), nullptr};
  if (put(init, filesystem, memory ? layers.memory.get() : init.root.get(), path, mount) != Result::ok)
    return Result::failed;
  if (call(SYS_fchdir, mount.get()) < 0) return init.failed("fchdir", path);
  init.root = static_cast<Fd&&>(mount);
  return Result::ok;
}

}  // namespace init
