/**
 * Which Linux security modules this kernel enforces. Asked only for a configuration that names a label; a module cannot
 * come or go while the kernel runs.
 */
import { readFileSync, statfsSync } from 'node:fs';

function firstLine(path: string): string {
  try {
    return readFileSync(path, 'latin1').replace(/[\n\0].*$/s, '');
  } catch {
    return '';
  }
}

function once(look: () => boolean): () => boolean {
  let known: boolean | undefined;
  return () => {
    known ??= look();
    return known;
  };
}

/** The parameter of the module, which tells the truth even where securityfs is not mounted. */
export const apparmorEnabled = once(() => firstLine('/sys/module/apparmor/parameters/enabled') === 'Y');

/** include/uapi/linux/magic.h */
const selinuxMagic = 0xf97cff8c;

/** As libselinux: its file system is mounted, and a policy is loaded (before that everything is labelled `kernel`). */
export const selinuxEnabled = once(() => {
  try {
    if (statfsSync('/sys/fs/selinux').type !== selinuxMagic) return false;
  } catch {
    return false;
  }
  return !['', 'kernel'].includes(firstLine('/proc/self/attr/current'));
});
