export function denyProgram(root?: string): string;
