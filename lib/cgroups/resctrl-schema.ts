/** Lines of a resctrl `schemata` file: `L3:0=ff;1=f`, `MB:0=50`. Pure. Kernel Documentation/filesystems/resctrl.rst. */
import type { IntelRdt } from '../config/config.ts';

const linesOf = (text: string): string[] =>
  text
    .split('\n')
    .map(line => line.trim())
    .filter(line => line !== '');

/**
 * What is written to `schemata`, in one write; undefined: nothing is to be written. config-linux.md: a MB line of
 * l3CacheSchema gives way to memBwSchema; the lines of `schemata` come last, since the last line of a resource counts.
 */
export function schemataOf({
  l3CacheSchema = '',
  memBwSchema = '',
  schemata = [],
}: IntelRdt): string | undefined {
  const bandwidth = linesOf(memBwSchema);
  const cache = linesOf(l3CacheSchema).filter(line => bandwidth.length === 0 || !line.startsWith('MB:'));
  const lines = [...cache, ...bandwidth, ...schemata.flatMap(linesOf)];
  return lines.length === 0 ? undefined : `${lines.join('\n')}\n`;
}

type Schema = Map<string, Map<string, string>>;

/** Resource → domain → value. The kernel pads with blanks, and masks with zeros. */
function parse(text: string): Schema {
  const schema: Schema = new Map();
  for (const line of linesOf(text)) {
    const colon = line.indexOf(':');
    const resource = line.slice(0, colon).trim();
    const values = schema.get(resource) ?? new Map<string, string>();
    for (const entry of line.slice(colon + 1).split(';')) {
      const [domain = '', value = ''] = entry.split('=').map(word => word.trim());
      if (domain !== '') values.set(domain, value.toLowerCase().replace(/^0+(?=.)/, ''));
    }
    schema.set(resource, values);
  }
  return schema;
}

/** The first `RESOURCE:domain=value` that is wanted and not so; undefined when all are. */
export function schemaConflict(wanted: string, present: string): string | undefined {
  const there = parse(present);
  for (const [resource, values] of parse(wanted))
    for (const [domain, value] of values)
      if (there.get(resource)?.get(domain) !== value) return `${resource}:${domain}=${value}`;
  return undefined;
}
