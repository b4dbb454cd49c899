/**
 * What systemd refuses, and where there is none, in words for who has to mend it. Not errors.ts: the built systemd.cjs takes
 * each module of that name from the library.
 */
import { CgroupError } from '../../errors.ts';
import { BusError } from './connection.ts';

/** @param tried What was tried, with what came of it. */
export function noSystemd(user: boolean, tried: readonly string[]): CgroupError {
  const what = user ? 'the systemd of this user' : 'systemd';
  const why =
    tried.length > 0
      ? tried.join('; ')
      : '/run/systemd/system does not exist: systemd is not what runs this system';
  const hint = user
    ? '`loginctl enable-linger` starts the systemd of a user, and XDG_RUNTIME_DIR (or DBUS_SESSION_BUS_ADDRESS) must name its directory; or use the cgroupfs driver: leave --systemd-cgroup out'
    : 'use the cgroupfs driver: leave --systemd-cgroup out, and give linux.cgroupsPath as a path';
  return new CgroupError('ERR_SYSTEMD', { file: what }, { detail: `${what}: ${why}`, hint });
}

/** The error of a call about a unit. One that has a code of its own is left as it is. */
export function unitError(call: string, unit: string, error: unknown): CgroupError {
  if (error instanceof CgroupError) return error;
  const text = error instanceof Error ? error.message : String(error);
  const name = error instanceof BusError ? error.errorName : '';
  const denied = /AccessDenied|InteractiveAuthorizationRequired|AuthFailed/.test(name);
  return new CgroupError(
    'ERR_SYSTEMD_UNIT',
    { file: unit },
    {
      cause: error,
      detail: `${call} ${unit}: ${text}`,
      ...(denied
        ? { hint: 'only root may make units of the system; an ordinary user has a systemd of its own' }
        : {}),
    },
  );
}
