/**
 * What runtime-spec 1.3 has and this version does not do: refused by name, never ignored. One row per property; a row
 * goes away when the feature arrives.
 */
import { ConfigError, type ConfigIssue } from '../errors.ts';
import type { ProcessConfig } from './config.ts';
import { isInlineIdmap } from './mount-options.ts';
import { apparmorEnabled, selinuxEnabled } from './security-modules.ts';
import type { Spec } from './spec.ts';

type Found = Iterable<ConfigIssue>;
type Rule = (spec: Spec) => Found;

function* when(condition: boolean, path: string, message: string): Generator<ConfigIssue> {
  if (condition) yield { path, message };
}
const some = (list: readonly unknown[] | undefined): boolean => list !== undefined && list.length > 0;
const set = (text: string | undefined): boolean => text !== undefined && text !== '';

/** runc's words for a kernel without the module. */
const noApparmor = 'apparmor: config provided but apparmor not supported';
const noSelinux = 'selinux label is specified in config, but selinux is disabled or not supported';

const rules: readonly Rule[] = [
  function* idmappedMounts({ mounts }) {
    for (const [index, { options = [] }] of (mounts ?? []).entries()) {
      const message = 'idmapped mounts have their maps in uidMappings and gidMappings';
      yield* when(options.some(isInlineIdmap), `mounts[${index}].options`, message);
    }
  },
  function* mountLabel({ linux }) {
    if (set(linux?.mountLabel)) yield* when(!selinuxEnabled(), 'linux.mountLabel', noSelinux);
  },
  function* personalityFlags({ linux }) {
    yield* when(
      some(linux?.personality?.flags),
      'linux.personality.flags',
      'the specification reserves flags; none is supported',
    );
  },
];

type Labels = Pick<ProcessConfig, 'apparmorProfile' | 'selinuxLabel'>;

/** Process properties apart: a process can be given without a spec. */
function* processRules({ apparmorProfile, selinuxLabel }: Labels, root: string): Found {
  // A kernel without AppArmor confines nothing: `unconfined` is what it has.
  if (set(apparmorProfile) && apparmorProfile !== 'unconfined')
    yield* when(!apparmorEnabled(), `${root}.apparmorProfile`, noApparmor);
  if (set(selinuxLabel)) yield* when(!selinuxEnabled(), `${root}.selinuxLabel`, noSelinux);
}

/** @throws {ConfigError} ERR_UNSUPPORTED naming every property that is. */
export function refuseUnsupported(spec: Spec): void {
  refuse(rules.flatMap(rule => [...rule(spec)]));
}

/** @throws {ConfigError} ERR_UNSUPPORTED. */
export function refuseUnsupportedProcess(process: Labels, root = 'process'): void {
  refuse([...processRules(process, root)]);
}

function refuse(issues: readonly ConfigIssue[]): void {
  if (issues.length > 0) throw new ConfigError('ERR_UNSUPPORTED', { issues });
}
