export function testProgram(name: 'deny' | 'sweep', root?: string): string;
