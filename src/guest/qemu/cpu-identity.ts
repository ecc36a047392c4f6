/**
 * What the CPU of a running QEMU is to its guest. The type is that of the first CPU's object. x86 has the CPUID words that the guest sees
 * (`feature-words`); names of features come from `query-cpu-model-expansion`, where the architecture has it: it expands a model of the
 * same name with the same `-cpu` properties, since asking the CPU itself for each of its hundreds of properties takes too long.
 */
import { defined } from '../../defined.js';
import type { PlainJson } from '../../json/plain-json.js';
import type { CpuArgument } from '../../launch/cpu-argument.js';
import type { CpuIdentity } from '../../launch/cpu-identity.js';
import type { QemuVm } from './qemu-vm.js';

/**
 * Undefined where the VM has no CPU, or does not tell what it is.
 *
 * @param known if type and CPUID are those of this CPU, its features are taken to be, too, and not asked for
 */
export async function cpuIdentity(
  vm: QemuVm,
  asked?: CpuArgument,
  known?: CpuIdentity,
): Promise<CpuIdentity | undefined> {
  try {
    const [cpu] = await vm.client.execute('query-cpus-fast');
    if (cpu === undefined) return undefined;
    const get = (property: string) => vm.client.execute('qom-get', { path: cpu['qom-path'], property });
    const [type, read] = await Promise.all([get('type'), get('feature-words').catch(() => undefined)]);
    if (typeof type !== 'string') return undefined;
    const words = Array.isArray(read) ? readWords(read) : undefined;
    if (known?.type === type && words !== undefined && sameWords(known.words, words)) return known;
    const features = await modelFeatures(vm, asked ?? { model: modelOf(type), properties: {} });
    return {
      type,
      ...defined({ words, features }),
    };
  } catch {
    return undefined;
  }
}

/** `max` of `max-x86_64-cpu`. */
function modelOf(type: string): string {
  return type.replace(/-[^-]+-cpu$/, '');
}

async function modelFeatures(
  vm: QemuVm,
  { model: name, properties: props }: CpuArgument,
): Promise<string[] | undefined> {
  try {
    const { model } = await vm.client.execute('query-cpu-model-expansion', {
      type: 'full',
      model: { name, props },
    });
    const on = Object.entries(model.props ?? {}).flatMap(([key, value]) => (value === true ? [key] : []));
    return oneNameEach(on);
  } catch {
    return undefined;
  }
}

/** QEMU lists some features by several spellings: `sse4.1`, `sse4-1`, `sse4_1`; `zfa`, `Zfa`. */
function oneNameEach(names: readonly string[]): string[] {
  const byKey = new Map<string, string>();
  for (const name of names.toSorted().toReversed())
    byKey.set(name.toLowerCase().replaceAll(/[._]/g, '-'), name);
  return [...byKey.values()].toSorted();
}

function readWords(words: readonly PlainJson[]): { [place: string]: number } {
  const found: { [place: string]: number } = {};
  for (const word of words) {
    const {
      'cpuid-input-eax': leaf,
      'cpuid-input-ecx': subleaf,
      'cpuid-register': register,
      features,
    } = word as {
      [key: string]: PlainJson;
    };
    if (typeof leaf !== 'number' || typeof features !== 'number' || features === 0) continue;
    const below = typeof subleaf === 'number' ? subleaf : 0;
    found[`${leaf.toString(16)}.${below.toString(16)}.${String(register)}`] = features;
  }
  return found;
}

function sameWords(known: CpuIdentity['words'], words: NonNullable<CpuIdentity['words']>): boolean {
  const places = Object.keys(words);
  return (
    known !== undefined &&
    Object.keys(known).length === places.length &&
    places.every((place) => known[place] === words[place])
  );
}
