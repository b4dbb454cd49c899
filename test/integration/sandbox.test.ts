/**
 * libcontainer/sandbox as root and as an ordinary user: what a program in it sees and may, one shape of result for every
 * end, limits, files, and that nothing is left, also when the owner is killed (the owner is this file, started again).
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Sandbox, type SandboxOptions, sandbox } from '../../lib/sandbox/sandbox.ts';
import { makeDirectory, makeStateRoot } from '../harness/bundle.ts';
import { eventually, slowness, text, within } from '../harness/deadline.ts';
import { test } from '../harness/test.ts';
import './warm.ts';

const order = process.env.SANDBOX_OWNER;
if (order !== undefined) await owner(order);
else tests();

async function owner(root: string): Promise<void> {
  await Sandbox.create({ root });
  // It runs: of one that is killed in the middle of a start the next sandbox takes back what there is.
  void sandbox(['sh', '-c', 'echo up; exec sleep 1000'], {
    root,
    onStdout: () => process.stdout.write('ready\n'),
  });
  setInterval(() => undefined, 1000);
}

function tests(): void {
  const isRoot = process.geteuid?.() === 0;
  const any = { requires: ['rootless'], timeoutMs: 60_000 } as const;
  const limits = { requires: ['root', 'controller:memory', 'controller:pids'], timeoutMs: 60_000 } as const;

  const look = `
    echo "id $(id -u) $(id -g)"; echo "host $(hostname)"; echo "pid $$"; echo "cwd $(pwd)"; echo "env $HOME $SECRET."
    for path in /root /home /etc/shadow /sys/kernel /var/lib; do [ -r $path ] && ls -d $path; done
    for path in /usr /bin /etc /; do touch $path/x 2>/dev/null && echo "wrote $path"; done
    touch /tmp/x "$HOME/x" /dev/shm/x && echo wrote
    grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -s '\\t ' ' '
    ls /proc/self/fd | wc -l; cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' '
    unshare --user true 2>&1 || true; mount -t tmpfs x /tmp 2>&1 | head -1 || true; ulimit -c`;

  test("a program sees the host's programs, itself, and nothing else", any, async t => {
    process.env.SECRET = 'not passed on';
    t.after(() => delete process.env.SECRET);
    const { stdout, stderr, ...result } = await within(
      sandbox(['sh', '-c', look], { root: makeStateRoot(t) }),
      'the sandbox',
    );
    assert.deepEqual(
      [result.exitCode, result.signal, result.timedOut, result.outputExceeded, stderr],
      [0, null, false, false, ''],
    );
    assert.ok(result.durationMs > 0);
    const id = isRoot ? 65534 : 0;
    const lines = stdout.trim().split('\n');
    assert.deepEqual(lines.slice(0, 7), [
      `id ${id} ${id}`,
      'host sandbox',
      'pid 1',
      'cwd /home/sandbox',
      'env /home/sandbox .',
      '/home',
      'wrote',
    ]);
    assert.deepEqual(
      lines.slice(7, 12),
      ['CapBnd: 0000000000000000', 'CapEff: 0000000000000000', 'NoNewPrivs: 1', 'Seccomp: 2', '4'].sort(
        (a, b) => order_(a) - order_(b),
      ),
    );
    assert.equal(lines[12], 'lo');
    assert.match(lines[13] ?? '', /unshare.*not permitted/);
    assert.match(lines[14] ?? '', /mount.*(denied|not permitted|must be superuser)/);
    assert.equal(lines[15], '0');
  });
  /** As /proc/PID/status has them. */
  const order_ = (line: string): number =>
    ['CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp', '4'].findIndex(word => line.startsWith(word));

  test('input, environment, exit code, signal, time limit, flood, abort: one shape', any, async t => {
    const root = makeStateRoot(t);
    const echo = await sandbox(['sh', '-c', 'cat; echo "$A"; echo err >&2; exit 3'], {
      root,
      input: 'in ',
      env: { A: 'b' },
    });
    assert.deepEqual([echo.exitCode, echo.stdout, echo.stderr], [3, 'in b\n', 'err\n']);
    const crash = await sandbox(['sh', '-c', 'kill -SEGV $$; exit 9'], { root });
    // Process 1: a signal to itself without a handler is dropped.
    assert.equal(crash.exitCode, 9);
    const late = await sandbox(['sleep', '1000'], { root, timeoutMs: 300 });
    assert.deepEqual([late.exitCode, late.signal, late.timedOut], [null, 'SIGKILL', true]);
    const before = process.memoryUsage().rss;
    const flood = await sandbox(['cat', '/dev/zero'], { root, maxOutputBytes: 100_000, encoding: 'buffer' });
    assert.deepEqual([flood.outputExceeded, flood.signal, flood.stdout.length], [true, 'SIGKILL', 100_000]);
    assert.ok(process.memoryUsage().rss - before < 64 << 20);
    const abort = new AbortController();
    const aborted = sandbox(['sleep', '1000'], { root, signal: abort.signal });
    setImmediate(() => abort.abort(new Error('enough')));
    await assert.rejects(within(aborted, 'the abort'), /enough/);
    await assert.rejects(sandbox(['no-such-program'], { root }), { code: 'ERR_EXEC_NOT_FOUND' });
    await assert.rejects(sandbox([], { root }), { code: 'ERR_ARGUMENT' });
    assert.deepEqual(
      readdirSync(root).filter(name => name.startsWith('sandbox-')),
      [],
    );
  });

  test('a function that takes its time holds the program back', any, async t => {
    let written = 0;
    let most = 0;
    const script = 'i=0; while [ $i -lt 64 ]; do head -c 65536 /dev/zero; i=$((i+1)); echo $i >/tmp/n; done';
    const box = await Sandbox.create({ root: makeStateRoot(t) });
    t.after(() => box.destroy());
    const slow = box.run(['sh', '-c', script], {
      onStdout: async chunk => {
        written += chunk.length;
        if (most === 0) {
          // The pipe and Node's own buffer, and no more.
          most = Number((await box.files.readText('/tmp/n').catch(() => '0')).trim());
        }
      },
    });
    const result = await within(slow, 'the run', 30_000);
    assert.deepEqual([result.exitCode, result.stdout, written], [0, '', 64 * 65536]);
    assert.ok(most < 32, `it had written ${most} of 64 blocks`);
  });

  test('memory, processes: the limit ends the program and is told', limits, async t => {
    const root = makeStateRoot(t);
    const hog = await sandbox(
      [
        'sh',
        '-c',
        'head -c 400M /dev/zero | tail -c 400M >/dev/null; echo "status $?"; dd if=/dev/zero of=/dev/null bs=300M count=1',
      ],
      {
        root,
        memoryBytes: 64 << 20,
        timeoutMs: 20_000 * slowness,
      },
    );
    assert.equal(hog.oomKilled, true, JSON.stringify(hog));
    assert.ok((hog.resourceUsage?.peakMemoryBytes ?? 0) <= 64 << 20, JSON.stringify(hog.resourceUsage));
    const bomb = await sandbox(['sh', '-c', 'for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; exit 0'], {
      root,
      pids: 4,
    });
    assert.match(bomb.stderr, /[Cc]annot fork/);
    const busy = await sandbox(['sh', '-c', 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done'], { root });
    const { cpuMs = 0 } = busy.resourceUsage ?? {};
    assert.ok(cpuMs > 0 && cpuMs < busy.durationMs * 4 + 100, JSON.stringify(busy));
  });

  test(
    'Sandbox: programs one after the other, files, exec, process 1 reaps and holds nothing',
    any,
    async t => {
      const root = makeStateRoot(t);
      const box = await within(Sandbox.create({ root, cwd: '/tmp' }), 'the sandbox');
      t.after(() => box.destroy());
      await box.files.write('/tmp/a/b/script', '#!/bin/sh\necho "from $0 by $$"\nexit 4\n', { mode: 0o755 });
      const ran = await box.run(['a/b/script']);
      assert.equal(ran.exitCode, 4);
      assert.match(ran.stdout, /^from a\/b\/script by \d+\n$/);
      assert.equal(
        await box.files.readText('/tmp/a/b/script').then(content => content.split('\n').length),
        4,
      );
      await assert.rejects(box.files.read('/tmp/none'), { code: 'ERR_SANDBOX_FILE' });
      await assert.rejects(box.files.read('/dev/zero', { maxBytes: 1000 }), { code: 'ERR_SANDBOX_FILE' });
      await assert.rejects(box.files.write('/usr/none', 'x'), { code: 'ERR_SANDBOX_FILE' });
      // A link decides nothing: it leads to the sandbox's own files.
      await box.run(['ln', '-s', '/etc/passwd', '/tmp/link']);
      assert.match(await box.files.readText('/tmp/link'), isRoot ? /^sandbox:x:65534/m : /^root:x:0/m);
      await box.files.remove('/tmp/a');
      const facts = await box.run([
        'sh',
        '-c',
        'ls /proc/1/fd 2>&1; (sleep 0.01 &); while grep -qsE "^(Name:.*sleep|State:.*Z)" /proc/[0-9]*/status; do :; done; echo reaped; ls /tmp',
      ]);
      assert.match(facts.stdout, /denied|^0\n1\n2\n/);
      assert.match(facts.stdout, /\nreaped\nlink\n$/);
      const killed = await box.run(['sh', '-c', 'kill -KILL $$']);
      assert.deepEqual([killed.exitCode, killed.signal], [null, 'SIGKILL']);
      const shell = await box.exec(['sh'], { stdin: 'pipe', stdout: 'pipe' });
      shell.stdin?.end('echo $((6 * 7))\n');
      assert.ok(shell.stdout !== undefined);
      assert.equal(await text(shell.stdout), '42\n');
      assert.deepEqual(await shell.wait(), { kind: 'exited', code: 0 });
      if (isRoot) assert.ok((await box.stats()).cpu.usage.totalNs > 0n);
      await box.destroy();
      await box.destroy();
      await assert.rejects(box.run(['true']));
    },
  );

  test('mounts: read-only unless asked, another root file system', any, async t => {
    const root = makeStateRoot(t);
    const shared = makeDirectory(t);
    mkdirSync(join(shared, 'rw'), { mode: 0o777 });
    writeFileSync(join(shared, 'file'), 'content');
    symlinkSync('/etc/shadow', join(shared, 'link'));
    const options: SandboxOptions = {
      root,
      ...(isRoot ? { user: { uid: 0, gid: 0 } } : {}),
      mounts: [
        { source: shared, destination: '/srv/data' },
        { source: join(shared, 'rw'), destination: '/srv/out', writable: true },
      ],
    };
    const script = 'cat /srv/data/file; echo x >/srv/data/y; echo x >/srv/out/x; cat /srv/data/link';
    const result = await sandbox(['sh', '-c', script], options);
    assert.equal(result.stdout, 'content');
    assert.match(result.stderr, /y: Read-only file system[\s\S]*link.*No such file/);
    assert.equal(readFileSync(join(shared, 'rw/x'), 'utf8'), 'x\n');
    for (const destination of ['/proc/x', '/', 'relative', '/bin/x'])
      await assert.rejects(sandbox(['true'], { root, mounts: [{ source: shared, destination }] }), {
        code: 'ERR_ARGUMENT',
      });
  });

  test('the owner is killed: nothing is left', { ...any, requires: ['rootless', 'lane:host'] }, async t => {
    const root = makeStateRoot(t);
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url)], {
      env: { ...process.env, SANDBOX_OWNER: root },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.after(() => child.kill('SIGKILL'));
    assert.ok(child.stdout !== null);
    for await (const chunk of child.stdout) if (String(chunk).includes('ready')) break;
    child.kill('SIGKILL');
    await eventually(
      'the removal',
      () => readdirSync(root).filter(name => name.startsWith('sandbox-')).length === 0,
    );
  });
}
