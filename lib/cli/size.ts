/** Sizes as docker/go-units reads them: `64m`, `1.5GiB`, `100 kb`; units are powers of 1024. */
const exponents = 'bkmgtp';

/** @throws Error in go-units' words. */
export function sizeBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?([kmgtp])?(?:i?b)?$/i.exec(text);
  const unit = (match?.[2] ?? 'b').toLowerCase();
  const bytes = Math.trunc(Number(match?.[1]) * 1024 ** exponents.indexOf(unit));
  if (match === null || !Number.isSafeInteger(bytes)) throw new Error(`invalid size: '${text}'`);
  return bytes;
}
