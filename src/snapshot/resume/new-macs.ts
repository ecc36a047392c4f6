/**
 * MAC addresses of their own for clones.
 *
 * A card's address is part of the device state, which replaces what the command line says; at its next reset a card takes
 * the one of the command line again. So both are changed. In the state of virtio-net the address stands as it is: once
 * as the card's own, and once more in the configuration space when the guest's driver has read that. Other cards
 * keep it encoded in registers and an EEPROM with a checksum.
 */
import { randomBytes } from 'node:crypto';
import { MapramError } from '../../errors.js';
import type { CommandLineOption } from '../../launch/command-line.js';
import { isVirtioNet, type NetworkCard, networkCards, withMac } from '../../launch/network-cards.js';
import type { MappedRamImage } from '../../mapped-ram/image.js';
import type { DeviceSection } from '../../stream/device-sections.js';
import type { StatePatch } from './state-stream.js';

/** Organisation of QEMU, and what it gives to cards without an address: 52:54:00:12:34:56 and the following. */
const QEMU_PREFIX = '52:54:00';
const DEFAULT_PREFIX = `${QEMU_PREFIX}:12:34`;
const FIRST_DEFAULT = 0x56;

/** Last parts of the idstrs of other cards. */
const OTHER_CARDS =
  /(^|\/)(e1000e?|igb|rtl8139|vmxnet3|pcnet|ne2000|i8255\w+|tulip|sunhme|lan9118|smc91c111)$/;

/** A card of the VM that is saved. */
interface SavedCard {
  card: NetworkCard;
  mac: string;
  /** Where the address stands, counted from the start of the sections behind RAM. */
  positions: readonly number[];
}

export interface NewMacs {
  /** In the order of the cards on the command line. */
  macs: string[];
  options: CommandLineOption[];
  patches: StatePatch[];
}

export class MacChanger {
  readonly #used: Set<string>;

  private constructor(private readonly cards: readonly SavedCard[]) {
    this.#used = new Set(cards.map(({ mac }) => mac));
  }

  /**
   * Finds the addresses of all cards.
   *
   * @throws MapramError `UNSUPPORTED` for cards other than virtio-net; `VM` where the file and the command line differ, or the
   *   guest has given a card another address
   */
  static create(image: MappedRamImage, options: readonly CommandLineOption[]): MacChanger {
    const refuse = (code: 'UNSUPPORTED' | 'VM', problem: string) =>
      new MapramError(code, `giving clones of ${image.path} MAC addresses of their own: ${problem}`, {
        path: image.path,
      });
    const cards = networkCards(options);
    const others = [
      ...cards.filter((card) => !isVirtioNet(card)).map(({ model }) => model ?? 'of the machine type'),
      ...image.devices.flatMap(({ idstr }) => OTHER_CARDS.exec(idstr)?.[2] ?? []),
    ];
    if (others[0] !== undefined) {
      throw refuse(
        'UNSUPPORTED',
        `the network card ${others[0]} keeps its address in registers and an EEPROM, which only works for virtio-net; leave --new-macs away and give every clone a network of its own`,
      );
    }
    const states = image.tail.sections.filter(({ idstr }) => /(^|\/)virtio-net$/.test(idstr));
    if (states.length !== cards.length) {
      throw refuse(
        'VM',
        `the file has ${states.length} virtio-net cards, the command line ${cards.length}; give the command line of the saved VM`,
      );
    }
    const defaults = states
      .map(defaultMac)
      .filter((mac) => mac !== undefined)
      .sort();
    const saved = cards.map((card) => {
      const mac = card.mac ?? defaults.shift();
      const positions = mac === undefined ? [] : states.flatMap((state) => positionsOf(image, state, mac));
      if (mac === undefined || positions.length === 0) {
        throw refuse(
          'VM',
          `the state of no card has the address ${mac ?? `${DEFAULT_PREFIX}:…`} of the command line: the guest has given it another one, and each guest has to do so again`,
        );
      }
      return { card, mac, positions };
    });
    return new MacChanger(saved);
  }

  /** Addresses for one more clone. */
  next(options: readonly CommandLineOption[]): NewMacs {
    const result: NewMacs = { macs: [], options: [...options], patches: [] };
    for (const { card, positions } of this.cards) {
      const mac = this.#unused();
      result.macs.push(mac);
      result.options = withMac(result.options, card.option, mac);
      for (const position of positions) result.patches.push({ position, bytes: bytesOf(mac) });
    }
    return result;
  }

  #unused(): string {
    for (;;) {
      const mac = `${QEMU_PREFIX}:${textOf(randomBytes(3))}`;
      if (this.#used.has(mac) || mac.startsWith(DEFAULT_PREFIX)) continue;
      this.#used.add(mac);
      return mac;
    }
  }
}

/** The address in `state` that QEMU gave the card by itself, if it did. */
function defaultMac({ data }: DeviceSection): string | undefined {
  const at = Buffer.from(data.buffer, data.byteOffset, data.byteLength).indexOf(bytesOf(DEFAULT_PREFIX));
  const last = at === -1 ? undefined : data[at + 5];
  return last === undefined || last < FIRST_DEFAULT ? undefined : `${DEFAULT_PREFIX}:${textOf([last])}`;
}

function positionsOf({ tail }: MappedRamImage, { data }: DeviceSection, mac: string): number[] {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const wanted = bytesOf(mac);
  const start = data.byteOffset - tail.sectionBytes.byteOffset;
  const positions: number[] = [];
  for (let at = bytes.indexOf(wanted); at !== -1; at = bytes.indexOf(wanted, at + 1)) {
    positions.push(start + at);
  }
  return positions;
}

function bytesOf(mac: string): Uint8Array {
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}

function textOf(bytes: Iterable<number>): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}
