/** `org.systemd.property.NAME` annotations: properties of the unit that no field of the configuration has. runc's docs/systemd.md. */
import { ConfigError } from '../../errors.ts';
import { parseVariantText, VariantTextError } from './variant-text.ts';
import type { Variant } from './wire.ts';

export type Property = readonly [name: string, value: Variant];

export const annotationPrefix = 'org.systemd.property.';

function refuse(annotation: string, message: string, cause?: unknown): never {
  throw new ConfigError('ERR_SPEC_INVALID', {
    issues: [{ path: `annotations[${JSON.stringify(annotation)}]`, message }],
    cause,
  });
}

/**
 * In the order of the annotations. On the bus times are in microseconds and named so: `TimeoutStopSec` becomes
 * `TimeoutStopUSec`.
 * @throws {ConfigError} ERR_SPEC_INVALID
 */
export function annotationProperties(annotations: { readonly [name: string]: string }): Property[] {
  return Object.entries(annotations).flatMap(([annotation, text]): Property[] => {
    if (!annotation.startsWith(annotationPrefix)) return [];
    const name = annotation.slice(annotationPrefix.length);
    if (!/^[A-Za-z]{3,}$/.test(name)) refuse(annotation, 'not the name of a property: three letters or more');
    let value: Variant;
    try {
      value = parseVariantText(text);
    } catch (error) {
      if (!(error instanceof VariantTextError)) throw error;
      return refuse(annotation, `not a GVariant text: ${error.message}`, error);
    }
    // Not OnCalendarUSec and its like, which end so already.
    if (!/[a-z]Sec$/.test(name)) return [[name, value]];
    return [[`${name.slice(0, -'Sec'.length)}USec`, microseconds(annotation, value)]];
  });
}

function microseconds(annotation: string, { signature, value }: Variant): Variant {
  if (!/^[nqiuxtd]$/.test(signature) || (typeof value !== 'number' && typeof value !== 'bigint') || value < 0)
    return refuse(annotation, 'a time in seconds must be a number that is not negative');
  const usec = typeof value === 'bigint' ? value * 1_000_000n : BigInt(Math.trunc(value * 1e6));
  if (usec >= 1n << 64n) return refuse(annotation, 'the time is too long');
  return { signature: 't', value: usec };
}
