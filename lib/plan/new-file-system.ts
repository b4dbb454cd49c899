/** A mount that no configuration asks for: of the probes, and into a running container. */
import { MS } from './numbers.ts';
import type { MountStep } from './steps.ts';

/** nosuid and nodev, with the type as source, unless `more` says otherwise. */
export const newFileSystem = (
  type: string,
  target: string,
  data = '',
  more: Partial<MountStep> = {},
): MountStep => ({
  kind: 'mount',
  type,
  source: type,
  target,
  flags: MS.NOSUID | MS.NODEV,
  clearedFlags: 0,
  propagation: [],
  data,
  recursiveSet: 0,
  recursiveClear: 0,
  copyUp: false,
  optional: false,
  lateReadonly: false,
  ...more,
});
