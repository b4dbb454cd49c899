/** The profile of a container whose system calls are decided by handlers in this process. */
import { release } from 'node:os';
import { ConfigError, LibcontainerError } from '../errors.ts';
import type { Config, Seccomp } from './config.ts';
import { notifies, notify, unnotified } from './seccomp.ts';

type Rule = NonNullable<Seccomp['syscalls']>[number];

/** Without a profile of its own a container may do everything but what the handlers decide. */
function baseProfile(): Seccomp {
  const others = process.arch === 'arm64' ? ['SCMP_ARCH_ARM'] : ['SCMP_ARCH_X86', 'SCMP_ARCH_X32'];
  return { defaultAction: 'SCMP_ACT_ALLOW', architectures: ['SCMP_ARCH_NATIVE', ...others] };
}

/** Linux 5.19. A call whose handler is at work is then not begun again for every signal that comes in between. */
function waitFlag(): string[] {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  return major > 5 || (major === 5 && minor >= 19) ? ['SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV'] : [];
}

function without(rule: Rule, names: ReadonlySet<string>): Rule[] {
  const left = rule.names.filter(name => !names.has(name));
  if (left.length === rule.names.length) return [rule];
  return left.length === 0 ? [] : [{ ...rule, names: left }];
}

function handled(profile: Seccomp, names: readonly string[]): Seccomp {
  const rules = profile.syscalls ?? [];
  const present = new Set(rules.filter(rule => rule.action === notify).flatMap(rule => rule.names));
  const added = names.filter(name => !present.has(name));
  const others = new Set(added);
  return {
    ...profile,
    // runc's default when a profile names no flags, which ours would otherwise take the place of.
    flags: profile.flags ?? ['SECCOMP_FILTER_FLAG_SPEC_ALLOW', ...waitFlag()],
    syscalls: [
      ...rules.flatMap(rule => without(rule, others)),
      ...(added.length === 0 ? [] : [{ names: added, action: notify }]),
    ],
  };
}

const made = new WeakMap<Config, Map<string, Config>>();

/**
 * The configuration with rules that ask the handlers of these names; the same object for the same names, since plans are
 * kept by it.
 * @throws {LibcontainerError} ERR_ARGUMENT; {ConfigError} a rule that notifies without a handler
 */
export function withHandlers(config: Config, names: readonly string[]): Config {
  const key = [...names].sort().join(' ');
  const known = made.get(config) ?? new Map<string, Config>();
  let changed = known.get(key);
  if (changed === undefined) {
    if ((config.seccomp?.listenerPath ?? '') !== '')
      throw new LibcontainerError('ERR_ARGUMENT', {
        detail: 'seccompHandler and linux.seccomp.listenerPath: one of them answers',
      });
    if (names.includes(unnotified))
      throw new LibcontainerError('ERR_ARGUMENT', {
        detail: `seccompHandler: SCMP_ACT_NOTIFY cannot be used for the ${unnotified} syscall`,
      });
    changed = { ...config, seccomp: handled(config.seccomp ?? baseProfile(), names) };
    requireHandlers(changed, names);
    known.set(key, changed);
    made.set(config, known);
  }
  return changed;
}

/**
 * A notification that nobody answers would fail with ENOSYS: who notifies names an agent or has handlers.
 * @throws {ConfigError} ERR_SPEC_INVALID
 */
export function requireHandlers({ seccomp }: Config, names: readonly string[] | undefined): void {
  if (seccomp === undefined || (seccomp.listenerPath ?? '') !== '' || !notifies(seccomp)) return;
  if (names === undefined)
    throw new ConfigError('ERR_SPEC_INVALID', {
      issues: [{ path: 'linux.seccomp.listenerPath', message: 'seccomp listenerPath is not set' }],
    });
  for (const [index, { action, names: asked }] of (seccomp.syscalls ?? []).entries()) {
    if (action !== notify) continue;
    const missing = asked.find(name => !names.includes(name));
    if (missing === undefined) continue;
    const path = `linux.seccomp.syscalls[${index}].names`;
    throw new ConfigError('ERR_SPEC_INVALID', {
      issues: [{ path, message: `seccompHandler has no handler for ${missing}` }],
    });
  }
}
