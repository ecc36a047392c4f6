/**
 * The VM generation id: a number by which a guest notices that it is a copy, or was set back in time, and gets itself
 * new randomness, names and addresses.
 */
import type { CommandLineOption } from './command-line.js';
import { OptionList } from './option-list.js';

/** The options with a new generation id in each `vmgenid` device; `renewed` is false where there is none. */
export function renewGenerationId(options: readonly CommandLineOption[]): {
  options: CommandLineOption[];
  renewed: boolean;
} {
  let renewed = false;
  const changed = options.map((option) => {
    if (option.name !== 'device' || option.value === undefined) return option;
    const list = OptionList.parse(option.value, 'driver');
    if (list.get('driver') !== 'vmgenid') return option;
    renewed = true;
    return { name: option.name, value: list.set('guid', 'auto').toString() };
  });
  return { options: changed, renewed };
}
