/**
 * The kernel's log as an event: on cgroup v1, Linux 6.11 and later no longer announce pids.events, but a cgroup's first
 * refused fork is logged (kernel/cgroup/pids.c pids_event). One descriptor for all listeners of this process.
 */
import { readSync } from 'node:fs';
import { errnoName } from '../cgroups/file.ts';
import type { Binding } from '../native/binding.ts';
import { readableSource, type Source } from './source.ts';

const O_RDONLY_NONBLOCK = 0o4000;
const listeners = new Set<() => void>();
let log: Source | undefined;

const line = 'fork rejected by pids controller';
/** A record is at most 1 KiB (printk.h PRINTKRB_RECORD_MAX), with its head and its dictionary below 8 KiB. */
const recordBytes = 8192;
/** One turn of the event loop does not read a whole old log. */
const recordsPerTurn = 64;

/** What was logged before may be told again: a listener looks at its own counter. */
function readRecords(fd: number, first: Buffer): void {
  const buffer = Buffer.alloc(recordBytes);
  let record = first;
  let wanted = false;
  for (let count = 0; count < recordsPerTurn; count++) {
    wanted ||= record.includes(line);
    try {
      record = buffer.subarray(0, readSync(fd, buffer, 0, buffer.length, null));
    } catch (error) {
      // EPIPE: records were overwritten before we read them; the next read goes on behind them.
      if (errnoName(error) === 'EPIPE') continue;
      if (errnoName(error) === 'EAGAIN') break;
      throw error;
    }
  }
  if (wanted || record.includes(line)) for (const listener of [...listeners]) listener();
}

/** @returns undefined when the log may not be read: CAP_SYSLOG with kernel.dmesg_restrict */
export function refusedForkSource(binding: Binding, onRefusal: () => void): Source | undefined {
  if (log === undefined) {
    let fd: number;
    try {
      fd = binding.open('/dev/kmsg', O_RDONLY_NONBLOCK, 0);
    } catch (error) {
      if (['EPERM', 'EACCES', 'ENOENT', 'ENXIO'].includes(errnoName(error))) return undefined;
      throw error;
    }
    log = readableSource(binding, fd, data => readRecords(fd, data), undefined, recordBytes);
  }
  listeners.add(onRefusal);
  return {
    flush: () => undefined,
    close: () => {
      listeners.delete(onRefusal);
      if (listeners.size > 0) return;
      log?.close();
      log = undefined;
    },
  };
}
