// SPDX-License-Identifier: Apache-2.0
// The init executable: reads a plan (proto/init.proto) from a memfd and does its steps in order. It holds no
// policy. Static, single-threaded, fresh from exec, so nothing of the container's rootfs is ever loaded into
// it. argv: ["init", pipeFd, planFd, firstSlotFd]
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#include "faults.h"
#include "frames.h"
#include "monitor.h"
#include "steps/steps.h"
#include "sys/monitor_protocol.h"

namespace init {

static constexpr size_t max_plan = 16 << 20;

static uint64_t monotonic_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

static int descriptor(const char* text) {
  long value = 0;
  if (*text == 0) return -1;
  for (; *text != 0; text++) {
    if (*text < '0' || *text > '9' || value > 1000000) return -1;
    value = value * 10 + (*text - '0');
  }
  return static_cast<int>(value);
}

// What a Node process changes and a container must not inherit: ignored signals (SIGPIPE) survive an exec,
// signal(7).
static void reset_signals() {
  struct {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)();
    uint64_t mask;
  } action = {};
  for (int signal = 1; signal <= 64; signal++)
    if (signal != SIGKILL && signal != SIGSTOP) call(SYS_rt_sigaction, signal, &action, nullptr, 8);
  const uint64_t none = 0;
  call(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, sizeof none);
}

static Result map_plan(Init& init, int fd) {
  struct stat stat;
  if (fstat(fd, &stat) < 0) return init.failed("fstat", fd);
  if (stat.st_size <= 0 || static_cast<size_t>(stat.st_size) > max_plan)
    return init.refused(EINVAL, "", "the size of the plan is out of range");
  const size_t size = static_cast<size_t>(stat.st_size);
  const void* memory = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (memory == MAP_FAILED) return init.failed("mmap", size, fd);
  call(SYS_close, fd);
  init.plan = Message({static_cast<const uint8_t*>(memory), size});
  // A repeated string costs two bytes on the wire and at most a pointer and 16 rounded bytes here.
  if (!init.arena.reserve(size * 24 + (1 << 20))) return init.failed("mmap", size * 24);
  return Result::ok;
}

static bool texts_valid(const Kind& kind, const Message& message) {
  bool valid = true;
  message.each([&](const Field& field) {
    if (field.type == Wire::bytes && field.number < 32 && (kind.texts >> field.number & 1) != 0)
      valid &= memchr(field.bytes.data, 0, field.bytes.size) == nullptr;
  });
  return valid;
}

// Looks at every step before the first is done: nothing of a malformed plan is ever executed.
static Result check_plan(Init& init, Bytes* steps, const Kind** kinds) {
  if (!init.plan.valid()) return init.refused(EBADMSG, "", "the plan is malformed");
  bool good = true;
  uint32_t count = 0;
  init.plan.each_bytes(1, [&](Bytes bytes) {
    const Message step(bytes);
    Field field;
    Bytes rest = bytes;
    if (count == Init::max_steps || !step.valid() || bytes.size == 0 || !take_field(rest, field) ||
        rest.size != 0 || field.type != Wire::bytes) {
      good = false;
      return;
    }
    const Kind* kind = kind_of(field.number);
    const Message message(field.bytes);
    if (kind == nullptr || !message.valid() || !texts_valid(*kind, message)) {
      good = false;
      return;
    }
    init.waits |= kind->run == steps::wait_start;
    init.forks |= kind->run == steps::fork_into;
    init.filters |= kind->run == steps::seccomp;
    init.needs_procfs |= kind->run == steps::time_namespace || kind->run == steps::sysctl ||
                         kind->run == steps::apparmor || kind->run == steps::selinux ||
                         (kind->run == steps::session_keyring && message.has(2)) ||
                         (kind->run == steps::wait_start && message.has(1));
    if (kind->run == steps::wait_start && message.has(1))
      init.fifo = init.first_slot + static_cast<int>(message.u32(1));
    if (kind->run == steps::exec) init.exec = message;
    kinds[count] = kind;
    steps[count++] = field.bytes;
  });
  init.step_count = count;
  return good ? Result::ok : init.refused(EBADMSG, "", "a step of the plan is malformed or unknown");
}

// A releaser that is killed between its open of exec.fifo and its read would end init by SIGPIPE, and so
// would a parent that has died, for a report behind a filter (write_frame). Set before
// any filter is loaded, and a handler, not SIG_IGN: execve takes it back without one more call (signal(7)).
// Process 1 of a namespace needs none: the kernel drops signals that it has no handler for
// (pid_namespaces(7)).
static void survive_pipe_signal(const Init& init) {
  if ((init.fifo < 0 && !init.filters) || getpid() == 1) return;
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  sigaction(SIGPIPE, &action, nullptr);
}

[[noreturn]] static void run(Init& init, int plan) {
  static Bytes messages[Init::max_steps];
  static const Kind* kinds[Init::max_steps];
  if (map_plan(init, plan) != Result::ok || check_plan(init, messages, kinds) != Result::ok) {
    send_failure(init, 0, "plan");
    leave(1);
  }
  survive_pipe_signal(init);
  Faults faults(init.plan);
  init.faults = &faults;
  uint64_t before = monotonic_ns();
  for (uint32_t i = 0; i < init.step_count; i++) {
    init.arena.reset();
    // Only mounts, one behind the other, know what the others may have changed.
    if (kinds[i]->run != steps::mount) init.made_parent.reset();
    Result result = faults.before(init, kinds[i]->name);
    if (result == Result::ok) result = kinds[i]->run(init, Message(messages[i]));
    if (result != Result::ok) {
      send_failure(init, i, kinds[i]->name);
      leave(1);
    }
    // Where the clock source is not readable from user space the clock is a system call, which a filter may
    // answer with a kill: behind one nothing is timed.
    const uint64_t after = init.filtered ? before : monotonic_ns();
    if (i < Init::max_durations) {
      init.durations[i] = init.clock_moved ? 0 : after - before;
      init.clock_moved = false;
      init.duration_count = i + 1;
    }
    before = after;
  }
  // A plan ends with exec, which does not come back.
  (void)init.refused(EBADMSG, "", "the plan has no exec step");
  send_failure(init, init.step_count, "plan");
  leave(1);
}

}  // namespace init

int main(int argc, char** argv) {
  init::Init state;
  state.executable[0] = state.home[0] = 0;
  // First of all: nobody in a namespace that this process enters may ptrace it or look at its descriptors
  // (CVE-2016-9962). execve of the container's program sets it back.
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  if (argc == 1 && strcmp(argv[0], sys::monitor::name) == 0) {
    init::reset_signals();
    init::monitor();
  }
  if (argc != 4) init::leave(98);
  state.pipe = init::descriptor(argv[1]);
  const int plan = init::descriptor(argv[2]);
  state.first_slot = init::descriptor(argv[3]);
  if (state.pipe < 3 || plan < 3 || state.first_slot < 3) init::leave(98);
  // What lies below the pipe is stdio and what the container shall keep; all else must not survive the exec
  // (CVE-2024-21626).
  if (!init::mark_close_on_exec(static_cast<unsigned>(state.pipe))) init::leave(98);
  init::reset_signals();
  // A session of its own, so that no terminal of the parent is its controlling terminal; PID 1 of a new pid
  // namespace that leads its group already has one.
  init::call(SYS_setsid);
  init::run(state, plan);
}
