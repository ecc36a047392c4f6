/** The devices of the builtin guest, as they stand in a migration stream. */

import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { ByteBuilder } from '../../stream/byte-builder.js';
import { SectionType } from '../../stream/format.js';
import {
  decodeGlobalState,
  encodeGlobalState,
  GLOBAL_STATE_BYTES,
  GLOBAL_STATE_SECTION,
} from '../../stream/global-state.js';
import { StreamWriter } from '../../stream/stream-writer.js';
import type { DeviceState } from '../guest.js';
import { PAGE_SIZE } from './options.js';
import {
  decodeVmState,
  describeVmState,
  encodeVmState,
  type ValuesOf,
  type VmState,
  VmStateError,
} from './vmstate.js';
import { FIFO_BYTES, TICKS_PER_SECOND, type WorkloadState } from './workload.js';

/** Section id of RAM, as in QEMU 10.0; the devices follow it. */
export const RAM_SECTION_ID = 1;
const FIRST_DEVICE_SECTION_ID = RAM_SECTION_ID + 1;
const NS_PER_TICK = 1_000_000_000n / BigInt(TICKS_PER_SECOND);
const REGISTERS = 4;
const MODEL = Buffer.from('mapram builtin'.padEnd(16, '\0'));

const TIMER = {
  name: 'timer',
  version: 2,
  fields: [
    { name: 'clock_ns', type: 'int64' },
    { name: 'unused', type: 'unused_buffer', size: 8 },
    { name: 'tick', type: 'timer' },
  ],
} as const satisfies VmState;

const CPU = {
  name: 'builtin-cpu',
  version: 1,
  fields: [
    { name: 'cpu_index', type: 'int32 equal', value: 0 },
    { name: 'halted', type: 'bool' },
    { name: 'model', type: 'buffer', size: MODEL.length },
    { name: 'regs', type: 'uint64', length: REGISTERS },
  ],
} as const satisfies VmState;

const SERIAL = {
  name: 'builtin-serial',
  version: 1,
  fields: [
    { name: 'divider', type: 'uint16' },
    { name: 'lcr', type: 'uint8' },
    { name: 'printed', type: 'uint64' },
  ],
  subsections: [
    {
      name: 'builtin-serial/fifo',
      member: 'fifo',
      version: 1,
      fields: [
        { name: 'data', type: 'buffer', size: FIFO_BYTES },
        { name: 'used', type: 'uint8' },
      ],
    },
  ],
} as const satisfies VmState;

const CHECKSUM = {
  name: 'builtin-memory-checksum',
  version: 1,
  fields: [{ name: 'xor', type: 'uint32' }],
} as const satisfies VmState;

const MEMORY = {
  name: 'builtin-memory',
  version: 1,
  fields: [
    { name: 'page_size', type: 'int32 equal', value: PAGE_SIZE },
    { name: 'checksum', type: 'struct', struct: CHECKSUM },
  ],
} as const satisfies VmState;

/** As in QEMU: the run state in which the guest was saved. */
const GLOBAL_STATE = {
  name: GLOBAL_STATE_SECTION,
  version: 1,
  fields: [
    { name: 'size', type: 'uint32' },
    { name: 'runstate', type: 'buffer', size: GLOBAL_STATE_BYTES - 4 },
  ],
} as const satisfies VmState;

/** What the devices of a stopped machine hold. */
export interface MachineState extends WorkloadState {
  /** The run state that a machine which loads it is to take up; absent where an older save does not tell. */
  runState?: string;
}

/** One device: its section, and how it gives and takes its part of the guest's state. */
interface Device<S extends VmState = VmState> {
  readonly idstr: string;
  readonly state: S;
  give(guest: MachineState): ValuesOf<S>;
  /** @throws RangeError when a value cannot be */
  take(values: ValuesOf<S>, guest: MachineState): void;
  /** Older saves lack it. */
  readonly optional?: true;
}

/** Forgets which values a device has, so that they can stand in one list. */
function device<S extends VmState>(definition: Device<S>): Device {
  return definition as unknown as Device;
}

const DEVICES: readonly Device[] = [
  device<typeof TIMER>({
    idstr: 'timer',
    state: TIMER,
    give: ({ ticks }) => ({ clock_ns: BigInt(ticks) * NS_PER_TICK, tick: BigInt(ticks + 1) * NS_PER_TICK }),
    take({ clock_ns, tick }, guest) {
      if (clock_ns % NS_PER_TICK !== 0n || tick !== clock_ns + NS_PER_TICK) {
        throw new RangeError(`no tick falls on ${tick} ns when the clock is at ${clock_ns} ns`);
      }
      guest.ticks = safeNumber(clock_ns / NS_PER_TICK);
    },
  }),
  device<typeof CPU>({
    idstr: 'cpu',
    state: CPU,
    give: ({ generator, pagesWritten }) => ({
      halted: false,
      model: MODEL,
      regs: [BigInt(generator), BigInt(pagesWritten), 0n, 0n],
    }),
    take({ halted, model, regs }, guest) {
      if (halted) throw new RangeError('this machine has no way to wake a halted CPU');
      if (!MODEL.equals(model)) throw new RangeError('the CPU is another model');
      const [generator = 0n, pagesWritten = 0n] = regs;
      if (generator < 1n || generator > 0xffff_ffffn) throw new RangeError(`register 0 holds ${generator}`);
      guest.generator = Number(generator);
      guest.pagesWritten = safeNumber(pagesWritten);
    },
  }),
  device<typeof SERIAL>({
    idstr: 'serial',
    state: SERIAL,
    give: ({ printed, fifo }) => ({
      divider: 12,
      lcr: 3,
      printed: BigInt(printed),
      ...defined({ fifo: fifo.length === 0 ? undefined : { data: fifo, used: fifo.length } }),
    }),
    take({ printed, fifo }, guest) {
      const used = fifo?.used ?? 0;
      if (used > FIFO_BYTES) throw new RangeError(`${used} bytes in a FIFO of ${FIFO_BYTES}`);
      guest.printed = safeNumber(printed);
      guest.fifo = fifo?.data.slice(0, used) ?? new Uint8Array(0);
    },
  }),
  device<typeof MEMORY>({
    idstr: 'memory',
    state: MEMORY,
    give: ({ memoryChecksum }) => ({ checksum: { xor: memoryChecksum } }),
    take({ checksum }, guest) {
      guest.memoryChecksum = checksum.xor;
    },
  }),
  device<typeof GLOBAL_STATE>({
    idstr: GLOBAL_STATE_SECTION,
    state: GLOBAL_STATE,
    optional: true,
    give: ({ runState = 'paused' }) => {
      const bytes = encodeGlobalState(runState);
      return { size: runState.length + 1, runstate: bytes.subarray(4) };
    },
    take({ size, runstate }, guest) {
      const runState = decodeGlobalState(new ByteBuilder().uint32(size).raw(runstate).finish());
      if (runState !== undefined) guest.runState = runState;
    },
  }),
];

/** Writes all device sections and their description. */
export function encodeDevices(guest: MachineState): DeviceState {
  const writer = new StreamWriter();
  const descriptions = DEVICES.map(({ idstr, state, give }, index) => {
    const values = give(guest);
    const opening = {
      sectionId: FIRST_DEVICE_SECTION_ID + index,
      idstr,
      instanceId: 0,
      versionId: state.version,
    };
    writer.sectionFull(opening, encodeVmState(state, values));
    return { name: idstr, instance_id: 0, ...describeVmState(state, values) };
  });
  return {
    sections: writer.drainBytes(),
    vmdescription: JSON.stringify({ page_size: PAGE_SIZE, devices: descriptions }),
  };
}

/**
 * Reads what `encodeDevices` wrote, in any order.
 *
 * @throws MapramError `FORMAT` for damage, an unknown device or version, or a missing device
 */
export function decodeDevices(sections: Uint8Array): MachineState {
  const guest: MachineState = {
    ticks: 0,
    generator: 1,
    pagesWritten: 0,
    memoryChecksum: 0,
    printed: 0,
    fifo: new Uint8Array(0),
  };
  const missing = new Map(DEVICES.map((candidate) => [candidate.idstr, candidate]));
  let at = 0;
  while (at < sections.length) {
    const opening = readOpening(sections, at);
    const found = opening.instanceId === 0 ? missing.get(opening.idstr) : undefined;
    if (found === undefined) throw damaged(`unknown or repeated device "${opening.idstr}"`, at);
    missing.delete(found.idstr);
    const start = at + opening.length;
    try {
      const { values, length } = decodeVmState(found.state, sections.subarray(start), opening.versionId);
      found.take(values as ValuesOf<VmState>, guest);
      at = readFooter(sections, start + length, opening.sectionId);
    } catch (error) {
      if (error instanceof VmStateError)
        throw damaged(`device ${found.idstr}: ${error.message}`, start + error.offset);
      if (error instanceof RangeError) throw damaged(`device ${found.idstr}: ${error.message}`, start);
      throw error;
    }
  }
  const absent = [...missing.values()].find(({ optional }) => !optional);
  if (absent !== undefined) throw damaged(`device ${absent.idstr} is missing`, at);
  return guest;
}

interface Opening {
  sectionId: number;
  idstr: string;
  instanceId: number;
  versionId: number;
  /** Bytes of the opening itself. */
  length: number;
}

/** type 04, be32 section id, str8 idstr, be32 instance id, be32 version id */
function readOpening(sections: Uint8Array, at: number): Opening {
  const idstrLength = sections[at + 5] ?? 0;
  const length = 1 + 4 + 1 + idstrLength + 4 + 4;
  if (sections[at] !== SectionType.FULL || at + length > sections.length) {
    throw damaged('a device section was expected', at);
  }
  const view = new DataView(sections.buffer, sections.byteOffset + at, length);
  return {
    sectionId: view.getUint32(1),
    idstr: Buffer.from(sections.subarray(at + 6, at + 6 + idstrLength)).toString('latin1'),
    instanceId: view.getUint32(6 + idstrLength),
    versionId: view.getUint32(10 + idstrLength),
    length,
  };
}

/** @returns the offset after the footer */
function readFooter(sections: Uint8Array, at: number, sectionId: number): number {
  const rest = new DataView(sections.buffer, sections.byteOffset + at, sections.length - at);
  if (rest.byteLength < 5 || rest.getUint8(0) !== SectionType.FOOTER || rest.getUint32(1) !== sectionId) {
    throw damaged(`the footer of section ${sectionId} was expected`, at);
  }
  return at + 5;
}

function safeNumber(value: bigint): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new RangeError(`${value} is too large`);
  return number;
}

function damaged(problem: string, offset: number): MapramError {
  return new MapramError(
    'FORMAT',
    `loading the builtin guest's devices: ${problem} at byte ${offset} of the device sections`,
    {
      offset,
    },
  );
}
