/**
 * Secrets on QEMU command lines: they are not written into snapshots. In their place stays a mark with a name, by
 * which they can be given again:
 *
 *     <omitted NAME>        in a value of an option; a comma is doubled there, and JSON escaped
 *     <omitted-raw NAME>    in an argument without keys: it comes back as it was
 *     <omitted-json NAME>   in a string of JSON inside a value: escaped twice
 */
import type { CommandLineOption } from './command-line.js';
import { OptionList } from './option-list.js';
import {
  cleanKernelCommandLine,
  cleanName,
  cleanSmbios,
  credentialName,
  isGuestConfiguration,
  isSecret,
  type Replace,
} from './secret-values.js';

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

/** `-set drive.disk0.file.password=…` */
const SETTING = /^(\w+\.[^.]+\.([^=]+)=)(.*)$/s;

type Encoding = 'list' | 'raw' | 'json';

const mark = (name: string, encoding: Encoding) =>
  `<omitted${encoding === 'list' ? '' : `-${encoding}`} ${name}>`;
const MARK = /<omitted(?:-(json|raw))? ([^<>]+)>/g;

type Omit = (wanted: string, place: string, encoding: Encoding) => string;

/** The options without their secrets. */
export function omitSecrets(options: readonly CommandLineOption[]): {
  options: CommandLineOption[];
  omitted: OmittedSecret[];
} {
  const omitted: OmittedSecret[] = [];
  const omit: Omit = (wanted, place, encoding) => {
    const known = new Set(omitted.map(({ name }) => name));
    let name = wanted;
    for (let n = 2; known.has(name); n++) name = `${wanted}-${n}`;
    omitted.push({ name, place });
    return mark(name, encoding);
  };
  const cleaned = options.map(({ name, value }) => {
    if (value === undefined) return { name };
    const impliedKey = IMPLIED_KEYS[name];
    return {
      name,
      value:
        impliedKey === undefined
          ? cleanArgument(name, value, omit)
          : cleanList(name, value, impliedKey, omit),
    };
  });
  return { options: cleaned, omitted };
}

/** An argument without keys. */
function cleanArgument(name: string, value: string, omit: Omit): string {
  const replace: Replace = (encoding = undefined) =>
    omit(name, `the argument of -${name}`, encoding ?? 'raw');
  if (name === 'append') return cleanKernelCommandLine(value, replace);
  const [, before, key, set] = name === 'set' ? (SETTING.exec(value) ?? []) : [];
  if (before === undefined || key === undefined || set === undefined) return cleanName(value, replace);
  return `${before}${isSecret(key, set) ? replace() : cleanName(set, replace)}`;
}

function cleanList(name: string, value: string, impliedKey: string, omit: Omit): string {
  const list = OptionList.parse(value, impliedKey);
  const id = list.get('id') ?? list.get('node-name') ?? name;
  const subject = `-${name} ${[list.get(impliedKey), list.has('id') ? `id=${id}` : undefined].filter(Boolean).join(',')}`;
  for (const key of new Set(list.keys)) {
    const text = list.get(key);
    if (text === undefined) continue;
    const wanted = (name === 'smbios' && credentialName(text)) || id;
    const cleaned = cleanValue(name, list, key, text, (encoding) =>
      omit(wanted, `${cleanPlace(subject)}: ${key}`, encoding ?? 'list'),
    );
    if (cleaned !== text) list.set(key, cleaned);
  }
  return list.toString();
}

/** What tells where a secret was does not hold it. */
function cleanPlace(subject: string): string {
  const [option = '', ...rest] = subject.split(' ');
  return [option, cleanName(rest.join(' '), () => '…')].join(' ');
}

function cleanValue(option: string, list: OptionList, key: string, text: string, replace: Replace): string {
  if (option === 'object' && /^secret/.test(list.get('qom-type') ?? '') && key === 'data') return replace();
  if (isSecret(key, text)) return replace();
  if (option === 'fw_cfg' && key === 'string' && isGuestConfiguration(list.get('name') ?? ''))
    return replace();
  if (option === 'smbios') return cleanSmbios(text, replace);
  return cleanName(text, replace);
}

/** Puts secrets back into arguments. Names that `secrets` lacks keep their mark and are returned. */
export function insertSecrets(
  args: readonly string[],
  secrets: Readonly<Record<string, string>>,
): { arguments: string[]; missing: string[] } {
  const missing = new Set<string>();
  const filled = args.map((argument) =>
    argument.replace(MARK, (whole, encoding: 'json' | 'raw' | undefined, name: string) => {
      const secret = Object.hasOwn(secrets, name) ? secrets[name] : undefined;
      if (secret === undefined) {
        missing.add(name);
        return whole;
      }
      if (encoding === 'raw') return secret;
      const text = encoding === 'json' ? inJson(secret) : secret;
      // In JSON as a part of a string, elsewhere with commas doubled.
      return argument.startsWith('{') ? inJson(text) : text.replaceAll(',', ',,');
    }),
  );
  return { arguments: filled, missing: [...missing] };
}

function inJson(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}
