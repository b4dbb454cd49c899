/**
 * Device rules → DevicePolicy and DeviceAllow, so that what systemd itself attaches or writes (again at each
 * daemon-reload) does not contradict the rules, which the file system driver enforces. systemd.resource-control(5).
 */
import type { DeviceRule } from '../../config/config.ts';
import { accessText, deviceList } from '../device-rules.ts';
import type { Property } from './annotations.ts';
import type { Value } from './wire.ts';

const policy = (value: string): Property => ['DevicePolicy', { signature: 's', value }];
const allow = (value: readonly Value[]): Property => ['DeviceAllow', { signature: 'a(ss)', value }];

/** systemd takes `char-136` and a node that does not exist since 240; before, nothing is said for those. */
const numbersSince = 240;

/**
 * @param unified cgroup v2: systemd's program and ours must both allow. Rules that systemd has no words for (all but some
 *   devices) then mean "auto" for it. On v1 both write the same list, ours last: there it is told to deny.
 */
export function deviceProperties(
  rules: readonly DeviceRule[],
  version: number,
  unified: boolean,
): Property[] {
  const list = deviceList(rules);
  if (list.defaultAllow)
    return list.exceptions.length === 0 || unified
      ? [policy('auto'), allow([])]
      : [policy('strict'), allow([])];
  const entries: Value[] = [];
  for (const { type, major, minor, access } of list.exceptions) {
    const kind = type === 'b' ? 'block' : 'char';
    let device: string;
    if (major < 0 && minor < 0) device = `${kind}-*`;
    else if (version < numbersSince) continue;
    // No word for "any major, this minor": on v2 a program that denies it would overrule ours.
    else if (major < 0) {
      if (unified) return [policy('auto'), allow([])];
      continue;
    } else device = minor < 0 ? `${kind}-${major}` : `/dev/${kind}/${major}:${minor}`;
    entries.push([device, accessText(access)]);
  }
  // The list is appended to what is there: empty first.
  if (version < numbersSince && unified) return [policy('auto'), allow([])];
  return [policy('strict'), allow([]), allow(entries)];
}
