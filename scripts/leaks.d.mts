export interface Snapshot {
  readonly [kind: string]: readonly string[];
}
export function snapshot(): Snapshot;
export function leaksSince(before: Snapshot, timeoutMs?: number): Promise<string[]>;
export function difference(before: Snapshot, now: Snapshot): string[];
