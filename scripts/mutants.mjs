// node scripts/mutants.mjs [--only NAME]: takes one defence away at a time and looks whether a security test goes red. In a
// VM only, since a mutant does to its host what the defence is there to prevent. The table is the list of defences: which
// file, what is taken away, which row of the catalogue notices. A mutant that nothing notices ends with status 1.
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { initFlags, initLinkFlags, initSources } from './init-flags.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
process.chdir(root);
const { values: options } = parseArgs({
  options: { only: { type: 'string', default: '' }, guest: { type: 'boolean', default: false } },
});
const suite = 'test/integration/security.test.ts';
const made = 'build/mutants';

// name, file, what is there, what is put in its place, a part of the name of the test that goes red
const rows = [
  [
    'resolve-in-root',
    'addon/init/rootfs.cc',
    'RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve',
    'resolve',
    'row 3, 15, 22',
  ],
  [
    'resolve-in-root-dev',
    'addon/init/rootfs.cc',
    'RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve',
    'resolve',
    'row 27, 33',
  ],
  [
    'resolve-in-root-file',
    'addon/init/rootfs.cc',
    'RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve',
    'resolve',
    'row 31',
  ],
  [
    'proc-link',
    'addon/init/steps/mount.cc',
    '(strcmp(type, "proc") == 0 || strcmp(type, "sysfs") == 0)',
    'false',
    'row 10, 20, 40',
  ],
  [
    'sys-link',
    'addon/init/steps/mount.cc',
    '(strcmp(type, "proc") == 0 || strcmp(type, "sysfs") == 0)',
    'strcmp(type, "proc") == 0',
    'row 10: ',
  ],
  [
    'over-proc',
    'addon/init/proc_target.cc',
    'if (!under && !is_procfs(fs)) return Result::ok;',
    'return Result::ok;',
    'row 9, 42',
  ],
  [
    'over-proc-by-link',
    'addon/init/proc_target.cc',
    'if (!under && !is_procfs(fs)) return Result::ok;',
    'if (!under) return Result::ok;',
    'row 4, 26',
  ],
  [
    'null-link',
    'addon/init/steps/device.cc',
    'null = open_in_root(init, "/dev/null", O_RDWR | O_NOFOLLOW);',
    'null = Fd(call(SYS_openat, AT_FDCWD, "/dev/zero", O_RDWR)); continue;',
    'row 24, 41',
    'addon/init/rootfs.cc',
    'if (!is_device(null.get(), 1, 3))',
    'if (false)',
    'addon/init/steps/device.cc',
    'if ((stat.st_mode & S_IFMT) == type',
    'return Result::ok; if ((stat.st_mode & S_IFMT) == type',
  ],
  [
    'device-kind',
    'addon/init/steps/device.cc',
    'if ((stat.st_mode & S_IFMT) == type',
    'return Result::ok; if ((stat.st_mode & S_IFMT) == type',
    'row 2, 36',
  ],
  [
    'console-link',
    'addon/init/steps/console.cc',
    'if (S_ISLNK(stat.st_mode) || S_ISDIR(stat.st_mode))',
    'if (false)',
    'row 25, 35',
  ],
  [
    'console-ptmx',
    'addon/init/steps/console.cc',
    'if (!is_device(ptmx.get(), 5, 2) || !on_devpts(ptmx.get()))',
    'if (false)',
    'row 25: ',
  ],
  [
    'late-readonly',
    'addon/init/steps/root.cc',
    'if (set_attributes(init, target.get(), attributes, 0, message.flag(3), path) == Result::ok)',
    '',
    'row 38, 43',
  ],
  [
    'readonly-path',
    'addon/init/steps/paths.cc',
    'if (!target) return Result::ok;\n  if (clone_tree',
    'return Result::ok;\n  if (clone_tree',
    'row 38, 43',
  ],
  [
    'mask-path',
    'addon/init/steps/paths.cc',
    '// The type first:',
    'return Result::ok;\n  // The type first:',
    'row 38, 43',
  ],
  [
    'inheritable',
    'addon/init/steps/user.cc',
    'Sets wanted = Sets::of(effective, permitted, inheritable);',
    'Sets wanted = Sets::of(effective, permitted, permitted);',
    'row 1, 5, 6, 17',
  ],
  [
    'ambient',
    'addon/init/steps/user.cc',
    'if ((ambient >> capability & 1) != 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE',
    'if ((permitted >> capability & 1) != 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE',
    'row 1, 5, 6, 17',
    'addon/init/steps/user.cc',
    'Sets wanted = Sets::of(effective, permitted, inheritable);',
    'Sets wanted = Sets::of(effective, permitted, permitted);',
  ],
  [
    'cwd-outside',
    'addon/init/steps/user.cc',
    "if (length > 0 && where[0] == '/') return Result::ok;",
    'return Result::ok;',
    'row 21',
  ],
  ['stdio-owner', 'addon/init/steps/user.cc', ' || given_to_read(fd, stat.st_mode)', '', 'row 36: a file'],
  [
    'hook-directory',
    'addon/init/steps/hooks.cc',
    'if (!init.pivoted && call(SYS_chdir, "/") < 0) leave(126);',
    '',
    'row 34',
  ],
  [
    'copied-environment',
    'lib/parent/hooks.ts',
    'env: ',
    'env: { ...process.env, LD_PRELOAD: "" } as never ?? ',
    'row 34',
  ],
  [
    'no-pivot-exec',
    'lib/plan/standard-init.ts',
    "steps.push({ kind: 'moveRoot' })",
    "steps.push({ kind: 'propagation', path: '/', flags: 0x44000 })",
    'row 11',
  ],
  ['id-grammar', 'lib/factory.ts', "!idPattern.test(id) || id === '.' || id === '..'", 'false', 'row 39'],
  ['state-link', 'lib/state.ts', 'constants.O_NOFOLLOW | ', '', 'row 39'],
  ['state-owner', 'lib/state.ts', ' || stat.uid !== process.geteuid?.()', '', 'row 39'],
  ['state-directory-link', 'lib/state.ts', ' || !lstatSync(directory).isDirectory()', '', 'row 39'],
  ['cgroup-dots', 'lib/cgroups/layout.ts', "names.includes('..') || ", '', 'row 29'],
  [
    'sysctl-names',
    'lib/config/sysctl.ts',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the source
    'return `sysctl "${dotted}" is not in a separate kernel namespace`;',
    'return undefined;',
    'row 26, N4',
  ],
  [
    'uid-range',
    'lib/process.ts',
    '!(Number.isInteger(value) && value >= 0 && value < 2 ** 32 - 1)',
    'false',
    'row 32, N5',
    'lib/config/validate-process.ts',
    '!Number.isInteger(id) || id < 0 || id >= 0xffff_ffff',
    'false',
  ],
];

const changesOf = ([, file, from, to, , ...more]) => {
  const changes = [[file, from, to]];
  for (let at = 0; at < more.length; at += 3) changes.push(more.slice(at, at + 3));
  return changes;
};

function changed(changes) {
  const texts = new Map();
  for (const [file, from, to] of changes) {
    const text = texts.get(file) ?? readFileSync(file, 'utf8');
    if (!text.includes(from)) throw new Error(`mutants: ${file} no longer has: ${from}`);
    texts.set(
      file,
      text.replace(from, () => to),
    );
  }
  return texts;
}

const objectOf = file => join(made, 'objects', `${file.replaceAll('/', '-')}.o`);
const quiet = ['-w', '-Wno-error'];

function buildInit(name, texts) {
  const flags = initFlags();
  const objects = initSources().map(file => {
    const text = texts.get(file);
    if (text === undefined) {
      if (!existsSync(objectOf(file))) execFileSync('gcc', [...flags, '-c', file, '-o', objectOf(file)]);
      return objectOf(file);
    }
    const object = join(made, name, `${basename(file)}.o`);
    const include = `-I${dirname(file)}`;
    execFileSync('gcc', [...flags, ...quiet, include, '-x', 'c++', '-c', '-', '-o', object], {
      // The includes are relative to the file.
      input: text.replaceAll(/#include "(\.\.\/)?([^"]+)"/g, (_, up, path) => {
        const base = join(dirname(file), up ?? '', path);
        return existsSync(base) ? `#include "${join(root, base)}"` : `#include "${path}"`;
      }),
    });
    return object;
  });
  execFileSync('gcc', [...flags, ...initLinkFlags, '-o', join(made, name, 'init'), ...objects]);
}

async function buildTests(name, texts) {
  const { build } = await import('esbuild');
  await build({
    entryPoints: [suite],
    outdir: join(made, name, 'test'),
    outbase: 'test',
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'esm',
    logLevel: 'error',
    external: ['esbuild', 'typescript', '*.node', 'libcontainer'],
    banner: {
      js: "import { createRequire as lcCreateRequire } from 'node:module'; const require = lcCreateRequire(import.meta.url);",
    },
    plugins: [
      {
        name: 'mutant',
        setup: ({ onLoad }) =>
          onLoad({ filter: /\/lib\/.*\.ts$/ }, ({ path }) => {
            const contents = texts.get(path.slice(root.length + 1));
            return contents === undefined ? undefined : { contents, loader: 'ts' };
          }),
      },
    ],
  });
}

async function prepare(chosen) {
  rmSync(made, { recursive: true, force: true });
  mkdirSync(join(made, 'objects'), { recursive: true });
  await buildTests('none', new Map());
  for (const row of chosen) {
    const texts = changed(changesOf(row));
    mkdirSync(join(made, row[0]), { recursive: true });
    if ([...texts.keys()].some(file => file.startsWith('addon/'))) buildInit(row[0], texts);
    else await buildTests(row[0], texts);
  }
  writeFileSync(join(made, 'rows.json'), JSON.stringify(chosen));
}

/** True: green. */
function run(bundles, filter, name) {
  const words = [
    'scripts/test.mjs',
    suite,
    '--no-setup',
    '--no-bundle',
    '--bundles',
    bundles,
    '--lane',
    'v2',
  ];
  const results = `/tmp/mutant-${name}.json`;
  const { stdout } = spawnSync(process.execPath, [...words, '--filter', filter, '--results', results], {
    encoding: 'utf8',
  });
  const { tests } = JSON.parse(readFileSync(results, 'utf8'));
  const ran = tests.filter(test => test.result !== 'skipped');
  if (ran.length === 0) throw new Error(`mutants: no test is called ${filter}\n${stdout}`);
  const failed = ran.find(test => test.result === 'failed');
  return failed === undefined
    ? undefined
    : String(failed.error).split('\n').slice(0, 3).join(' ').slice(0, 160);
}

function guest() {
  const chosen = JSON.parse(readFileSync(join(made, 'rows.json'), 'utf8'));
  const kept = '/tmp/init-kept';
  copyFileSync('build/init/init', kept);
  const plain = join(made, 'none', 'test');
  let bad = 0;
  const controls = new Map();
  for (const [name, file, , , filter] of chosen) {
    if (!controls.has(filter)) controls.set(filter, run(plain, filter, 'control'));
    const native = existsSync(join(made, name, 'init'));
    if (native) copyFileSync(join(made, name, 'init'), 'build/init/init');
    const red = run(native ? plain : join(made, name, 'test'), filter, name);
    copyFileSync(kept, 'build/init/init');
    const control = controls.get(filter);
    const good = red !== undefined && control === undefined;
    if (!good) bad += 1;
    console.log(
      `${good ? 'red ' : control === undefined ? 'ALIVE' : 'CONTROL RED'} ${name} (${file}) › ${filter}: ${red ?? control ?? 'nothing noticed'}`,
    );
  }
  console.log(`mutants: ${chosen.length - bad} of ${chosen.length} noticed`);
  return bad > 0 ? 1 : 0;
}

if (options.guest) {
  process.exitCode = guest();
} else {
  await prepare(rows.filter(([name]) => options.only.split(',').some(part => name.includes(part))));
  const vm = [
    'test/vm/run.mjs',
    '--profile',
    'v2',
    '--limit-seconds',
    '2400',
    '--',
    'env',
    'LIBCONTAINER_TEST_SLOWNESS=6',
  ];
  const { status } = spawnSync(
    process.execPath,
    [...vm, process.execPath, 'scripts/mutants.mjs', '--guest'],
    { stdio: 'inherit' },
  );
  process.exitCode = status ?? 1;
}
