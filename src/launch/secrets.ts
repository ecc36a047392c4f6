/**
 * Secrets on QEMU command lines: they are not written into snapshots. In their place stays a mark with a name, by
 * which they can be given again.
 */
import type { CommandLineOption } from './command-line.js';
import { OptionList } from './option-list.js';

/** A secret that was left out of a recorded command line. */
export interface OmittedSecret {
  /** How to call it when giving it again; unique in the command line. */
  name: string;
  /** Where it was: `-object secret,id=disk0: data`. */
  place: string;
}

/** Option names whose argument has keys, with the key that a first value without one stands for. */
const IMPLIED_KEYS: Readonly<Record<string, string>> = {
  object: 'qom-type',
  device: 'driver',
  blockdev: 'driver',
  drive: 'file',
  chardev: 'backend',
  netdev: 'type',
  spice: 'port',
  vnc: 'display',
  iscsi: 'user',
  smbios: 'type',
  fw_cfg: 'name',
  audiodev: 'driver',
};

const SECRET_KEYS = new Set(['password', 'passwd', 'cookie', 'http-cookie', 'secret']);
/** `password=on` of -vnc and the like only says that there is one. */
const SWITCH = /^(on|off|true|false|yes|no)$/;
/** `scheme://user:password@host`, and `user%password@` of iSCSI. */
const URL_PASSWORD = /^([a-z][\w+.-]*:\/\/[^/@:%]+[:%])([^/@]+)@/i;
/** systemd reads credentials from SMBIOS strings and fw_cfg files of these names. */
const CREDENTIAL = /^io\.systemd\.credential(?:\.binary)?:([^=]+)=/;

const mark = (name: string) => `<omitted ${name}>`;
const MARK = /<omitted ([^<>]+)>/g;

/** The options without their secrets. */
export function omitSecrets(options: readonly CommandLineOption[]): {
  options: CommandLineOption[];
  omitted: OmittedSecret[];
} {
  const omitted: OmittedSecret[] = [];
  const omit = (wanted: string, place: string): string => {
    const known = new Set(omitted.map(({ name }) => name));
    let name = wanted;
    for (let n = 2; known.has(name); n++) name = `${wanted}-${n}`;
    omitted.push({ name, place });
    return mark(name);
  };
  const cleaned = options.map(({ name, value }) => {
    const impliedKey = IMPLIED_KEYS[name];
    if (value === undefined || impliedKey === undefined) {
      return value === undefined ? { name } : { name, value: withoutUrlPassword(value, name, omit) };
    }
    const list = OptionList.parse(value, impliedKey);
    const id = list.get('id') ?? list.get('node-name') ?? name;
    const subject = `-${name} ${[list.get(impliedKey), list.has('id') ? `id=${id}` : undefined].filter(Boolean).join(',')}`;
    for (const key of new Set(list.keys)) {
      const text = list.get(key);
      if (text === undefined) continue;
      const cleanedText = cleanValue(name, list, key, text, id, (secret) =>
        omit(secret, `${subject}: ${key}`),
      );
      if (cleanedText !== text) list.set(key, cleanedText);
    }
    return { name, value: list.toString() };
  });
  return { options: cleaned, omitted };
}

function cleanValue(
  option: string,
  list: OptionList,
  key: string,
  text: string,
  id: string,
  omit: (secret: string) => string,
): string {
  const last = key.slice(key.lastIndexOf('.') + 1);
  if (option === 'object' && /^secret/.test(list.get('qom-type') ?? '') && key === 'data') return omit(id);
  if (SECRET_KEYS.has(last) && !SWITCH.test(text)) return omit(id);
  if (option === 'fw_cfg' && key === 'string' && /credential/.test(list.get('name') ?? '')) return omit(id);
  const credential = option === 'smbios' ? CREDENTIAL.exec(text) : null;
  if (credential) return `${credential[0]}${omit(credential[1] ?? id)}`;
  return withoutUrlPassword(text, id, (secret) => omit(secret));
}

function withoutUrlPassword(
  text: string,
  id: string,
  omit: (secret: string, place: string) => string,
): string {
  return text.replace(URL_PASSWORD, (_, before: string) => `${before}${omit(id, `a URL of -${id}`)}@`);
}

/** Puts secrets back into arguments. Names that `secrets` lacks keep their mark and are returned. */
export function insertSecrets(
  args: readonly string[],
  secrets: Readonly<Record<string, string>>,
): { arguments: string[]; missing: string[] } {
  const missing = new Set<string>();
  const filled = args.map((argument) =>
    argument.replace(MARK, (whole, name: string) => {
      const secret = Object.hasOwn(secrets, name) ? secrets[name] : undefined;
      if (secret === undefined) {
        missing.add(name);
        return whole;
      }
      // In JSON as a part of a string, elsewhere with commas doubled.
      return argument.startsWith('{') ? JSON.stringify(secret).slice(1, -1) : secret.replaceAll(',', ',,');
    }),
  );
  return { arguments: filled, missing: [...missing] };
}
