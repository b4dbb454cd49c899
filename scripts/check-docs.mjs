// docs/errors.md is the table of lib/errors.ts; links between documents lead somewhere; commands in the README exist.
// `node scripts/check-docs.mjs --write` writes docs/errors.md.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const errorsPage = join(root, 'docs/errors.md');
const read = path => readFileSync(join(root, path), 'utf8');

async function errorTable() {
  const { transformSync } = await import('esbuild');
  const { code } = transformSync(read('lib/errors.ts'), { loader: 'ts', format: 'esm' });
  return (await import(`data:text/javascript;base64,${Buffer.from(code).toString('base64')}`)).reasons;
}

export async function errorsDocument() {
  const cell = text => text.replaceAll('|', '\\|').replaceAll('<', '&lt;');
  const rows = Object.entries(await errorTable()).map(
    ([code, [sentence, hint]]) => `| \`${code}\` | ${cell(sentence)} | ${cell(hint)} |`,
  );
  return `# Errors

Every error of this library has a stable \`code\`, a sentence (\`message\`, mostly with a detail after it) and a \`hint\`.
Context is in \`cause\`; classes add data: \`ConfigError\` (issues with the path of the property, line and column),
\`InitError\` (step, index, syscall, args, errno), \`SyscallError\`, \`CgroupError\` (file, value, pids), \`HookError\`
(hook, index, exit code, output), \`ContainerError\` (container id, status). Sentences that containerd, Podman and others match are runc's own.

This page is written by \`node scripts/check-docs.mjs --write\` from \`lib/errors.ts\`.

| Code | Sentence | What to do |
| --- | --- | --- |
${rows.join('\n')}
`;
}

function documents() {
  const pages = readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' });
  return [
    'README.md',
    'CHANGELOG.md',
    'CONTRIBUTING.md',
    ...pages.filter(n => n.endsWith('.md')).map(n => `docs/${n}`),
  ];
}

function checkLinks(page) {
  const problems = [];
  for (const [, target] of read(page)
    .replace(/^```[\s\S]*?^```/gm, '')
    .matchAll(/\]\(([^)#\s]+)[^)]*\)/g))
    if (!/^[a-z]+:/.test(target) && !existsSync(join(root, dirname(page), target)))
      problems.push(`${page}: link to ${target}, which is not there`);
  return problems;
}

function checkCommands(page) {
  const { scripts } = JSON.parse(read('package.json'));
  const problems = [];
  for (const [, name] of read(page).matchAll(/npm run ([\w:]+)/g))
    if (scripts[name] === undefined) problems.push(`${page}: npm run ${name} is no script of package.json`);
  for (const [, file] of read(page).matchAll(
    /(?:^|[\s`])((?:scripts|lib|test|docs|bench|addon|examples|proto)\/[\w./-]+\.\w+)/g,
  ))
    if (!existsSync(join(root, file))) problems.push(`${page}: names ${file}, which is not there`);
  return problems;
}

export async function checkDocs() {
  const problems = [];
  if (!existsSync(errorsPage) || readFileSync(errorsPage, 'utf8') !== (await errorsDocument()))
    problems.push('docs/errors.md is not the table of lib/errors.ts: node scripts/check-docs.mjs --write');
  for (const page of documents()) {
    if (!existsSync(join(root, page))) problems.push(`${page} is missing`);
    else problems.push(...checkLinks(page), ...checkCommands(page));
  }
  return problems;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv.includes('--write')) writeFileSync(errorsPage, await errorsDocument());
  const problems = await checkDocs();
  for (const problem of problems) console.error(problem);
  process.exitCode = problems.length > 0 ? 1 : 0;
}
