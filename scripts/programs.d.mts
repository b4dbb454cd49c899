export function testProgram(name: 'deny' | 'shim' | 'sweep', root?: string): string;
