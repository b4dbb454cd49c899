/**
 * Documents drawn from the schema that the library parses with: what the schema says of a property is how it is drawn,
 * unless a table has a row for its path. So a property that is added to the schema is drawn without further ado, and a
 * test that fails on it asks for a row.
 */
import fc from 'fast-check';
import * as z from 'zod/mini';

/**
 * What is drawn instead; a function gets what the schema alone would give (for a list: its element); `without`: left out,
 * and why.
 */
export type Row =
  | fc.Arbitrary<unknown>
  | ((byType: fc.Arbitrary<unknown>) => fc.Arbitrary<unknown>)
  | { readonly without: string };

/** Paths as in docs/spec-conformance.md: `process.user.uid`, `mounts[].options`, `linux.timeOffsets.*.secs`. */
export interface Table {
  readonly rows: { readonly [path: string]: Row };
  /** Optional properties that are always drawn. */
  readonly always: readonly string[];
}

const safe = Number.MAX_SAFE_INTEGER;
/** The schema refuses NUL bytes everywhere. */
export const anyText = fc.string({ unit: 'grapheme', maxLength: 12 }).filter(text => !text.includes('\0'));
/** A property that no specification knows: it must be ignored. */
const unknownProperty = fc.option(fc.tuple(fc.stringMatching(/^x[A-Z][a-z]{1,6}$/), fc.jsonValue()), {
  freq: 8,
  nil: undefined,
});

/** Counts which rows of the table were used: one that is not names no property. */
export class SchemaArbitrary {
  readonly used = new Set<string>();
  readonly #table: Table;

  constructor(table: Table) {
    this.#table = table;
  }

  /** @throws {Error} for a kind of schema that it does not know */
  of(schema: z.core.$ZodType, path = ''): fc.Arbitrary<unknown> {
    const row = this.#table.rows[path];
    if (row === undefined || 'without' in row) return this.#byType(schema, path);
    this.used.add(path);
    if (typeof row !== 'function') return row;
    let { def } = (schema as z.core.$ZodTypes)._zod;
    if (def.type === 'optional') def = (def.innerType as z.core.$ZodTypes)._zod.def;
    return row(def.type === 'array' ? this.of(def.element, `${path}[]`) : this.#byType(schema, path));
  }

  #byType(schema: z.core.$ZodType, path: string): fc.Arbitrary<unknown> {
    const range = z.globalRegistry.get(schema);
    if (range?.type === 'integer')
      return fc.integer({
        min: Math.max(Number(range.minimum), -safe),
        max: Math.min(Number(range.maximum), safe),
      });
    const { def } = (schema as z.core.$ZodTypes)._zod;
    switch (def.type) {
      case 'object':
        return this.#object(def.shape, path);
      case 'array':
        return fc.array(this.of(def.element, `${path}[]`), { maxLength: 2 });
      case 'record':
        return fc.dictionary(anyText, this.of(def.valueType, `${path}.*`), { maxKeys: 2 });
      case 'optional':
        return this.of(def.innerType, path);
      case 'pipe':
        return this.of(def.in, path);
      case 'string':
        return anyText;
      case 'boolean':
        return fc.boolean();
      case 'unknown':
        return fc.jsonValue({ maxDepth: 2 });
      default:
        throw new Error(`the schema has a ${def.type} at ${path}: how is it drawn?`);
    }
  }

  #object(shape: Readonly<Record<string, z.core.$ZodType>>, path: string): fc.Arbitrary<unknown> {
    const parts: { [name: string]: fc.Arbitrary<unknown> } = {};
    const required: string[] = [];
    for (const [name, inner] of Object.entries(shape)) {
      const at = path === '' ? name : `${path}.${name}`;
      const row = this.#table.rows[at];
      if (row !== undefined && 'without' in row) {
        this.used.add(at);
        continue;
      }
      parts[name] = this.of(inner, at);
      const optional = (inner as z.core.$ZodTypes)._zod.def.type === 'optional';
      if (!optional || this.#table.always.includes(at)) required.push(name);
    }
    return fc
      .tuple(fc.record(parts, { requiredKeys: required }), unknownProperty)
      .map(([known, more]) => (more === undefined ? known : { ...known, [more[0]]: more[1] }));
  }
}

/** A value that the schema at this place cannot take, whatever it is: of another JSON type. (null is "not given", as in Go.) */
export function wrongFor(value: unknown): fc.Arbitrary<unknown> {
  const others = [true, 'text', 1.5, [], {}].filter(other => jsonType(other) !== jsonType(value));
  return fc.constantFrom(...others);
}

function jsonType(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'array' : typeof value;
}
