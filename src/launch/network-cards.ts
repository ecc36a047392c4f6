/** The network cards that a QEMU command line names, and their MAC addresses. */
import { defined } from '../defined.js';
import type { CommandLineOption } from './command-line.js';
import { OptionList } from './option-list.js';

export interface NetworkCard {
  /** Index of the option in the command line. */
  option: number;
  /** `virtio-net-pci`; undefined where the machine type chooses. */
  model?: string;
  /** Lower-case, with colons; undefined where QEMU chooses. */
  mac?: string;
}

const MAC = /^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i;
/** `virtio` is what -nic and -net call it. */
const VIRTIO_NET = /^virtio(-net(-pci|-device|-ccw)?(-(non-)?transitional)?)?$/;

export function isVirtioNet({ model }: NetworkCard): boolean {
  return model !== undefined && VIRTIO_NET.test(model);
}

/** Every card, in the order of the options. */
export function networkCards(options: readonly CommandLineOption[]): NetworkCard[] {
  return options.flatMap((option, index) => {
    const card = cardOf(option);
    if (card === undefined) return [];
    const { list, modelKey, macKey } = card;
    const model = list.get(modelKey);
    const mac = list.get(macKey);
    return [
      {
        option: index,
        ...defined({ model }),
        ...defined({
          mac: mac === undefined || !MAC.test(mac) ? undefined : mac.toLowerCase().replaceAll('-', ':'),
        }),
      },
    ];
  });
}

/** The options with another MAC address for the card that option `index` names. */
export function withMac(
  options: readonly CommandLineOption[],
  index: number,
  mac: string,
): CommandLineOption[] {
  return options.map((option, at) => {
    const card = at === index ? cardOf(option) : undefined;
    return card === undefined
      ? option
      : { name: option.name, value: card.list.set(card.macKey, mac).toString() };
  });
}

interface CardOption {
  list: OptionList;
  modelKey: string;
  macKey: string;
}

function cardOf({ name, value }: CommandLineOption): CardOption | undefined {
  if (value === undefined) return undefined;
  if (name === 'device') {
    const list = OptionList.parse(value, 'driver');
    const isCard = list.has('netdev') || list.has('mac') || /^virtio-net/.test(list.get('driver') ?? '');
    return isCard ? { list, modelKey: 'driver', macKey: 'mac' } : undefined;
  }
  if (name !== 'nic' && name !== 'net') return undefined;
  const list = OptionList.parse(value, 'type');
  const type = list.get('type');
  if (name === 'nic') return type === 'none' ? undefined : { list, modelKey: 'model', macKey: 'mac' };
  return type === 'nic' ? { list, modelKey: 'model', macKey: 'macaddr' } : undefined;
}
