// SPDX-License-Identifier: Apache-2.0
// hostname, domainname, sysctl, labels: what the container is called, and kernel settings of its namespaces.
#include "../procfs.h"
#include "steps.h"

namespace init {

Result steps::hostname(Init& init, const Message& message) {
  const Bytes name = message.bytes(1);
  return call(SYS_sethostname, name.data, name.size) < 0 ? init.failed("sethostname", init.text(message, 1))
                                                         : Result::ok;
}

Result steps::domainname(Init& init, const Message& message) {
  const Bytes name = message.bytes(1);
  return call(SYS_setdomainname, name.data, name.size) < 0
             ? init.failed("setdomainname", init.text(message, 1))
             : Result::ok;
}

// Whole names only: "net/../../sysrq-trigger" must not leave /proc/sys (CVE-2022-0811 was such a name).
static bool plain_name(const char* name) {
  if (name[0] == 0) return false;
  for (;;) {
    const size_t length = strcspn(name, "/");
    if (length == 0 || (length == 1 && name[0] == '.') || (length == 2 && name[0] == '.' && name[1] == '.'))
      return false;
    if (name[length] == 0) return true;
    name += length + 1;
  }
}

Result steps::sysctl(Init& init, const Message& message) {
  const char* name = init.text(message, 1);
  if (!plain_name(name) || strlen(name) > 1024) return init.refused(EINVAL, "ERR_ESCAPE", name);
  Text<1100> path;
  path.add("sys/").add(name);
  return write_proc(init, path.c_str(), init.text(message, 2));
}

// Takes effect at execve. attr/apparmor is the directory of kernels with stacked security modules (5.8); only
// when it is not there the file is the one that all modules share. A profile that is not loaded is ENOENT of
// the write: that must not be looked for elsewhere.
Result steps::apparmor(Init& init, const Message& message) {
  const Bytes label = message.bytes(1);
  char* value = static_cast<char*>(init.arena.take(label.size + 8));
  strcpy(value, "exec ");
  strcat(value, init.text(message, 1));
  if (write_proc(init, "self/attr/apparmor/exec", value) == Result::ok) return Result::ok;
  if (init.failure.error != ENOENT || strcmp(init.failure.call, "write") == 0)
    return init.because("ERR_LABEL", "");
  if (write_proc(init, "self/attr/exec", value) == Result::ok) return Result::ok;
  // Where no module knows the words nothing confines: that is what was asked for.
  if (init.failure.error == EINVAL && strcmp(value, "exec unconfined") == 0) return Result::ok;
  return init.because("ERR_LABEL", "");
}

Result steps::selinux(Init& init, const Message& message) {
  return write_proc(init, "self/attr/exec", init.text(message, 1)) == Result::ok
             ? Result::ok
             : init.because("ERR_LABEL", "");
}

}  // namespace init
