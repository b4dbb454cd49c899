// How the init executable is compiled: with the C driver, which compiles .cc files just so and links no C++ library (g++ 12
// has no -nostdlib++).
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';

export const initSources = () => [
  ...['addon/init', 'addon/init/steps'].flatMap(directory =>
    readdirSync(directory)
      .filter(name => name.endsWith('.cc'))
      .map(name => `${directory}/${name}`),
  ),
  'addon/sys/clone.cc',
];

/** The front does a clone as a monitor does it. */
export const frontSources = [
  'addon/front/main.cc',
  'addon/init/monitor_clone.cc',
  'addon/init/monitor_socket.cc',
  'addon/sys/clone.cc',
];

export function initFlags() {
  const specs = execFileSync('sh', ['-c', 'ls /usr/lib/*-linux-musl/musl-gcc.specs']).toString();
  const arch = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
  return [
    '-specs',
    specs.trim().split('\n')[0],
    '-nostdinc++',
    '-std=c++20',
    '-Os',
    '-fno-exceptions',
    '-fno-rtti',
    // A static executable has a fixed address: tables of pointers become read-only data.
    '-fno-pie',
    '-fno-asynchronous-unwind-tables',
    '-fno-threadsafe-statics',
    '-ffunction-sections',
    '-fdata-sections',
    '-Wall',
    '-Wextra',
    '-Wconversion',
    '-Werror',
    '-Iaddon',
    '-idirafter',
    '/usr/include',
    '-idirafter',
    `/usr/include/${arch}`,
  ];
}

export const initLinkFlags = [
  '-static',
  '-Wl,--gc-sections',
  '-Wl,--build-id=none',
  '-Wl,-z,noseparate-code',
  // musl protects nothing by it in a static executable: it would be a page of padding.
  '-Wl,-z,norelro',
  '-s',
];
