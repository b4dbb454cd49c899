/**
 * Files of the kernel that tell by epoll that they have changed. A source owns its descriptor: it gives it back at
 * `close()`, or by itself when the cgroup is gone.
 */
import { readSync } from 'node:fs';
import { errnoName, isGone, parseFlat } from '../cgroups/file.ts';
import { readOpenFile } from '../cgroups/v2/events.ts';
import type { Binding } from '../native/binding.ts';

export interface Source {
  /** Looks now, without waiting for the event: before the cgroup goes away, what was counted must be told. */
  flush(): void;
  close(): void;
}

const EPOLLIN = 0x1;
const EPOLLPRI = 0x2;
const EPOLLERR = 0x8;
const O_RDONLY = 0;

/** Opens a file of a cgroup; undefined when the kernel or this layout has none, or the cgroup is gone. */
export function openOptional(binding: Binding, path: string, flags = O_RDONLY): number | undefined {
  try {
    return binding.open(path, flags, 0);
  } catch (error) {
    if (isGone(error) || errnoName(error) === 'EOPNOTSUPP') return undefined;
    throw error;
  }
}

/**
 * A file of `key value` lines whose changes kernfs announces with EPOLLPRI (cgroup.events, memory.events, pids.events).
 * Reading from the same open file arms the next announcement; the kernel sends at most one in 10 ms.
 */
export function counterSource(
  binding: Binding,
  path: string,
  onChange: (now: ReadonlyMap<string, bigint>, before: ReadonlyMap<string, bigint>) => void,
  baseline: 'zero' | 'present',
): Source | undefined {
  const fd = openOptional(binding, path);
  if (fd === undefined) return undefined;
  let before: ReadonlyMap<string, bigint> | undefined = baseline === 'zero' ? new Map() : undefined;
  let open = true;
  const close = (): void => {
    if (!open) return;
    open = false;
    watch.close();
    binding.close(fd);
  };
  const flush = (): void => {
    if (!open) return;
    const text = readOpenFile(fd);
    if (text === undefined) {
      close();
      return;
    }
    const now = parseFlat(text);
    const last = before;
    before = now;
    if (last !== undefined) onChange(now, last);
  };
  // Watched first, read second: a change between the two is then seen by one of them.
  const watch = binding.watch(fd, EPOLLPRI, flush);
  flush();
  return { flush, close };
}

/** Something to read means that it has happened: eventfd, inotify. `onReady` gets what was read. */
export function readableSource(
  binding: Binding,
  fd: number,
  onReady: (data: Buffer) => void,
  release: () => void = () => undefined,
  bufferBytes = 4096,
): Source {
  const buffer = Buffer.alloc(bufferBytes);
  let open = true;
  const close = (): void => {
    if (!open) return;
    open = false;
    watch.close();
    binding.close(fd);
    release();
  };
  const watch = binding.watch(fd, EPOLLIN, () => {
    if (!open) return;
    try {
      onReady(buffer.subarray(0, readSync(fd, buffer, 0, buffer.length, null)));
    } catch (error) {
      // EPIPE: /dev/kmsg has overwritten what was not read yet.
      if (!['EAGAIN', 'EPIPE'].includes(errnoName(error))) throw error;
    }
  });
  return { flush: () => undefined, close };
}

/** A PSI trigger: the descriptor is the trigger, and EPOLLPRI its event; EPOLLERR alone says that the cgroup is gone. */
export function prioritySource(binding: Binding, fd: number, onEvent: () => void): Source {
  let open = true;
  const close = (): void => {
    if (!open) return;
    open = false;
    watch.close();
    binding.close(fd);
  };
  const watch = binding.watch(fd, EPOLLPRI, events => {
    if (!open) return;
    if ((events & EPOLLPRI) === 0 || (events & EPOLLERR) !== 0) close();
    else onEvent();
  });
  return { flush: () => undefined, close };
}
