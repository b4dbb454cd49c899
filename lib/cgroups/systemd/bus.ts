/**
 * systemd's manager object over D-Bus: the system's, or the one of a user. One connection for the whole process, made by
 * the first call, made anew when it was lost, closed when nobody has used it for a while. org.freedesktop.systemd1(5).
 */
import { existsSync } from 'node:fs';
import { CgroupError } from '../../errors.ts';
import type { Property } from './annotations.ts';
import { BusError, BusLost, Connection } from './connection.ts';
import { noSystemd, unitError } from './refusals.ts';
import type { Message, Value } from './wire.ts';

const manager = {
  destination: 'org.freedesktop.systemd1',
  path: '/org/freedesktop/systemd1',
  interface: 'org.freedesktop.systemd1.Manager',
} as const;
const properties = 'org.freedesktop.DBus.Properties';
const bus = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
} as const;
const jobRemoved =
  "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/**
 * sd-bus as a server reads up to 256 bytes while it authenticates, and looks at what it has read of the first message only
 * when more arrives: a message that came along with BEGIN whole would never be answered.
 */
const firstWords = {
  ...manager,
  interface: 'org.freedesktop.DBus.Peer',
  member: 'Ping',
  signature: 's',
  body: [' '.repeat(1024)],
};
/** As runc. */
const jobTimeoutMs = 30_000;
const idleMs = 1000;

/** A socket; the private ones of systemd itself need no bus, and serve who may not or cannot use one. */
interface Endpoint {
  readonly path: string;
  readonly isBus: boolean;
}

/** `unix:path=/run/user/1000/bus,guid=…;…` → socket paths (a leading NUL: abstract). Other transports are left out. */
export function socketPaths(address: string): string[] {
  return address.split(';').flatMap(one => {
    const [, kind, text] = /^unix:(?:.*,)?(path|abstract)=([^,]*)/.exec(one) ?? [];
    if (text === undefined) return [];
    const path = decodeURIComponent(text);
    return [kind === 'abstract' ? `\0${path}` : path];
  });
}

export function endpoints(user: boolean, env: NodeJS.ProcessEnv = process.env): Endpoint[] {
  const runtime = env.XDG_RUNTIME_DIR || `/run/user/${process.geteuid?.() ?? 0}`;
  const given = user ? env.DBUS_SESSION_BUS_ADDRESS : env.DBUS_SYSTEM_BUS_ADDRESS;
  const buses = [
    ...socketPaths(given ?? ''),
    ...(user ? [`${runtime}/bus`] : ['/run/dbus/system_bus_socket']),
  ];
  const direct = user ? `${runtime}/systemd/private` : '/run/systemd/private';
  return [...new Set(buses)].map(path => ({ path, isBus: true })).concat({ path: direct, isBus: false });
}

interface Link {
  readonly connection: Connection;
  readonly version: number;
}

export class Systemd {
  readonly #user: boolean;
  #link: Promise<Link> | undefined;
  #users = 0;
  #idle: NodeJS.Timeout | undefined;
  /** Results of jobs that ended before their path was known to who began them; kept while somebody may ask. */
  readonly #results = new Map<string, string>();
  readonly #waiters = new Map<string, (result: string) => void>();
  #beginning = 0;

  constructor(user: boolean) {
    this.#user = user;
  }

  /** 252 of `252.39-1~deb12u2`. */
  async version(): Promise<number> {
    return this.#using(async () => (await this.#open()).version);
  }

  /** The cgroup of systemd itself, below which its units are: `/user.slice/user-1000.slice/user@1000.service`. */
  async controlGroup(): Promise<string> {
    const value = await this.#property(manager.path, manager.interface, 'ControlGroup');
    return typeof value === 'string' ? value : '';
  }

  /** ActiveState; undefined: no such unit. */
  async unitState(unit: string): Promise<string | undefined> {
    try {
      const [path] = await this.#call('GetUnit', 's', [unit]);
      const state = await this.#property(String(path), 'org.freedesktop.systemd1.Unit', 'ActiveState');
      return String(state);
    } catch (error) {
      if (isGone(error)) return undefined;
      throw unitError('GetUnit', unit, error);
    }
  }

  /** Resolves when the unit is active. @throws {CgroupError} ERR_CGROUP_NOT_EMPTY: a unit of that name is there; ERR_SYSTEMD_UNIT */
  async startTransient(unit: string, unitProperties: readonly Property[]): Promise<void> {
    const list = unitProperties.map(([name, value]) => [name, value]);
    const body = [unit, 'replace', list, []];
    const attempt = { repeated: false };
    for (let tries = 1; ; tries += 1) {
      try {
        await this.#job('StartTransientUnit', 'ssa(sv)a(sa(sv))', body, unit, attempt);
        return;
      } catch (error) {
        if (!(error instanceof BusError) || error.errorName !== 'org.freedesktop.systemd1.UnitExists')
          throw unitError('StartTransientUnit', unit, error);
        const state = await this.unitState(unit);
        // The connection was lost behind our first call, which had got there.
        if (attempt.repeated && state === 'active') return;
        if (tries > 1 || state === 'active' || state === 'activating') throw unitInUse(unit, state, error);
        // Left by somebody who failed: it goes when it is reset.
        await this.resetFailed(unit);
      }
    }
  }

  /** Resolves when it is stopped; one that is not there is no error. */
  async stop(unit: string): Promise<void> {
    try {
      await this.#job('StopUnit', 'ss', [unit, 'replace'], unit, { repeated: false });
    } catch (error) {
      if (!isGone(error)) throw unitError('StopUnit', unit, error);
    }
  }

  /** So that systemd forgets a unit that has failed; one that is not there is no error. */
  async resetFailed(unit: string): Promise<void> {
    try {
      await this.#call('ResetFailedUnit', 's', [unit]);
    } catch (error) {
      if (!isGone(error)) throw unitError('ResetFailedUnit', unit, error);
    }
  }

  /** Until the unit is gone (`--runtime`). All of them or none; when it resolves, systemd has written its files. */
  async setProperties(unit: string, unitProperties: readonly Property[]): Promise<void> {
    const list = unitProperties.map(([name, value]) => [name, value]);
    try {
      await this.#call('SetUnitProperties', 'sba(sv)', [unit, true, list]);
      // systemd answers first and writes the files then, but before it reads the next message (manager_loop).
      await this.#send({ ...manager, interface: 'org.freedesktop.DBus.Peer', member: 'Ping' });
    } catch (error) {
      throw unitError('SetUnitProperties', unit, error);
    }
  }

  /** @param below Cgroup below the unit's, '' for that itself. */
  async attach(unit: string, below: string, pid: number): Promise<void> {
    try {
      await this.#call('AttachProcessesToUnit', 'ssau', [unit, below, [pid]]);
    } catch (error) {
      throw unitError('AttachProcessesToUnit', unit, error);
    }
  }

  async #property(path: string, of: string, name: string): Promise<Value | undefined> {
    const call = {
      ...manager,
      path,
      interface: properties,
      member: 'Get',
      signature: 'ss',
      body: [of, name],
    };
    const [variant] = await this.#send(call);
    return typeof variant === 'object' && 'value' in variant ? (variant.value as Value) : undefined;
  }

  #call(
    member: string,
    signature: string,
    body: readonly Value[],
    attempt = { repeated: false },
  ): Promise<readonly Value[]> {
    return this.#send({ ...manager, member, signature, body }, attempt);
  }

  /** Once more over a new connection when the old one ends meanwhile: a bus or systemd that is restarted. */
  #send(call: Parameters<Connection['call']>[0], attempt = { repeated: false }): Promise<readonly Value[]> {
    return this.#using(async () => {
      const { connection } = await this.#open();
      try {
        return await connection.call(call);
      } catch (error) {
        if (!(error instanceof BusLost) || !connection.ended) throw error;
        attempt.repeated = true;
        return (await this.#open()).connection.call(call);
      }
    });
  }

  /** A call that begins a job, and the wait for its end. @throws {BusError} {CgroupError} */
  #job(
    member: string,
    signature: string,
    body: readonly Value[],
    unit: string,
    attempt: { repeated: boolean },
  ): Promise<void> {
    return this.#using(async () => {
      this.#beginning += 1;
      try {
        const [path] = await this.#call(member, signature, body, attempt);
        const result = await this.#finished(String(path));
        // skipped: there was nothing to be done. unknown: it ended while we had no connection.
        if (result === 'done' || result === 'skipped') return;
        const wanted = member === 'StopUnit' ? undefined : 'active';
        const state = result === 'unknown' ? await this.unitState(unit) : '';
        if (result === 'unknown' && (state === wanted || (wanted === undefined && state !== 'active')))
          return;
        await this.resetFailed(unit);
        throw unitError(member, unit, new Error(`the job ended with ${JSON.stringify(result)}`));
      } finally {
        this.#beginning -= 1;
        if (this.#beginning === 0) this.#results.clear();
      }
    });
  }

  #finished(job: string): Promise<string> {
    const early = this.#results.get(job);
    if (early !== undefined) return Promise.resolve(early);
    return new Promise(resolve => {
      const settle = (result: string): void => {
        clearTimeout(timer);
        this.#waiters.delete(job);
        resolve(result);
      };
      const timer = setTimeout(() => settle(`no end within ${jobTimeoutMs} ms`), jobTimeoutMs);
      this.#waiters.set(job, settle);
    });
  }

  #onSignal({ interface: from, member, body }: Message): void {
    if (from !== manager.interface || member !== 'JobRemoved') return;
    const [, job, , result] = body;
    if (typeof job !== 'string' || typeof result !== 'string') return;
    const waiter = this.#waiters.get(job);
    if (waiter !== undefined) waiter(result);
    else if (this.#beginning > 0) this.#results.set(job, result);
  }

  /** Jobs go on without us; whether one has ended meanwhile tells the new connection. */
  async #onLost(): Promise<void> {
    for (const [job, settle] of [...this.#waiters]) {
      try {
        await this.#property(job, 'org.freedesktop.systemd1.Job', 'State');
      } catch {
        settle('unknown');
      }
    }
  }

  async #using<T>(work: () => Promise<T>): Promise<T> {
    this.#users += 1;
    clearTimeout(this.#idle);
    try {
      return await work();
    } finally {
      this.#users -= 1;
      if (this.#users === 0) await this.#rest();
    }
  }

  async #rest(): Promise<void> {
    const link = await this.#link?.catch(() => undefined);
    if (link === undefined || this.#users > 0) return;
    link.connection.hold(false);
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => {
      if (this.#users > 0) return;
      this.#link = undefined;
      link.connection.close();
    }, idleMs).unref();
  }

  async #open(): Promise<Link> {
    const former = this.#link;
    const known = await former?.catch(() => undefined);
    if (known !== undefined && !known.connection.ended) {
      known.connection.hold(true);
      return known;
    }
    // Unless somebody has begun another one while we waited.
    if (this.#link === former || this.#link === undefined) this.#link = this.#connect();
    return this.#link;
  }

  async #connect(): Promise<Link> {
    // sd_booted(3); a user's systemd has its directory beside its socket.
    if (!this.#user && !existsSync('/run/systemd/system')) throw noSystemd(this.#user, []);
    const failures: string[] = [];
    for (const endpoint of endpoints(this.#user)) {
      try {
        return await this.#greet(endpoint);
      } catch (error) {
        if (!(error instanceof BusLost) && !(error instanceof BusError)) throw error;
        failures.push(`${endpoint.path.replace('\0', '@')}: ${error.message}`);
      }
    }
    throw noSystemd(this.#user, failures);
  }

  async #greet({ path, isBus }: Endpoint): Promise<Link> {
    const connection: Connection = await Connection.open(path, {
      onSignal: message => this.#onSignal(message),
      onEnd: () => {
        if (this.#waiters.size > 0) void this.#onLost();
      },
    });
    try {
      if (isBus) {
        await connection.call({ ...bus, member: 'Hello' });
        // Without a subscriber systemd sends no signals to a bus; on its private socket it always does.
        await connection.call({ ...bus, member: 'AddMatch', signature: 's', body: [jobRemoved] });
        await connection.call({ ...manager, member: 'Subscribe' });
      } else await connection.call(firstWords);
      const get = { ...manager, interface: properties, member: 'Get', signature: 'ss' };
      const [variant] = await connection.call({ ...get, body: [manager.interface, 'Version'] });
      const text = typeof variant === 'object' && 'value' in variant ? String(variant.value) : '';
      return { connection, version: Number(/\d+/.exec(text)?.[0] ?? 0) };
    } catch (error) {
      connection.close();
      throw error;
    }
  }
}

const isGone = (error: unknown): boolean =>
  error instanceof BusError &&
  ['org.freedesktop.systemd1.NoSuchUnit', 'org.freedesktop.DBus.Error.UnknownObject'].includes(
    error.errorName,
  );

export function unitInUse(unit: string, state: string | undefined, cause?: unknown): CgroupError {
  return new CgroupError(
    'ERR_CGROUP_NOT_EMPTY',
    { file: unit },
    {
      cause,
      detail: `unit ${unit} is ${state ?? 'there'}`,
      hint: 'another container or service is that unit; give linux.cgroupsPath another name',
    },
  );
}

const known = new Map<boolean, Systemd>();
/** @param user The systemd of this process's user instead of the system's. */
export function systemdOf(user: boolean): Systemd {
  const made = known.get(user) ?? new Systemd(user);
  known.set(user, made);
  return made;
}
