// SPDX-License-Identifier: Apache-2.0
// A directory tree that an archive of somebody else's is written into. Every name is resolved by the kernel
// below the tree's root: a link in the archive leads to a place inside, whatever it says (openat2(2)
// RESOLVE_IN_ROOT); the last component is never followed.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "sys/error.h"
#include "sys/fd.h"

namespace sys {

enum class TreeKind : uint8_t { file, directory, symlink, link, fifo, character, block };

struct TreeEntry {
  // Components with one slash between them, none of them "." or ".."; empty: the root itself.
  std::string path;
  TreeKind kind = TreeKind::file;
  // Of a symbolic link: as it is. Of a hard link: a path as above.
  std::string target;
  mode_t mode = 0;
  // -1: stays as it is, which is the caller's.
  int64_t uid = -1;
  int64_t gid = -1;
  int64_t mtime_ms = 0;
  unsigned major = 0;
  unsigned minor = 0;
  std::vector<std::pair<std::string, std::string>> attributes;
};

struct TreeMade {
  // Of a file: for its content, then finish_entry.
  Fd fd;
  // Of a directory: what finish_entry must find again.
  uint64_t inode = 0;
};

// Makes missing parents (0755) and takes away what is in its place, unless both are directories. Files and
// directories are then open to their owner alone until finish_entry; the others are finished.
Status make_entry(TreeMade& out, int root, const TreeEntry& entry);
// Owner, mode, attributes, time. Without `fd` the directory `inode` is looked for by its path; one that has
// been replaced since is left alone. `refused`: attributes that this file system or this user cannot have.
Status finish_entry(int root, const TreeEntry& entry, Fd fd, uint64_t inode,
                    std::vector<std::string>& refused);
// With everything in it; a path that does not exist is fine. `keep`: only what is in it.
Status remove_entry(int root, const std::string& path, bool keep);
// A file of a directory that others may have made: no link leads out of it.
Status open_beneath(Fd& out, int directory, const std::string& path, int flags);

}  // namespace sys
