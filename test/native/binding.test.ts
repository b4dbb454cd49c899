import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { binding } from '../../lib/native/binding.ts';
import { test } from '../harness/test.ts';

/** The names of the methods of `interface Binding`, from its source. */
function declared(): string[] {
  let directory = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    try {
      const source = readFileSync(join(directory, 'lib/native/binding.ts'), 'utf8');
      const body = /export interface Binding \{\n([\s\S]*?)\n\}\n/.exec(source)?.[1] ?? '';
      return [...body.matchAll(/^ {2}(\w+)\(/gm)].map(match => match[1] ?? '').sort();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || dirname(directory) === directory) throw error;
      directory = dirname(directory);
    }
  }
}

test('the addon exports what the interface Binding declares, and nothing else', () => {
  const names = declared();
  assert.ok(names.length > 20, `only ${names.length} methods found`);
  assert.deepEqual(Object.keys(binding()).sort(), names);
});

test('loading the addon starts no thread of ours', () => {
  binding();
  const names = readFileSync('/proc/self/status', 'utf8');
  assert.match(names, /^Threads:/m);
  assert.ok(!threadNames().includes('libcontainer'));
});

function threadNames(): string[] {
  const { readdirSync } = process.getBuiltinModule('node:fs');
  return readdirSync('/proc/self/task').map(id => readFileSync(`/proc/self/task/${id}/comm`, 'utf8').trim());
}

test('arguments of the wrong type are a TypeError that names them', () => {
  const addon = binding();
  const call = (name: string, ...args: unknown[]) => {
    const fn: unknown = Reflect.get(addon, name);
    assert.ok(typeof fn === 'function');
    return () => Reflect.apply(fn, addon, args);
  };
  assert.throws(call('open', 1, 0, 0), { name: 'TypeError', message: /^path must be a string/ });
  assert.throws(call('open', 'a\0b', 0, 0), {
    name: 'TypeError',
    message: /^path must not contain a null byte/,
  });
  assert.throws(call('close', -1), { name: 'TypeError', message: /^fd must be an integer from 0/ });
  assert.throws(call('close', 1.5), { name: 'TypeError' });
  assert.throws(call('pidfdOpen', 1, 5), { name: 'TypeError', message: /^startTime must be a bigint/ });
  assert.throws(call('pidfdSendSignal', 0, 65), { name: 'TypeError', message: /^signal must be/ });
  assert.throws(
    call('spawn', {}, () => undefined),
    { name: 'TypeError', message: /^job\.before must be an array/ },
  );
  assert.throws(call('files', [{ op: 'melt', path: '/x' }], true), {
    name: 'TypeError',
    message: /operations\[0\]\.op/,
  });
  assert.throws(call('files', [{ op: 'write', path: '/x', data: '', tolerate: ['EHUH'] }], true), {
    name: 'TypeError',
    message: /operations\[0\]\.tolerate\[0\]/,
  });
});

test('errors of system calls look like those of Node', () => {
  assert.throws(() => binding().open('/nonexistent/file', 0, 0), {
    code: 'ENOENT',
    errno: -2,
    syscall: 'open',
    path: '/nonexistent/file',
    message: 'ENOENT: No such file or directory, open("/nonexistent/file")',
  });
});

test('fsType and lastCapability say what the kernel says', () => {
  assert.equal(binding().fsType('/proc'), 0x9fa0);
  const last = Number(readFileSync('/proc/sys/kernel/cap_last_cap', 'utf8'));
  assert.equal(binding().lastCapability(), last);
});
