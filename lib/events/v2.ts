/** The event files of cgroup v2. kernel cgroup-v2.rst "memory.events", "pids.events", "cgroup.events", "PSI". */
import { writeSync } from 'node:fs';
import { join } from 'node:path';
import { CgroupError, LibcontainerError } from '../errors.ts';
import type { Binding } from '../native/binding.ts';
import type { CgroupEvent, MemoryEventName, PressureTrigger } from './event.ts';
import { counterSource, openOptional, prioritySource, type Source } from './source.ts';

type Emit = (event: CgroupEvent) => void;
type Counters = ReadonlyMap<string, bigint>;

const O_RDWR_NONBLOCK = 0o2 | 0o4000;
const memoryEvents: readonly MemoryEventName[] = ['low', 'high', 'max', 'oom', 'oom_kill', 'oom_group_kill'];

export function emitMemoryChanges(now: Counters, before: Counters, emit: Emit): void {
  for (const event of memoryEvents) {
    const total = now.get(event) ?? 0n;
    const count = total - (before.get(event) ?? 0n);
    if (count > 0n) emit({ type: 'memory', event, count, total });
    // libcontainer's NotifyOOM on v2: a process was killed (memory.events also counts refused allocations as `oom`).
    if (count > 0n && event === 'oom_kill') emit({ type: 'oom', kills: total });
  }
}

export function emitPidsChanges(now: Counters, before: Counters, emit: Emit): void {
  const total = now.get('max') ?? 0n;
  const count = total - (before.get('max') ?? 0n);
  if (count > 0n) emit({ type: 'pidsMax', count, total });
}

function emitCgroupChanges(now: Counters, before: Counters, emit: Emit): void {
  const frozen = now.get('frozen') ?? 0n;
  if (frozen !== (before.get('frozen') ?? 0n)) emit({ type: frozen === 1n ? 'frozen' : 'thawed' });
  if (now.get('populated') === 0n && before.get('populated') === 1n) emit({ type: 'empty' });
}

export function v2Sources(
  binding: Binding,
  directory: string,
  emit: Emit,
  baseline: 'zero' | 'present',
): Source[] {
  // Its state is not a count: only changes from now on are told.
  const cgroup = (now: Counters, before: Counters) => emitCgroupChanges(now, before, emit);
  const memory = (now: Counters, before: Counters) => emitMemoryChanges(now, before, emit);
  const pids = (now: Counters, before: Counters) => emitPidsChanges(now, before, emit);
  const sources = [
    counterSource(binding, join(directory, 'memory.events'), memory, baseline),
    counterSource(binding, join(directory, 'pids.events'), pids, baseline),
    counterSource(binding, join(directory, 'cgroup.events'), cgroup, 'present'),
  ];
  return sources.filter(source => source !== undefined);
}

/**
 * @throws {CgroupError} ERR_CGROUP when the kernel refuses the thresholds
 * @throws {LibcontainerError} ERR_UNSUPPORTED without PSI
 */
export function pressureSource(
  binding: Binding,
  directory: string,
  trigger: PressureTrigger,
  emit: Emit,
): Source {
  const file = join(directory, `${trigger.resource}.pressure`);
  const fd = openOptional(binding, file, O_RDWR_NONBLOCK);
  if (fd === undefined)
    throw new LibcontainerError('ERR_UNSUPPORTED', {
      detail: `${trigger.resource} pressure: no ${file}`,
      hint: 'the kernel needs CONFIG_PSI, and psi=1 on its command line when it is off by default',
    });
  const value = `${trigger.kind} ${trigger.stallUs} ${trigger.windowUs}`;
  try {
    // psi.rst: the terminating NUL belongs to the trigger.
    writeSync(fd, `${value}\0`);
    return prioritySource(binding, fd, () => emit({ type: 'pressure', trigger }));
  } catch (cause) {
    binding.close(fd);
    const hint =
      'windowUs is 500000 to 10000000 (without CAP_SYS_RESOURCE a multiple of 2000000), stallUs above 0 and below it';
    throw new CgroupError('ERR_CGROUP', { file, value }, { cause, hint });
  }
}
