// SPDX-License-Identifier: Apache-2.0
#include "filesystem.h"

#include <linux/mount.h>

#include "mounts.h"

namespace init {

// fsconfig copies a value of at most 255 bytes (strndup_user in fs/fsopen.c); overlay's lowerdir can be
// longer.
static constexpr size_t value_max = 255;

struct Option {
  const char* start;
  size_t size;
};

// Takes an option from the front of `data`; commas between double quotes belong to the value (SELinux
// contexts).
static bool take_option(const char*& data, Option& option) {
  while (*data == ',') data++;
  if (*data == 0) return false;
  option.start = data;
  bool quoted = false;
  for (; *data != 0 && (quoted || *data != ','); data++)
    if (*data == '"') quoted = !quoted;
  option.size = static_cast<size_t>(data - option.start);
  return true;
}

bool needs_classic(const Filesystem& filesystem) {
  if ((filesystem.flags & (MS_I_VERSION | MS_POSIXACL)) != 0) return true;
  const char* data = filesystem.data;
  for (Option option; take_option(data, option);)
    if (option.size > value_max) return true;
  return strlen(filesystem.source) > value_max;
}

// The kernel's own words about what it refused, read from the context: "e tmpfs: Unknown parameter 'x'".
static void add_words(Init& init, int context) {
  char message[512];
  const long size = call(SYS_read, context, message, sizeof message - 1);
  if (size <= 2) return;
  message[message[size - 1] == '\n' ? size - 1 : size] = 0;
  init.failure.detail.add(": ").add(message + 2);
}

static Result refused_option(Init& init, int context, const char* option, const char* value) {
  (void)init.failed("fsconfig", option, value);
  init.failure.detail.add("mount option \"").add(option);
  if (value != nullptr) init.failure.detail.add("=").add(value);
  init.failure.detail.add("\" was refused");
  add_words(init, context);
  return Result::failed;
}

static Result set(Init& init, int context, const char* key, const char* value) {
  const long done = value == nullptr ? call(SYS_fsconfig, context, FSCONFIG_SET_FLAG, key, nullptr, 0)
                                     : call(SYS_fsconfig, context, FSCONFIG_SET_STRING, key, value, 0);
  return done < 0 ? refused_option(init, context, key, value) : Result::ok;
}

static Result set_option(Init& init, int context, const Option& option) {
  char key[value_max + 1];
  memcpy(key, option.start, option.size);
  key[option.size] = 0;
  char* value = strchr(key, '=');
  if (value == nullptr) return set(init, context, key, nullptr);
  *value++ = 0;
  const size_t size = strlen(value);
  if (size >= 2 && value[0] == '"' && value[size - 1] == '"') {
    value[size - 1] = 0;
    value++;
  }
  return set(init, context, key, value);
}

static Result configure(Init& init, int context, const Filesystem& filesystem) {
  if (filesystem.source[0] != 0 && set(init, context, "source", filesystem.source) != Result::ok)
    return Result::failed;
  // Flags of the superblock; MS_SILENT only hushes the kernel's log, which this API does not write to.
  static const struct {
    uint64_t flag;
    const char* name;
  } flags[] = {{MS_RDONLY, "ro"},
               {MS_SYNCHRONOUS, "sync"},
               {MS_DIRSYNC, "dirsync"},
               {MS_LAZYTIME, "lazytime"},
               {MS_MANDLOCK, "mand"}};
  for (const auto& row : flags)
    if ((filesystem.flags & row.flag) != 0 && set(init, context, row.name, nullptr) != Result::ok)
      return Result::failed;
  if (filesystem.mode != nullptr && set(init, context, "mode", filesystem.mode) != Result::ok)
    return Result::failed;
  const char* data = filesystem.data;
  for (Option option; take_option(data, option);)
    if (set_option(init, context, option) != Result::ok) return Result::failed;
  if (call(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) < 0) {
    (void)init.failed("fsconfig", Raw{"FSCONFIG_CMD_CREATE"}, filesystem.type, filesystem.data);
    init.failure.detail.add("the file system could not be made");
    add_words(init, context);
    return Result::failed;
  }
  return Result::ok;
}

Result make_mount(Init& init, const Filesystem& filesystem, Fd& mount) {
  const Fd context(call(SYS_fsopen, filesystem.type, FSOPEN_CLOEXEC));
  if (!context) return init.failed("fsopen", filesystem.type);
  if (configure(init, context.get(), filesystem) != Result::ok) return Result::failed;
  mount = Fd(call(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, mount_attributes(filesystem.flags)));
  return mount ? Result::ok
               : init.failed("fsmount", filesystem.type, Hex{mount_attributes(filesystem.flags)});
}

}  // namespace init
