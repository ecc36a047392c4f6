/**
 * Processors as ELF notes. Registers come from the decoded `cpu` devices.
 *
 * ```text
 * NT_PRSTATUS, "CORE", type 1          112 bytes of process data, of which only the id at 32 is set; then registers
 *   x86-64   r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss
 *            fs_base gs_base ds es fs gs; 4 bytes fpvalid, 4 of padding
 *   aarch64  x0 … x30 sp pc pstate; 4 + 4
 *   riscv64  pc x1 … x31; 4 + 4
 *   arm      72 bytes of process data, the id at 24; r0 … r15 cpsr orig_r0, of 4 bytes each; 4 of fpvalid
 * "QEMU", type 0, x86-64               what dump-guest-memory writes: u32 version 1, u32 size, 16 registers, rip,
 *                                      rflags, 10 segments of 24 bytes, cr0 … cr4, kernel_gs_base
 * ```
 */
import type { DecodedDevice, DecodedStruct } from '../stream/device-decoder.js';
import { devicesNamed, fieldOf, integerOf, integersOf, structsOf } from './device-fields.js';
import { elfNote } from './elf-notes.js';
import type { SavedVm } from './saved-vm.js';

export interface GuestArchitecture {
  /** Of the core: ELF32 or ELF64. */
  readonly bits: 32 | 64;
  /** `e_machine`. */
  readonly elfMachine: number;
  /** The notes of one processor. */
  notes(cpu: DecodedDevice, index: number): Buffer[];
}

const NT_PRSTATUS = 1;
const PROCESS_ID_OFFSET = 32;
const REGISTERS_OFFSET = 112;

const X86_64: GuestArchitecture = {
  bits: 64,
  elfMachine: 62,
  notes: (cpu, index) => [processStatus(index, x86Registers(cpu)), elfNote('QEMU', 0, qemuCpuState(cpu))],
};

const AARCH64: GuestArchitecture = {
  bits: 64,
  elfMachine: 183,
  notes: (cpu, index) => {
    const registers = [
      ...integersOf(cpu, 'env.xregs', 32),
      integerOf(cpu, 'env.pc'),
      BigInt(processorState(cpu)),
    ];
    return [processStatus(index, registers)];
  },
};

/** PSTATE, or CPSR of a processor in 32-bit state. */
function processorState(cpu: DecodedDevice): number {
  const state = fieldOf(cpu, 'cpsr');
  return state instanceof Uint8Array && state.byteLength === 4 ? Buffer.from(state).readUInt32BE() : 0;
}

/** Set in 32-bit state; the modes of 32-bit processors all have it. */
const NOT_64_BIT = 0x10;

const ARM: GuestArchitecture = {
  bits: 32,
  elfMachine: 40,
  notes: (cpu, index) => {
    const status = Buffer.alloc(148);
    status.writeUInt32LE(index + 1, 24);
    const registers = [...integersOf(cpu, 'env.regs', 16).map(Number), processorState(cpu)];
    for (const [number, value] of registers.entries()) status.writeUInt32LE(value, 72 + number * 4);
    return [elfNote('CORE', NT_PRSTATUS, status)];
  },
};

const RISCV64: GuestArchitecture = {
  bits: 64,
  elfMachine: 243,
  notes: (cpu, index) => [
    processStatus(index, [integerOf(cpu, 'env.pc'), ...integersOf(cpu, 'env.gpr', 32).slice(1)]),
  ],
};

/** By the fields that only this processor has, or the machine's name where the file describes none. */
const ARCHITECTURES: readonly [GuestArchitecture, field: string, machine: RegExp][] = [
  [X86_64, 'env.eip', /^(pc-|microvm$)/],
  [AARCH64, 'env.xregs', /^virt-/],
  [RISCV64, 'env.misa_ext', /^virt$/],
];

/** The processors of a saved VM and what they are; `architecture` is undefined for those not known here. */
export function cpusOf(saved: SavedVm): {
  architecture: GuestArchitecture | undefined;
  cpus: DecodedDevice[];
} {
  const cpus = devicesNamed(saved, 'cpu');
  const [first] = cpus;
  const known = ARCHITECTURES.find(([, field, machine]) =>
    first === undefined ? machine.test(saved.configuration.machine) : fieldOf(first, field) !== undefined,
  );
  const architecture = known?.[0];
  // All ARM processors are described alike.
  const is32Bit =
    architecture === AARCH64 && first !== undefined && (processorState(first) & NOT_64_BIT) !== 0;
  return { architecture: is32Bit ? ARM : architecture, cpus };
}

function processStatus(index: number, registers: readonly bigint[]): Buffer {
  const status = Buffer.alloc(REGISTERS_OFFSET + registers.length * 8 + 8);
  status.writeUInt32LE(index + 1, PROCESS_ID_OFFSET);
  writeAll(status, REGISTERS_OFFSET, registers);
  return elfNote('CORE', NT_PRSTATUS, status);
}

/** Indexes of segments in `env.segs`, and of registers in `env.regs`. */
const [ES, CS, SS, DS, FS, GS] = [0, 1, 2, 3, 4, 5] as const;

function x86Registers(cpu: DecodedDevice): bigint[] {
  const [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15] = sixteen(cpu);
  const segments = structsOf(cpu, 'env.segs');
  const selector = (segment: number) => integerOf(segments[segment], 'selector');
  const base = (segment: number) => integerOf(segments[segment], 'base');
  const noSystemCall = 2n ** 64n - 1n;
  return [
    ...[r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi],
    ...[
      noSystemCall,
      integerOf(cpu, 'env.eip'),
      selector(CS),
      integerOf(cpu, 'env.eflags'),
      rsp,
      selector(SS),
    ],
    ...[base(FS), base(GS), selector(DS), selector(ES), selector(FS), selector(GS)],
  ];
}

type Sixteen<T> = [T, T, T, T, T, T, T, T, T, T, T, T, T, T, T, T];

function sixteen(cpu: DecodedDevice): Sixteen<bigint> {
  return integersOf(cpu, 'env.regs', 16) as Sixteen<bigint>;
}

function qemuCpuState(cpu: DecodedDevice): Buffer {
  const [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, ...rest] = sixteen(cpu);
  const segments = structsOf(cpu, 'env.segs');
  const named = (name: string) => structsOf(cpu, name)[0];
  const state = Buffer.alloc(440);
  state.writeUInt32LE(1, 0);
  state.writeUInt32LE(state.length, 4);
  let at = writeAll(state, 8, [rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, ...rest]);
  at = writeAll(state, at, [integerOf(cpu, 'env.eip'), integerOf(cpu, 'env.eflags')]);
  for (const segment of [CS, DS, ES, FS, GS, SS]) at = writeSegment(state, at, segments[segment]);
  for (const name of ['env.ldt', 'env.tr', 'env.gdt', 'env.idt']) at = writeSegment(state, at, named(name));
  // cr1 does not exist.
  const control = [0, 1, 2, 3, 4].map((number) => integerOf(cpu, `env.cr[${number}]`));
  writeAll(state, at, [...control, integerOf(cpu, 'env.kernelgsbase')]);
  return state;
}

function writeSegment(to: Buffer, at: number, segment: DecodedStruct | undefined): number {
  for (const [index, name] of ['selector', 'limit', 'flags'].entries()) {
    to.writeUInt32LE(Number(BigInt.asUintN(32, integerOf(segment, name))), at + index * 4);
  }
  to.writeBigUInt64LE(integerOf(segment, 'base'), at + 16);
  return at + 24;
}

function writeAll(to: Buffer, at: number, values: readonly bigint[]): number {
  for (const [index, value] of values.entries()) to.writeBigUInt64LE(value, at + index * 8);
  return at + values.length * 8;
}
