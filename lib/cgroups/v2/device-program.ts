/**
 * Device rules → a BPF_PROG_TYPE_CGROUP_DEVICE program (bpf(2), linux/bpf.h struct bpf_cgroup_dev_ctx): r1 points to
 * { u32 access_type (access << 16 | type), u32 major, u32 minor }; returning 1 allows. Pure: bytes in, bytes out.
 */
import { allAccess, type DeviceException, type DeviceList } from '../device-rules.ts';

const op = {
  load32: 0x61, // BPF_LDX | BPF_MEM | BPF_W
  movImm: 0xb7, // BPF_ALU64 | BPF_MOV | BPF_K
  mov32: 0xbc, // BPF_ALU | BPF_MOV | BPF_X
  and32Imm: 0x54, // BPF_ALU | BPF_AND | BPF_K
  rsh32Imm: 0x74, // BPF_ALU | BPF_RSH | BPF_K
  jneImm: 0x55, // BPF_JMP | BPF_JNE | BPF_K
  jeqImm: 0x15, // BPF_JMP | BPF_JEQ | BPF_K
  jne: 0x5d, // BPF_JMP | BPF_JNE | BPF_X
  exit: 0x95,
} as const;

const [r0, r1, type, access, major, minor] = [0, 1, 2, 3, 4, 5];

interface Instruction {
  readonly code: number;
  readonly dst?: number;
  readonly src?: number;
  readonly off?: number;
  readonly imm?: number;
}

const prologue: readonly Instruction[] = [
  { code: op.load32, dst: type, src: r1, off: 0 },
  { code: op.and32Imm, dst: type, imm: 0xffff },
  { code: op.load32, dst: access, src: r1, off: 0 },
  { code: op.rsh32Imm, dst: access, imm: 16 },
  { code: op.load32, dst: major, src: r1, off: 4 },
  { code: op.load32, dst: minor, src: r1, off: 8 },
];
const leave = (allow: boolean): Instruction[] => [
  { code: op.movImm, dst: r0, imm: allow ? 1 : 0 },
  { code: op.exit },
];

/**
 * One exception: tests that jump to its end when they fail, then the answer. An allow rule matches when it holds all the
 * asked bits; a deny rule when it holds one of them, as in v1 (match_exception and match_exception_partial of
 * security/device_cgroup.c): `deny w` must also stop an open for reading and writing.
 */
function exceptionBlock(e: DeviceException, allow: boolean): Instruction[] {
  const tests: Instruction[] = [{ code: op.jneImm, dst: type, imm: e.type === 'b' ? 1 : 2 }];
  const others: Instruction[] = [];
  if (e.access !== allAccess) {
    others.push({ code: op.mov32, dst: r1, src: access }, { code: op.and32Imm, dst: r1, imm: e.access });
    others.push(allow ? { code: op.jne, dst: r1, src: access } : { code: op.jeqImm, dst: r1, imm: 0 });
  }
  if (e.major >= 0) others.push({ code: op.jneImm, dst: major, imm: e.major });
  if (e.minor >= 0) others.push({ code: op.jneImm, dst: minor, imm: e.minor });
  const block = [...tests, ...others, ...leave(allow)];
  const isJump = (i: Instruction) => i.code === op.jneImm || i.code === op.jne || i.code === op.jeqImm;
  return block.map((i, at) => (isJump(i) ? { ...i, off: block.length - at - 1 } : i));
}

/** struct bpf_insn in the byte order of this machine (all supported ones are little-endian). */
function encode(instructions: readonly Instruction[]): Uint8Array {
  const bytes = new Uint8Array(instructions.length * 8);
  const view = new DataView(bytes.buffer);
  instructions.forEach((i, at) => {
    view.setUint8(at * 8, i.code);
    view.setUint8(at * 8 + 1, (i.dst ?? 0) | ((i.src ?? 0) << 4));
    view.setInt16(at * 8 + 2, i.off ?? 0, true);
    view.setInt32(at * 8 + 4, i.imm ?? 0, true);
  });
  return bytes;
}

/** The program for a list. The order of exceptions does not matter: all of them say the opposite of the default. */
export function deviceProgram(list: DeviceList): Uint8Array {
  const blocks = list.exceptions.flatMap(e => exceptionBlock(e, !list.defaultAllow));
  return encode([...prologue, ...blocks, ...leave(list.defaultAllow)]);
}
