import { MapramError } from '../../errors.js';

/** A domain of libvirt, whose monitor libvirt itself holds. */
export interface LibvirtAddress {
  /** Its name, UUID or number. */
  readonly domain: string;
  /** Of the libvirt, such as `qemu:///system`; the one that virsh uses by itself where it is absent. */
  readonly uri?: string;
}

const PREFIX = 'libvirt:';

/**
 * Reads `libvirt:DOMAIN` or `libvirt:URI#DOMAIN`, such as `libvirt:qemu:///system#web`. Undefined for other addresses.
 *
 * @throws MapramError `USAGE` without a domain
 */
export function parseLibvirtAddress(text: string): LibvirtAddress | undefined {
  if (!text.startsWith(PREFIX)) return undefined;
  const rest = text.slice(PREFIX.length);
  const [, uri, domain = rest] = /^([a-z+]+:\/\/[^#]*)#(.*)$/s.exec(rest) ?? [];
  if (domain === '') {
    throw new MapramError(
      'USAGE',
      `${text} names no domain: expected libvirt:DOMAIN or libvirt:URI#DOMAIN, such as libvirt:qemu:///system#web`,
    );
  }
  return uri === undefined ? { domain } : { domain, uri };
}

export function formatLibvirtAddress({ domain, uri }: LibvirtAddress): string {
  return uri === undefined ? `${PREFIX}${domain}` : `${PREFIX}${uri}#${domain}`;
}
