/** Whether the CPU of a VM can take the place of the saved one: a guest looks at its features once, when it boots. */
import * as v from 'valibot';
import type { CpuIdentity } from '../../launch/cpu-identity.js';
import { readHostId } from '../../launch/launch-record.js';
import { CpuSchema } from '../../manifest/cpu-schema.js';
import type { MappedRamImage } from '../../mapped-ram/image.js';
import { recordedLaunch } from '../resume/recorded-launch.js';

/** The saved VM's CPU, where the file tells. */
export function recordedCpu(image: MappedRamImage): CpuIdentity | undefined {
  const parsed = v.safeParse(CpuSchema, (image.manifest as { cpu?: unknown } | undefined)?.cpu);
  return parsed.success ? parsed.output : undefined;
}

/** A caution where `-cpu host` means another CPU than when the VM was saved, whose features may be the same all the same. */
export function hostCpuWarning(image: MappedRamImage, present: CpuIdentity): string | undefined {
  const then = recordedLaunch(image)?.hostId;
  const now = readHostId();
  if (then === undefined || now === undefined || then === now) return undefined;
  return present.type.startsWith('host-')
    ? 'the VM was saved on another host and its CPU is that of the host (-cpu host): what depends on the very processor (clock rates, errata, performance counters) is not as it was'
    : undefined;
}

/** Architectures whose features say all that a guest may rely on, so that another model which has them will do. */
const TOLD_BY_FEATURES = /-(x86_64|i386|s390x)-cpu$/;
/**
 * PCOMMIT, CPUID leaf 7 EBX bit 22: Intel withdrew it before any processor had it. QEMU 7.2 shows it to guests of `-cpu max`, 10.0 does not,
 * and Linux does not use it.
 */
const WITHDRAWN = { name: 'pcommit', word: '7.0.EBX', bit: 22 } as const;
/** Names in a message; there may be hundreds. */
const NAMED = 12;

/** In people's words, what a guest would miss that has run on `saved`; undefined where it misses nothing. */
export function cpuMismatch(saved: CpuIdentity, present: CpuIdentity): string | undefined {
  const lacking = without(saved.features, present.features);
  if (saved.words !== undefined && present.words !== undefined) {
    const bits = missingBits(saved.words, present.words);
    if (bits.length === 0) return undefined;
    return describe(saved, present, lacking.length > 0 ? lacking : bits);
  }
  if (lacking.length > 0) return describe(saved, present, lacking);
  const told = TOLD_BY_FEATURES.test(saved.type) && present.features !== undefined;
  return saved.type === present.type || (told && saved.features !== undefined)
    ? undefined
    : describe(saved, present, []);
}

function describe(saved: CpuIdentity, present: CpuIdentity, lacking: readonly string[]): string {
  const others = lacking.length - NAMED;
  const names = `${lacking.slice(0, NAMED).join(', ')}${others > 0 ? ` and ${others} more` : ''}`;
  const lacks = lacking.length === 0 ? '' : `, which lacks ${names}`;
  return `the guest was saved on a CPU of type ${saved.type}, the VM has ${saved.type === present.type ? 'another one of that type' : present.type}${lacks}`;
}

function without(saved: readonly string[] = [], present: readonly string[] | undefined): string[] {
  if (present === undefined) return [];
  const known = new Set(present);
  return saved.filter((name) => !known.has(name) && name !== WITHDRAWN.name);
}

/** Of CPUID: `leaf 1 ECX bit 13`. */
function missingBits(
  saved: NonNullable<CpuIdentity['words']>,
  present: NonNullable<CpuIdentity['words']>,
): string[] {
  return Object.entries(saved).flatMap(([place, features]) => {
    const needed = place === WITHDRAWN.word ? features & ~(1 << WITHDRAWN.bit) : features;
    const missing = (needed & ~(present[place] ?? 0)) >>> 0;
    const [leaf, subleaf, register] = place.split('.');
    const name = `CPUID leaf 0x${leaf}${subleaf === '0' ? '' : `.${subleaf}`} ${register}`;
    return Array.from({ length: 32 }, (_, bit) => bit)
      .filter((bit) => ((missing >>> bit) & 1) === 1)
      .map((bit) => `${name} bit ${bit}`);
  });
}
