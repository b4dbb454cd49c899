/** What limits this process can give to a container that it makes, found out without making a cgroup. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { binding } from '../native/binding.ts';
import { inUserNamespace } from './layout.ts';
import { newCgroups } from './open.ts';

/** Controllers whose cgroups this caller may make, by the file system driver; empty without any cgroup mount. */
export function availableControllers(): ReadonlySet<string> {
  const rootlessEuid = process.geteuid?.() !== 0;
  try {
    const { paths } = newCgroups(binding(), 'available', {
      resources: {},
      systemdCgroup: false,
      rootlessEuid,
      rootlessCgroups: rootlessEuid || inUserNamespace(),
    });
    const unified = paths[''];
    if (unified === undefined) return new Set(Object.keys(paths));
    const listed = readFileSync(join(dirname(unified), 'cgroup.controllers'), 'utf8');
    return new Set(listed.split(/\s+/).filter(name => name !== ''));
  } catch (error) {
    // No cgroup file system, or one that we may not look at: then there are no limits.
    if (error instanceof Error && 'code' in error && /^(ERR_CGROUP|EACCES|ENOENT)/.test(String(error.code)))
      return new Set();
    throw error;
  }
}
