/** linux.netDevices: host devices in the container's network namespace. config-linux.md "Network Devices". */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { type TestContext, test } from '../harness/test.ts';
import { fixture } from './fixture.ts';

function ip(...words: string[]): string {
  const { status, stdout, stderr } = spawnSync('ip', words, { encoding: 'utf8' });
  assert.equal(status, 0, `ip ${words.join(' ')}: ${stderr}`);
  return stdout;
}

let count = 0;
/** A veth pair; the first goes into a container and takes the other one with it when it dies. */
function pair(t: TestContext): string {
  count += 1;
  const name = `lc${process.pid % 100_000}a${count}`;
  ip('link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}p`);
  t.after(() => spawnSync('ip', ['link', 'del', `${name}p`]));
  return name;
}

const withDevices = (netDevices: object) => ({
  patch: (spec: { linux: object }) => void Object.assign(spec.linux, { netDevices }),
});
const requires = ['root', 'file:/usr/sbin/ip'] as const;

test('netDevices: moved, renamed, up, with its permanent global addresses and its MTU', {
  requires,
  proves: ['linux.netDevices'],
}, async t => {
  const [first, second] = [pair(t), pair(t)];
  ip('link', 'set', first, 'mtu', '1400', 'up');
  ip('addr', 'add', '10.201.7.2/24', 'broadcast', '10.201.7.255', 'dev', first);
  ip('addr', 'add', 'fd00:7::2/64', 'dev', first, 'nodad');
  ip('addr', 'add', '169.254.9.9/32', 'scope', 'link', 'dev', first);
  const on = await fixture(t, withDevices({ [first]: { name: 'uplink0' }, [second]: {} }));
  const shown = await on.output('ip addr show; echo; cat /sys/class/net/uplink0/mtu');
  assert.match(shown, /inet 10\.201\.7\.2\/24 brd 10\.201\.7\.255 scope global uplink0/);
  assert.match(shown, /inet6 fd00:7::2\/64 scope global/);
  assert.match(shown, /uplink0[^:]*: <[^>]*UP[^>]*>/);
  assert.match(shown, new RegExp(`${second}[^:]*: <[^>]*UP[^>]*>`));
  assert.match(shown, /\n1400\n$/);
  assert.doesNotMatch(shown, /169\.254\.9\.9/);
  assert.notEqual(spawnSync('ip', ['link', 'show', first]).status, 0);
});

test('netDevices: a template gets a free number', { requires, proves: ['linux.netDevices'] }, async t => {
  const [first, second] = [pair(t), pair(t)];
  const on = await fixture(t, withDevices({ [first]: { name: 'ctr%d' }, [second]: { name: 'ctr%d' } }));
  const names = (await on.output('ls /sys/class/net')).split('\n');
  assert.ok(names.includes('ctr0') && names.includes('ctr1'), names.join(' '));
});

test('netDevices: what cannot be moved is an error that names it, before anything has moved', {
  requires,
  proves: ['linux.netDevices'],
}, async t => {
  const name = pair(t);
  for (const [devices, detail, code] of [
    [{ [name]: {}, absent0: {} }, 'absent0', 'ENODEV'],
    [{ [name]: { name: 'lo' } }, `${name} as lo`, 'EEXIST'],
    [{ lo: { name: 'lo9' } }, 'lo as lo9', 'EINVAL'],
  ] as const) {
    const on = await fixture(t, withDevices(devices));
    const container = await on.create();
    await assert.rejects(
      container.run(on.process()),
      (error: Error & { code?: string; cause?: { errnoName?: string } }) => {
        assert.equal(error.code, 'ERR_NET_DEVICE');
        assert.ok(error.message.includes(detail), error.message);
        assert.equal(error.cause?.errnoName, code);
        return true;
      },
    );
    // It is still here.
    ip('link', 'show', name);
  }
});
