/** Signals by name and number: signal(7). */
import { constants } from 'node:os';
import { LibcontainerError } from './errors.ts';

/** `SIGTERM` …; real-time signals are `SIGRTMIN+n`. */
export type SignalName = NodeJS.Signals | `SIGRTMIN+${number}` | 'SIGRTMIN';

const byNumber = new Map<number, SignalName>();
// Aliases (SIGIOT, SIGPOLL) come after the usual name in Node's table or share its number: the first name is kept.
for (const [name, number] of Object.entries(constants.signals))
  if (!byNumber.has(number)) byNumber.set(number, name as NodeJS.Signals);

/** glibc and musl agree that programs see SIGRTMIN as 34 (32 and 33 belong to the threads library). */
const realTimeMin = 34;
const lastSignal = 64;

/** @throws {LibcontainerError} `ERR_SIGNAL_UNKNOWN` */
export function signalNumber(signal: string | number): number {
  if (typeof signal === 'number' || /^\d+$/.test(signal)) {
    const number = Number(signal);
    if (Number.isInteger(number) && number >= 1 && number <= lastSignal) return number;
  } else {
    const name = `SIG${signal.toUpperCase().replace(/^SIG/, '')}`;
    const number = (constants.signals as { readonly [name: string]: number | undefined })[name];
    if (number !== undefined) return number;
    const realTime = /^SIGRT(MIN|MAX)([+-]\d+)?$/.exec(name);
    if (realTime !== null) {
      const value = (realTime[1] === 'MIN' ? realTimeMin : lastSignal) + Number(realTime[2] ?? 0);
      if (value >= realTimeMin && value <= lastSignal) return value;
    }
  }
  throw new LibcontainerError('ERR_SIGNAL_UNKNOWN', {
    message: `unknown signal ${JSON.stringify(String(signal))}`,
  });
}

export function signalName(number: number): SignalName {
  const name = byNumber.get(number);
  if (name !== undefined) return name;
  return number === realTimeMin ? 'SIGRTMIN' : `SIGRTMIN+${number - realTimeMin}`;
}
