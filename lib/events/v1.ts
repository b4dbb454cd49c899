/**
 * Events of cgroup v1: an eventfd registered in cgroup.event_control for OOM and memory pressure (kernel
 * cgroup-v1/memory.rst sections 10 and 11), kernfs announcements of pids.events, inotify on freezer.state.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isGone, parseFlat, readCgroupFileNow } from '../cgroups/file.ts';
import type { FreezerState } from '../cgroups/manager.ts';
import { freezerStateV1 } from '../cgroups/v1/freezer.ts';
import { LibcontainerError } from '../errors.ts';
import type { Binding } from '../native/binding.ts';
import type { CgroupEvent, PressureLevel } from './event.ts';
import { refusedForkSource } from './kernel-log.ts';
import { counterSource, openOptional, readableSource, type Source } from './source.ts';
import { emitPidsChanges } from './v2.ts';

type Emit = (event: CgroupEvent) => void;

const IN_MODIFY = 0x2;
const IN_DELETE_SELF = 0x400;

/** An eventfd that the kernel signals for `file`; undefined when the cgroup or the file is gone. */
function eventControl(
  binding: Binding,
  directory: string,
  file: string,
  extra: string,
  onEvent: (count: bigint) => void,
): Source | undefined {
  const target = openOptional(binding, join(directory, file));
  if (target === undefined) return undefined;
  const fd = binding.eventfd();
  try {
    writeFileSync(join(directory, 'cgroup.event_control'), `${fd} ${target}${extra}`, { flag: 'r+' });
  } catch (error) {
    binding.close(fd);
    binding.close(target);
    if (isGone(error)) return undefined;
    throw error;
  }
  const source = readableSource(
    binding,
    fd,
    data => {
      // A removed cgroup signals its eventfds too.
      if (readCgroupFileNow(join(directory, 'cgroup.clone_children')) === undefined) source.close();
      else onEvent(data.readBigUInt64LE(0));
    },
    () => binding.close(target),
  );
  return source;
}

/** The kernel announces an OOM before it kills; the kills are counted since 4.13 and read with each event and at the end. */
function oomSource(
  binding: Binding,
  directory: string,
  emit: Emit,
  baseline: 'zero' | 'present',
): Source | undefined {
  const kills = (): bigint =>
    parseFlat(readCgroupFileNow(join(directory, 'memory.oom_control'))).get('oom_kill') ?? 0n;
  let ooms = 0n;
  let told = baseline === 'zero' ? 0n : kills();
  const flush = (): void => {
    const total = kills();
    if (total <= told) return;
    // Killed before the eventfd was there: the OOM itself is told too.
    if (ooms === 0n) oom(1n, total);
    emit({ type: 'memory', event: 'oom_kill', count: total - told, total });
    told = total;
  };
  const oom = (count: bigint, total: bigint): void => {
    ooms += count;
    emit({ type: 'memory', event: 'oom', count, total: ooms });
    emit({ type: 'oom', kills: total });
  };
  const source = eventControl(binding, directory, 'memory.oom_control', '', count => {
    oom(count, kills());
    flush();
  });
  if (source === undefined) return undefined;
  flush();
  return { flush, close: () => source.close() };
}

const settleMs = [1, 2, 5, 10, 20, 50, 100, 200, 500];

/**
 * freezer.state has no announcement of its own, but inotify sees every write to it, whoever freezes. The write of FROZEN
 * begins the freezing; its end is looked for a few times, since whoever froze may not write again.
 */
function freezerSource(binding: Binding, directory: string, emit: Emit): Source | undefined {
  let fd: number;
  try {
    fd = binding.inotify(join(directory, 'freezer.state'), IN_MODIFY | IN_DELETE_SELF);
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
  let told: FreezerState = freezerStateV1(directory);
  let timer: NodeJS.Timeout | undefined;
  const look = (tries: number): void => {
    clearTimeout(timer);
    const state = freezerStateV1(directory);
    const pauseMs = settleMs[tries];
    if (state === 'freezing') {
      if (pauseMs !== undefined) timer = setTimeout(() => look(tries + 1), pauseMs);
      return;
    }
    if (state === told) return;
    told = state;
    emit({ type: state });
  };
  return readableSource(
    binding,
    fd,
    () => look(0),
    () => clearTimeout(timer),
  );
}

/** Announced before Linux 6.11; from then on the kernel's log tells the first refusal, and the counter is read at the end. */
function pidsSource(
  binding: Binding,
  directory: string,
  emit: Emit,
  baseline: 'zero' | 'present',
): Source | undefined {
  const counter = counterSource(
    binding,
    join(directory, 'pids.events'),
    (now, before) => emitPidsChanges(now, before, emit),
    baseline,
  );
  if (counter === undefined) return undefined;
  const log = refusedForkSource(binding, () => counter.flush());
  return {
    flush: () => counter.flush(),
    close: () => {
      counter.close();
      log?.close();
    },
  };
}

export function v1Sources(
  binding: Binding,
  paths: { readonly [controller: string]: string },
  emit: Emit,
  baseline: 'zero' | 'present',
): Source[] {
  const { memory, pids, freezer } = paths;
  const sources = [
    memory === undefined ? undefined : oomSource(binding, memory, emit, baseline),
    pids === undefined ? undefined : pidsSource(binding, pids, emit, baseline),
    freezer === undefined ? undefined : freezerSource(binding, freezer, emit),
  ];
  return sources.filter(source => source !== undefined);
}

/** @throws {LibcontainerError} ERR_UNSUPPORTED when the kernel has no memory.pressure_level */
export function pressureLevelSource(
  binding: Binding,
  directory: string | undefined,
  level: PressureLevel,
  emit: Emit,
): Source {
  const source =
    directory === undefined
      ? undefined
      : eventControl(binding, directory, 'memory.pressure_level', ` ${level}`, () =>
          emit({ type: 'pressure', level }),
        );
  if (source === undefined)
    throw new LibcontainerError('ERR_UNSUPPORTED', {
      detail: 'memory pressure levels: no memory.pressure_level',
    });
  return source;
}
