/** Numbers of QEMU's command line: memory sizes and processor counts. */
import type { OptionList } from './option-list.js';

const SUFFIXES = 'BKMGTPE';

/** `1G`, `512M`, `0x1000`, `1.5G`; a number alone counts in `unit`. Undefined for anything else. */
export function parseQemuSize(text: string, unit: 'B' | 'M' = 'B'): number | undefined {
  const match = /^(0x[0-9a-f]+|\d+(?:\.\d+)?)([bkmgtpe])?$/i.exec(text.trim());
  if (match?.[1] === undefined) return undefined;
  const exponent = SUFFIXES.indexOf((match[2] ?? unit).toUpperCase());
  const bytes = Number(match[1]) * 1024 ** exponent;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** Processors of `-smp`, present at the start. Undefined when the argument is no number. */
export function processorCount(smp: OptionList | undefined): number | undefined {
  if (smp === undefined) return 1;
  const given = smp.get('cpus') ?? smp.get('maxcpus');
  if (given !== undefined) return wholeNumber(given);
  let product = 1;
  for (const level of ['drawers', 'books', 'sockets', 'dies', 'clusters', 'modules', 'cores', 'threads']) {
    const count = smp.get(level);
    if (count === undefined) continue;
    const number = wholeNumber(count);
    if (number === undefined) return undefined;
    product *= number;
  }
  return product;
}

function wholeNumber(text: string): number | undefined {
  return /^\d+$/.test(text) ? Number(text) : undefined;
}
