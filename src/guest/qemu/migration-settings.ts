/**
 * Migration capabilities and parameters set for one migration and put back afterwards, so that the VM's owner finds
 * them as they were.
 *
 * The order of commands follows two traps of QEMU: the sum of all capabilities is checked at once, so all go in one
 * command; and while `mapped-ram` is on together with compression or TLS, *every* migrate-set-parameters is refused,
 * so mapped-ram is off whenever parameters are set.
 */
import type { MigrationParameters } from '../../options/migration-parameters.js';
import type { QemuVm } from './qemu-vm.js';

type Capabilities = Record<string, boolean>;
type Parameters = Partial<MigrationParameters>;

/**
 * Capabilities that do not change what is written and that the owner may rely on. All others are switched off unless
 * asked for: a stray `multifd`, `xbzrle` or `return-path` would change the stream or forbid the migration.
 */
const KEPT_CAPABILITIES = new Set(['late-block-activate', 'auto-converge', 'dirty-limit']);

/** All settings of a VM at one moment. */
export interface RecordedSettings {
  capabilities: Capabilities;
  parameters: Parameters;
}

export class MigrationSettings {
  private constructor(
    private readonly vm: QemuVm,
    private readonly before: RecordedSettings,
  ) {}

  /** Switches to exactly `capabilities` (plus the harmless ones that are on already) and sets `parameters`. */
  static async apply(
    vm: QemuVm,
    capabilities: readonly string[],
    parameters: Parameters,
  ): Promise<MigrationSettings> {
    const present = await vm.client.execute('query-migrate-capabilities');
    const current = await vm.client.execute('query-migrate-parameters');
    const before: Capabilities = {};
    const wanted: Capabilities = {};
    // QEMU accepts hardly any other capability beside this one.
    const kept = capabilities.includes('background-snapshot') ? new Set<string>() : KEPT_CAPABILITIES;
    for (const { capability, state } of present) {
      before[capability] = state;
      wanted[capability] = capabilities.includes(capability) || (state && kept.has(capability));
    }
    // One that this QEMU does not list is sent all the same: its refusal is the clear error.
    for (const capability of capabilities) wanted[capability] = true;
    const settings = new MigrationSettings(vm, {
      capabilities: before,
      parameters: Object.fromEntries(Object.entries(current).filter(([name]) => name in parameters)),
    });
    try {
      await settings.#change(before, wanted, parameters);
    } catch (error) {
      await settings.restore().catch(() => {});
      throw error;
    }
    return settings;
  }

  /** What a VM's settings are now, so that another process can put them back with `recorded`. */
  static async capture(vm: QemuVm): Promise<RecordedSettings> {
    const capabilities = await vm.client.execute('query-migrate-capabilities');
    return {
      capabilities: Object.fromEntries(capabilities.map(({ capability, state }) => [capability, state])),
      parameters: await vm.client.execute('query-migrate-parameters'),
    };
  }

  /** Settings that were captured earlier, to be restored where they differ now. */
  static async recorded(
    vm: QemuVm,
    { capabilities, parameters }: RecordedSettings,
  ): Promise<MigrationSettings> {
    const now: Record<string, unknown> = await vm.client.execute('query-migrate-parameters');
    const changed = Object.entries(parameters).filter(
      ([name, value]) => JSON.stringify(value) !== JSON.stringify(now[name]),
    );
    return new MigrationSettings(vm, { capabilities, parameters: Object.fromEntries(changed) });
  }

  /** Puts everything back. May be called once the migration has ended. */
  async restore(): Promise<void> {
    const { capabilities, parameters } = this.before;
    const present = await this.vm.client.execute('query-migrate-capabilities');
    const now = Object.fromEntries(present.map(({ capability, state }) => [capability, state]));
    await this.#change(now, capabilities, parameters);
  }

  async #change(from: Capabilities, to: Capabilities, parameters: Parameters): Promise<void> {
    const { client } = this.vm;
    const set = async (changes: Capabilities) => {
      const capabilities = Object.entries(changes).map(([capability, state]) => ({ capability, state }));
      if (capabilities.length > 0) await client.execute('migrate-set-capabilities', { capabilities });
    };
    const state = { ...from };
    if (state['mapped-ram'] && Object.keys(parameters).length > 0) {
      await set({ 'mapped-ram': false });
      state['mapped-ram'] = false;
    }
    if (Object.keys(parameters).length > 0) await client.execute('migrate-set-parameters', parameters);
    await set(
      Object.fromEntries(Object.entries(to).filter(([name, value]) => value !== (state[name] ?? false))),
    );
  }
}
