/**
 * CRIU closes a container's network while it reads it, and opens it again at the end: a chain of its own in iptables, or a
 * table of its own in nftables. One that was killed left it closed; the container, which goes on, must get it back.
 */
import { spawn } from 'node:child_process';

/** CRIU's chain goes; an error says that there was none. */
const rules = '*filter\n:CRIU - [0:0]\n-D INPUT -j CRIU\n-D OUTPUT -j CRIU\n-F CRIU\n-X CRIU\nCOMMIT\n';
const limitMs = 20_000;

function inNetwork(pid: number, words: readonly string[], input: string): Promise<void> {
  return new Promise(resolve => {
    const child = spawn('nsenter', ['-t', String(pid), '-n', '--', ...words], {
      stdio: ['pipe', 'ignore', 'ignore'],
      cwd: '/',
      timeout: limitMs,
    });
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
    child.once('error', () => resolve());
    child.once('exit', () => resolve());
  });
}

/** @param pid The container's init, whose identity the caller holds by a pidfd. */
export async function unlockNetwork(pid: number): Promise<void> {
  for (const program of ['iptables-restore', 'ip6tables-restore'])
    await inNetwork(pid, [program, '--noflush', '--wait'], rules);
  for (const name of [`CRIU-${pid}`, 'CRIU'])
    await inNetwork(pid, ['nft', 'delete', 'table', 'inet', name], '');
}
