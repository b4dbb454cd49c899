/** CRIU's log and statistics: files that it leaves in the work directory. */
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { decodeStatistics, type Statistics } from './rpc.ts';

const tailBytes = 1 << 20;
const mostReasons = 5;

/** `(00.012345)    123: Error (criu/mount.c:1030): mnt: …` → `mnt: … (criu/mount.c:1030)` */
const errorLine = /^(?:\(\d+\.\d+\)\s*)?(?:\d+:\s*)?Error \(([^)]*)\):\s*(.*)$/;

/** The first errors of a log; [] when there is none or no such file. */
export async function logReasons(path: string): Promise<string[]> {
  let text: string;
  try {
    text = await tail(path);
  } catch {
    return [];
  }
  const found: string[] = [];
  for (const line of text.split('\n')) {
    const [, where, what] = errorLine.exec(line.trim()) ?? [];
    if (what === undefined || where === undefined) continue;
    found.push(`${what.trim()} (${where})`);
    if (found.length === mostReasons) break;
  }
  return found;
}

/** Errors are near the end, and a log of level 4 grows with the number of mappings. */
async function tail(path: string): Promise<string> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const buffer = Buffer.alloc(Math.min(size, tailBytes));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, size - buffer.length);
    return buffer.toString('utf8', 0, bytesRead);
  } finally {
    await file.close();
  }
}

/** @param which `dump` or `restore` */
export async function readStatistics(
  directory: string,
  which: 'dump' | 'restore',
): Promise<Statistics | undefined> {
  try {
    return decodeStatistics(await readFile(join(directory, `stats-${which}`)));
  } catch {
    return undefined;
  }
}
