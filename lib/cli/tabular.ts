/** Columns as Go's text/tabwriter makes them with runc's settings: at least 12 wide, 3 spaces between, last one as is. */
const minimumWidth = 12;
const padding = 3;

export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows)
    for (const [column, cell] of row.entries())
      widths[column] = Math.max(widths[column] ?? minimumWidth, [...cell].length + padding);
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) =>
        column === row.length - 1 ? cell : cell + ' '.repeat((widths[column] ?? 0) - [...cell].length),
      )
      .join('');
  return rows.map(row => `${line(row)}\n`).join('');
}
