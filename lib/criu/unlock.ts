/**
 * CRIU closes a container's network while it reads or writes it: a chain of its own in iptables, jumped to from INPUT and
 * OUTPUT, or a table of its own in nftables. It opens the network again itself, but not where
 * - it was killed: the container goes on, and must get its network back;
 * - the network is from outside (joined by path) and outlives the checkpoint: a restore closes it once more, and CRIU then
 *   cannot remove its chain, which the first jump still names.
 */
import { spawn } from 'node:child_process';
import { searchPath } from './program-path.ts';

const limitMs = 20_000;

/** What the program wrote; empty when it is not there or has failed. */
function inNetwork(fd: number, words: readonly string[], input = ''): Promise<string> {
  return new Promise(resolve => {
    const child = spawn('nsenter', ['--net=/proc/self/fd/3', '--', ...words], {
      stdio: ['pipe', 'pipe', 'ignore', fd],
      cwd: '/',
      env: { PATH: searchPath() },
      timeout: limitMs,
    });
    let text = '';
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
    child.stdout?.on('data', part => {
      text += String(part);
    });
    child.once('error', () => resolve(''));
    child.once('close', code => resolve(code === 0 ? text : ''));
  });
}

/**
 * For iptables-restore --noflush: every jump to CRIU's chain, and the chain. One transaction: all of it or nothing.
 * @param saved What iptables-save wrote. @returns undefined: there is no such chain
 */
export function openingRules(saved: string): string | undefined {
  const [, filter = ''] = /^\*filter\n(.*?)^COMMIT$/ms.exec(saved) ?? [];
  if (!/^:CRIU /m.test(filter)) return undefined;
  const jumps = [...filter.matchAll(/^-A ((?:INPUT|OUTPUT) -j CRIU)\s*$/gm)].map(
    ([, rule]) => `-D ${rule}\n`,
  );
  return `*filter\n${jumps.join('')}-F CRIU\n-X CRIU\nCOMMIT\n`;
}

/** CRIU's tables, each with a name of the run that has made it. @param listed What `nft list tables` wrote. */
export const lockTables = (listed: string): string[] =>
  [...listed.matchAll(/^table inet (CRIU(?:-[\w-]+)?)\s*$/gm)].map(([, name = '']) => name);

/** Nothing happens where CRIU has left nothing. @param fd A network namespace; borrowed. */
export async function unlockNetwork(fd: number): Promise<void> {
  for (const program of ['iptables', 'ip6tables']) {
    const rules = openingRules(await inNetwork(fd, [`${program}-save`]));
    if (rules !== undefined) await inNetwork(fd, [`${program}-restore`, '--noflush', '--wait'], rules);
  }
  for (const name of lockTables(await inNetwork(fd, ['nft', 'list', 'tables'])))
    await inNetwork(fd, ['nft', 'delete', 'table', 'inet', name]);
}
