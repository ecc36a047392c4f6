/** `info migrate`: in one layout up to QEMU 10.1, in another from 10.2 on. */
import { isAtLeast, type QemuProfile } from '../../options/qemu-profile.js';
import type { MigrationInfo, MigrationRamInfo } from '../../qmp/qmp-commands.js';

/** @param all whether to begin with the global settings */
export function formatMigration(
  profile: QemuProfile,
  info: MigrationInfo,
  { all }: { all: boolean },
): string[] {
  const globals = all ? formatGlobals(profile) : [];
  const newLayout = isAtLeast(profile.release, [10, 2]);
  return [...globals, ...(newLayout ? formatShort(info) : formatLong(info))];
}

function formatGlobals({ release }: QemuProfile): string[] {
  return [
    'globals:',
    'store-global-state: on',
    'only-migratable: off',
    'send-configuration: on',
    'send-section-footer: on',
    ...(isAtLeast(release, [10, 0]) ? ['send-switchover-start: on'] : []),
    ...(isAtLeast(release, [9, 1]) ? [] : ['decompress-error-check: on']),
    'clear-bitmap-shift: 18',
  ];
}

function formatLong(info: MigrationInfo): string[] {
  if (info.status === undefined) return [];
  const { ram } = info;
  return [
    `Migration status: ${info.status}${failure(info)}`,
    `total time: ${info['total-time'] ?? 0} ms`,
    ...optional('expected downtime: ', info['expected-downtime'], ' ms'),
    ...optional('downtime: ', info.downtime, ' ms'),
    ...optional('setup: ', info['setup-time'], ' ms'),
    ...(ram ? formatRam(ram) : []),
    ...formatAddresses(info),
  ];
}

function formatAddresses({ 'socket-address': addresses }: MigrationInfo): string[] {
  if (addresses === undefined) return [];
  const lines = addresses.map(({ type, path, host, port }) =>
    type === 'unix' ? `\tunix:${path}` : `\ttcp:${host}:${port}`,
  );
  return ['socket address: [', ...lines, ']'];
}

function formatRam(ram: MigrationRamInfo): string[] {
  return [
    `transferred ram: ${kbytes(ram.transferred)}`,
    `throughput: ${ram.mbps.toFixed(2)} mbps`,
    `remaining ram: ${kbytes(ram.remaining)}`,
    `total ram: ${kbytes(ram.total)}`,
    `duplicate: ${ram.duplicate} pages`,
    ...optional('skipped: ', ram.skipped, ' pages'),
    `normal: ${ram.normal} pages`,
    `normal bytes: ${kbytes(ram['normal-bytes'])}`,
    `dirty sync count: ${ram['dirty-sync-count']}`,
    `page size: ${kbytes(ram['page-size'])}`,
    `multifd bytes: ${kbytes(ram['multifd-bytes'])}`,
    `pages-per-second: ${ram['pages-per-second']}`,
    ...unlessZero(ram['dirty-pages-rate'], (rate) => `dirty pages rate: ${rate} pages`),
    ...unlessZero(ram['postcopy-requests'], (count) => `postcopy request count: ${count}`),
    ...unlessZero(ram['precopy-bytes'], (bytes) => `precopy ram: ${kbytes(bytes)}`),
    ...unlessZero(ram['downtime-bytes'], (bytes) => `downtime ram: ${kbytes(bytes)}`),
    ...unlessZero(ram['postcopy-bytes'], (bytes) => `postcopy ram: ${kbytes(bytes)}`),
    ...unlessZero(
      ram['dirty-sync-missed-zero-copy'],
      (count) => `Zero-copy-send fallbacks happened: ${count} times`,
    ),
  ];
}

/** 10.2: written from its source, not compared with a run of it. */
function formatShort(info: MigrationInfo): string[] {
  if (info.status === undefined) return [];
  const { ram } = info;
  const times = [
    ...optional('total=', info['total-time'], ''),
    ...optional('setup=', info['setup-time'], ''),
    ...optional('exp_down=', info['expected-downtime'], ''),
    ...optional('down=', info.downtime, ''),
  ];
  return [
    `Status: \t\t${info.status}${failure(info)}`,
    ...(times.length > 0 ? [`Time (ms): \t\t${times.join(', ')}`] : []),
    ...(ram
      ? [
          'RAM info:',
          `  Throughput (Mbps): \t${ram.mbps.toFixed(2)}`,
          `  Sizes: \t\tpagesize=${size(ram['page-size'])}, total=${size(ram.total)}`,
          `  Transfers: \t\ttransferred=${size(ram.transferred)}, remain=${size(ram.remaining)}`,
          `    Channels: \t\tprecopy=${size(ram['precopy-bytes'])}, multifd=${size(ram['multifd-bytes'])}, postcopy=${size(ram['postcopy-bytes'])}`,
          `  Page Types: \tnormal=${ram.normal}, zero=${ram.duplicate}`,
          `  Page Rates (pps): \ttransfer=${ram['pages-per-second']}, dirty=${ram['dirty-pages-rate']}`,
          `  Others: \t\tdirty_syncs=${ram['dirty-sync-count']}`,
        ]
      : []),
  ];
}

function failure(info: MigrationInfo): string {
  return info.status === 'failed' && info['error-desc'] !== undefined ? ` (${info['error-desc']})` : '';
}

function optional(label: string, value: number | undefined, unit: string): string[] {
  return value === undefined ? [] : [`${label}${value}${unit}`];
}

function unlessZero(value: number, format: (value: number) => string): string[] {
  return value === 0 ? [] : [format(value)];
}

function kbytes(bytes: number): string {
  return `${Math.floor(bytes / 1024)} kbytes`;
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

/** As QEMU words a size: three significant digits. */
function size(bytes: number): string {
  const exponent = bytes < 1000 ? 0 : Math.floor(Math.log2((bytes * 1024) / 1000) / 10);
  return `${Number((bytes / 1024 ** exponent).toPrecision(3))} ${UNITS[exponent]}`;
}
