/**
 * The device controller's rules as a normal form: a default and exceptions from it, as the kernel keeps them in v1
 * (kernel cgroup-v1/devices.rst, security/device_cgroup.c). v1 writes the difference of two of them, v2 compiles one.
 */
import type { DeviceRule } from '../config/config.ts';
import { invalid } from './limits.ts';

export interface DeviceException {
  readonly type: 'b' | 'c';
  /** -1: any. */
  readonly major: number;
  readonly minor: number;
  /** Bits of `r`, `w`, `m` in accessBit. */
  readonly access: number;
}

export interface DeviceList {
  readonly defaultAllow: boolean;
  readonly exceptions: readonly DeviceException[];
}

/** As in BPF_DEVCG_ACC_*, linux/bpf.h. */
export const accessBit = { m: 1, r: 2, w: 4 } as const;
export const allAccess = 7;

export function accessBits(access: string): number {
  let bits = 0;
  for (const letter of access) {
    if (letter === 'r' || letter === 'w' || letter === 'm') bits |= accessBit[letter];
  }
  return bits;
}

export const accessText = (bits: number): string =>
  (bits & accessBit.r ? 'r' : '') + (bits & accessBit.w ? 'w' : '') + (bits & accessBit.m ? 'm' : '');

const keyOf = (e: { type: string; major: number; minor: number }): string =>
  `${e.type} ${e.major}:${e.minor}`;
const byKey = (a: DeviceException, b: DeviceException): number =>
  a.type === b.type ? a.major - b.major || a.minor - b.minor : a.type < b.type ? -1 : 1;

/** A rule that covers every device resets the list; nil in runc's emulator. */
const coversAll = (rule: DeviceRule): boolean => rule.type === 'a';

/**
 * Applies rules in their order to an empty deny list.
 * @throws {CgroupError} when a rule would take back a part of a wildcard rule: v1 ignores such a rule silently, so that
 *   access would stay allowed (runc refuses it on both layouts for the same reason)
 */
export function deviceList(rules: readonly DeviceRule[]): DeviceList {
  let defaultAllow = false;
  let exceptions = new Map<string, DeviceException>();
  rules.forEach((rule, index) => {
    if (coversAll(rule)) {
      defaultAllow = rule.allow;
      exceptions = new Map();
      return;
    }
    const type = rule.type === 'b' ? 'b' : 'c';
    const exception = {
      type,
      major: rule.major,
      minor: rule.minor,
      access: accessBits(rule.access),
    } as const;
    const key = keyOf(exception);
    const present = exceptions.get(key)?.access ?? 0;
    if (rule.allow !== defaultAllow) {
      exceptions.set(key, { ...exception, access: present | exception.access });
      return;
    }
    refuseHole(exceptions, exception, index);
    const rest = present & ~exception.access;
    if (rest === 0) exceptions.delete(key);
    else exceptions.set(key, { ...exception, access: rest });
  });
  return { defaultAllow, exceptions: [...exceptions.values()].sort(byKey) };
}

function refuseHole(
  exceptions: ReadonlyMap<string, DeviceException>,
  rule: DeviceException,
  index: number,
): void {
  const wider = [
    { ...rule, major: -1 },
    { ...rule, minor: -1 },
    { ...rule, major: -1, minor: -1 },
  ];
  for (const wide of wider) {
    if (keyOf(wide) === keyOf(rule)) continue;
    const overlap = (exceptions.get(keyOf(wide))?.access ?? 0) & rule.access;
    if (overlap !== 0)
      invalid(
        `devices[${index}]`,
        `${keyOf(rule)} ${accessText(rule.access)}`,
        `cannot punch hole in existing wildcard rule ${keyOf(wide)}`,
      );
  }
}

export interface DeviceWrite {
  readonly file: 'devices.allow' | 'devices.deny';
  readonly value: string;
}

const number = (value: number): string => (value < 0 ? '*' : String(value));
const line = (e: DeviceException, access: number): string =>
  `${e.type} ${number(e.major)}:${number(e.minor)} ${accessText(access)}`;

/**
 * The fewest writes from one v1 list to another, in a fixed order (runc's Transition). The kernel does not show the deny
 * rules of an allow list, so from one of those, or when the default changes, all is reset first: for the length of
 * these writes the cgroup is then stricter, never looser, except when the target itself allows all.
 */
export function deviceTransition(from: DeviceList, to: DeviceList): DeviceWrite[] {
  const writes: DeviceWrite[] = [];
  const fileOf = (allow: boolean) => (allow ? 'devices.allow' : 'devices.deny');
  let old = new Map(from.exceptions.map(e => [keyOf(e), e]));
  if (from.defaultAllow || from.defaultAllow !== to.defaultAllow) {
    writes.push({ file: fileOf(to.defaultAllow), value: 'a' });
    old = new Map();
  }
  const wanted = new Map(to.exceptions.map(e => [keyOf(e), e]));
  for (const e of [...old.values()].sort(byKey)) {
    const dropped = e.access & ~(wanted.get(keyOf(e))?.access ?? 0);
    if (dropped !== 0) writes.push({ file: fileOf(to.defaultAllow), value: line(e, dropped) });
  }
  for (const e of to.exceptions) {
    const gained = e.access & ~(old.get(keyOf(e))?.access ?? 0);
    if (gained !== 0) writes.push({ file: fileOf(!to.defaultAllow), value: line(e, gained) });
  }
  return writes;
}

/** The content of devices.list. An `a` line means allow all but what the kernel does not show. */
export function parseDeviceList(text: string): DeviceList {
  const exceptions: DeviceException[] = [];
  for (const row of text.split('\n')) {
    const match = /^([abc]) (\d+|\*):(\d+|\*) ([rwm]+)$/.exec(row.trim());
    const [, type, major, minor, access] = match ?? [];
    if (type === 'a') return { defaultAllow: true, exceptions: [] };
    if ((type !== 'b' && type !== 'c') || major === undefined || minor === undefined || access === undefined)
      continue;
    const id = (word: string) => (word === '*' ? -1 : Number(word));
    exceptions.push({ type, major: id(major), minor: id(minor), access: accessBits(access) });
  }
  return { defaultAllow: false, exceptions: exceptions.sort(byKey) };
}

export const sameDevices = (a: DeviceList, b: DeviceList): boolean =>
  a.defaultAllow === b.defaultAllow &&
  (a.defaultAllow || JSON.stringify(a.exceptions) === JSON.stringify(b.exceptions));
