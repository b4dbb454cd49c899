import { deepEqual, equal } from 'node:assert/strict';
import {
  idmapOption,
  isInlineIdmap,
  type MountFlags,
  mountOptionNames,
  parseMountOptions,
} from '../../../lib/config/mount-options.ts';
import { MOUNT_ATTR, MS } from '../../../lib/plan/numbers.ts';
import { test } from '../../harness/test.ts';

const none: MountFlags = {
  flags: 0,
  clearedFlags: 0,
  propagation: [],
  recursiveSet: 0,
  recursiveClear: 0,
  data: '',
  copyUp: false,
};

test('parseMountOptions() gives each option its flag', {
  proves: ['mounts[].options[acl]', 'mounts[].options[noacl]'],
}, async () => {
  const rows: [options: string[], expected: Partial<MountFlags>][] = [
    [[], {}],
    [['defaults'], {}],
    [['ro'], { flags: MS.RDONLY }],
    [['rw'], { clearedFlags: MS.RDONLY }],
    [['ro', 'rw'], { clearedFlags: MS.RDONLY }],
    [['rw', 'ro'], { flags: MS.RDONLY }],
    [['nosuid', 'nodev', 'noexec'], { flags: MS.NOSUID | MS.NODEV | MS.NOEXEC }],
    [['suid', 'dev', 'exec'], { clearedFlags: MS.NOSUID | MS.NODEV | MS.NOEXEC }],
    [['bind'], { flags: MS.BIND }],
    [['rbind'], { flags: MS.BIND | MS.REC }],
    [['remount', 'bind', 'ro'], { flags: MS.REMOUNT | MS.BIND | MS.RDONLY }],
    [['strictatime'], { flags: MS.STRICTATIME }],
    [['nosymfollow', 'lazytime', 'iversion'], { flags: MS.NOSYMFOLLOW | MS.LAZYTIME | MS.I_VERSION }],
    [['rprivate', 'shared'], { propagation: [MS.PRIVATE | MS.REC, MS.SHARED] }],
    [['rslave', 'runbindable'], { propagation: [MS.SLAVE | MS.REC, MS.UNBINDABLE | MS.REC] }],
    [['rro'], { recursiveSet: MOUNT_ATTR.RDONLY }],
    [['rro', 'rrw'], { recursiveClear: MOUNT_ATTR.RDONLY }],
    [['rrw', 'rro'], { recursiveSet: MOUNT_ATTR.RDONLY }],
    [['rnoatime'], { recursiveSet: MOUNT_ATTR.NOATIME, recursiveClear: MOUNT_ATTR._ATIME }],
    [
      ['rnoatime', 'rstrictatime'],
      { recursiveSet: MOUNT_ATTR.STRICTATIME, recursiveClear: MOUNT_ATTR._ATIME },
    ],
    // mount_setattr(2) refuses a part of the ATIME field in attr_clr.
    [['ratime'], { recursiveClear: MOUNT_ATTR._ATIME }],
    [['rnosymfollow'], { recursiveSet: MOUNT_ATTR.NOSYMFOLLOW }],
    [['tmpcopyup', 'size=64k', 'mode=755'], { copyUp: true, data: 'size=64k,mode=755' }],
    [['acl'], { data: 'acl' }],
    [['nosuid', 'x-unknown'], { flags: MS.NOSUID, data: 'x-unknown' }],
  ];
  for (const [options, expected] of rows) {
    deepEqual(parseMountOptions(options), { ...none, ...expected }, options.join(','));
  }
});

test('mountOptionNames() is the list of `runc features` 1.1.5', {
  proves: ['features.mountOptions'],
}, async () => {
  const runc =
    'acl async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noacl noatime nodev nodiratime ' +
    'noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime ' +
    'relatime remount rexec rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro ' +
    'rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave ' +
    'strictatime suid symfollow sync tmpcopyup unbindable';
  deepEqual(mountOptionNames(), runc.split(' '));
});

test('idmapOption() is the last of both words, isInlineIdmap() the form with ranges', async () => {
  const given = ['idmap', 'ridmap', 'idmap=uids=0-1-10', 'ro', 'idmapped'];
  deepEqual(given.map(isInlineIdmap), [false, false, true, false, false]);
  equal(idmapOption(given), 'ridmap');
  equal(idmapOption(given.slice(2)), undefined);
  equal(mountOptionNames().includes('idmap'), false);
});
