// SPDX-License-Identifier: Apache-2.0
#include "executable.h"

#include <elf.h>
#include <sys/stat.h>

namespace init {

#if defined(__x86_64__)
static constexpr uint16_t machines[] = {EM_X86_64, EM_386};
#elif defined(__aarch64__)
static constexpr uint16_t machines[] = {EM_AARCH64, EM_ARM};
#else
#error "unknown architecture"
#endif

static Result say(Init& init, int error, const char* reason, const char* path, const char* words,
                  const char* what = "") {
  errno = error;
  (void)init.failed("execve", path);
  (void)init.because(reason, "");
  init.failure.detail.add(path).add(words).add(what);
  return Result::failed;
}

static Result missing_interpreter(Init& init, const char* path, const char* interpreter) {
  if (call(SYS_faccessat, AT_FDCWD, interpreter, F_OK) == 0 || errno != ENOENT) return Result::ok;
  return say(init, ENOENT, "ERR_EXEC_INTERPRETER", path, ": its interpreter does not exist: ", interpreter);
}

// "#!" to the end of the line; the interpreter is the first word. A carriage return belongs to it, execve(2).
static Result look_at_script(Init& init, const char* path, char* text, size_t size) {
  size_t at = 2;
  while (at < size && (text[at] == ' ' || text[at] == '\t')) at++;
  size_t end = at;
  while (end < size && text[end] != ' ' && text[end] != '\t' && text[end] != '\n' && text[end] != 0) end++;
  if (end == at) return say(init, ENOEXEC, "ERR_EXEC_FORMAT", path, ": the #! line names no interpreter");
  if (end == size) return Result::ok;
  const bool carriage = text[end - 1] == '\r';
  text[end] = 0;
  const Result result = missing_interpreter(init, path, text + at);
  if (result != Result::ok && carriage) {
    init.failure.detail.clear();
    init.failure.detail.add(path).add(
        ": the #! line ends with a carriage return (CRLF), which belongs to the name of the interpreter");
  }
  return result;
}

template <typename Header, typename Segment>
static Result look_at_elf(Init& init, const char* path, int file, const char* data) {
  Header header;
  memcpy(&header, data, sizeof header);
  bool known = false;
  for (const uint16_t machine : machines) known |= header.e_machine == machine;
  if (!known) return say(init, ENOEXEC, "ERR_EXEC_FORMAT", path, ": it is for another machine");
  if (header.e_phentsize != sizeof(Segment)) return Result::ok;
  for (unsigned i = 0; i < header.e_phnum && i < 128; i++) {
    Segment segment;
    const uint64_t offset = static_cast<uint64_t>(header.e_phoff) + i * sizeof segment;
    if (call(SYS_pread64, file, &segment, sizeof segment, offset) != static_cast<long>(sizeof segment))
      return Result::ok;
    if (segment.p_type != PT_INTERP) continue;
    char name[4096];
    const size_t size =
        segment.p_filesz < sizeof name ? static_cast<size_t>(segment.p_filesz) : sizeof name - 1;
    const long got = call(SYS_pread64, file, name, size, segment.p_offset);
    if (got <= 0) return Result::ok;
    name[got < static_cast<long>(sizeof name) ? got : static_cast<long>(sizeof name) - 1] = 0;
    return missing_interpreter(init, path, name);
  }
  return Result::ok;
}

Result diagnose(Init& init, const char* path, int error) {
  struct stat stat;
  if (fstatat(AT_FDCWD, path, &stat, 0) < 0) {
    const int seen = errno;
    if (seen == ENOENT || seen == ENOTDIR) return say(init, seen, "ERR_EXEC_NO_FILE", path, "");
    return say(init, seen, "ERR_EXEC_PERMISSION", path, "");
  }
  if (!S_ISREG(stat.st_mode))
    return say(init, EACCES, "ERR_EXEC_PERMISSION", path,
               S_ISDIR(stat.st_mode) ? ": is a directory" : ": is not a regular file");
  // With the effective ids: what execve will look at. EPERM is a sandbox that does not know this call.
  if (call(SYS_faccessat2, AT_FDCWD, path, X_OK, AT_EACCESS) < 0 && errno == EACCES)
    return say(init, EACCES, "ERR_EXEC_PERMISSION", path, "");
  // Only execve's own word counts for a file that we may not read.
  const Fd file(call(SYS_openat, AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  char head[256] = {0};
  const long size = file ? call(SYS_pread64, file.get(), head, sizeof head - 1, 0) : -1;
  if (size >= 2 && head[0] == '#' && head[1] == '!') {
    if (look_at_script(init, path, head, static_cast<size_t>(size)) != Result::ok) return Result::failed;
  } else if (size >= static_cast<long>(sizeof(Elf32_Ehdr)) && memcmp(head, ELFMAG, SELFMAG) == 0) {
    const bool wide = head[EI_CLASS] == ELFCLASS64 && size >= static_cast<long>(sizeof(Elf64_Ehdr));
    if ((wide ? look_at_elf<Elf64_Ehdr, Elf64_Phdr>(init, path, file.get(), head)
              : look_at_elf<Elf32_Ehdr, Elf32_Phdr>(init, path, file.get(), head)) != Result::ok)
      return Result::failed;
  }
  if (error == ENOEXEC) return say(init, ENOEXEC, "ERR_EXEC_FORMAT", path, "");
  if (error == ENOENT) return say(init, ENOENT, "ERR_EXEC_NO_FILE", path, "");
  if (error == EACCES || error == EPERM) return say(init, error, "ERR_EXEC_PERMISSION", path, "");
  return Result::ok;
}

}  // namespace init
