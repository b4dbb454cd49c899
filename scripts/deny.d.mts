export function denyProgram(): string;
