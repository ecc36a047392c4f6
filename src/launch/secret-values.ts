/** Where secrets stand inside a value of a QEMU option: URLs, Ceph names, JSON in place of a file name, the guest's command line. */

/** Gives what is to stand in place of a secret. `json`: it stands in a string of JSON. */
export type Replace = (encoding?: 'json') => string;

export const SECRET_KEYS = new Set([
  'password',
  'passwd',
  'passphrase',
  'cookie',
  'http-cookie',
  'secret',
  'rootpw',
]);
/** `password=on` of -vnc and the like only says that there is one. */
const SWITCH = /^(on|off|true|false|yes|no)$/;

/** `scheme://user:password@host`, and `user%password@` of iSCSI. */
const URL_PASSWORD = /^([a-z][\w+.-]*:\/\/[^/@:%]+[:%])([^/@]+)@/i;
/** `?token=…`, `&X-Amz-Signature=…`, `&sig=…` of a URL. */
const URL_PARAMETER = /([?&][\w.-]*(?:password|passwd|token|signature|sig|secret|key|credential)=)([^&#]+)/gi;
/** `rbd:pool/image:id=admin:key=…`, a colon in a value escaped. */
const CEPH_KEY = /(:key=)((?:\\.|[^:\\])+)/g;
/** JSON in place of a file name. */
const JSON_NAME = /^json:\s*(?=\{)/;
/** systemd's credentials on a kernel's command line: a name, a colon, the secret. */
const KERNEL_CREDENTIAL = /^(systemd\.set_credential(?:_binary)?=[^:]*:)(.+)$/s;
/** `netroot=iscsi:user:password@host…` of dracut. */
const KERNEL_NETROOT = /^(netroot=iscsi:[^:@]+:)([^@]+)(@.*)$/s;
/** systemd reads credentials from SMBIOS strings and fw_cfg files of these names. */
const SMBIOS_CREDENTIAL = /^(io\.systemd\.credential(?:\.binary)?:[^=]+=)(.+)$/s;
const SMBIOS_KERNEL = /^(io\.systemd\.(?:stub|boot)\.kernel-cmdline-extra=)(.+)$/s;

/** Whether a key, such as `file.password`, is one whose value is a secret. */
export function isSecret(key: string, value: string): boolean {
  return SECRET_KEYS.has(key.slice(key.lastIndexOf('.') + 1)) && !SWITCH.test(value);
}

/**
 * Whether the text of a fw_cfg file is for the guest alone: what is below `opt/`, such as the configuration of Ignition, cloud-init or systemd,
 * may hold passwords and keys. Firmware reads its own files there.
 */
export function isGuestConfiguration(fileName: string): boolean {
  return fileName.startsWith('opt/') && !/^opt\/(ovmf|org\.tianocore|org\.seabios)\//.test(fileName);
}

/** The name or URL of a disk without the secrets in it. */
export function cleanName(text: string, replace: Replace): string {
  const json = JSON_NAME.exec(text);
  if (json !== null) return cleanJsonName(text, json[0], replace);
  if (text.startsWith('rbd:')) return text.replace(CEPH_KEY, (_, before: string) => `${before}${replace()}`);
  const plain = text.replace(URL_PASSWORD, (_, before: string) => `${before}${replace()}@`);
  if (!/^[a-z][\w+.-]*:\/\//i.test(plain)) return plain;
  return plain.replace(URL_PARAMETER, (_, before: string) => `${before}${replace()}`);
}

/** What is not JSON is no name that QEMU opens. */
function cleanJsonName(text: string, prefix: string, replace: Replace): string {
  let found = false;
  const replaceJson: Replace = () => {
    found = true;
    return replace('json');
  };
  try {
    const cleaned: unknown = JSON.parse(text.slice(prefix.length), (key, value: unknown) => {
      if (typeof value !== 'string') return value;
      // One level is enough: what is nested deeper comes out as nothing but its mark.
      if (isSecret(key, value)) return replaceJson();
      return JSON_NAME.test(value) ? replaceJson() : cleanName(value, replaceJson);
    });
    return found ? `${prefix}${JSON.stringify(cleaned)}` : text;
  } catch {
    return text;
  }
}

/** The command line of a guest's kernel without the secrets in it. */
export function cleanKernelCommandLine(text: string, replace: Replace): string {
  return text.replace(/(?:"[^"]*(?:"|$)|[^\s"])+/g, (word) => {
    const quote = word.startsWith('"') && word.endsWith('"') ? '"' : '';
    return `${quote}${cleanKernelWord(word.slice(quote.length, word.length - quote.length), replace)}${quote}`;
  });
}

function cleanKernelWord(word: string, replace: Replace): string {
  const [, credential] = KERNEL_CREDENTIAL.exec(word) ?? [];
  if (credential !== undefined) return `${credential}${replace()}`;
  const [, before, , after] = KERNEL_NETROOT.exec(word) ?? [];
  if (before !== undefined) return `${before}${replace()}${after}`;
  const [, key, value] = /^([\w.-]+)=(.+)$/s.exec(word) ?? [];
  return key !== undefined && value !== undefined && isSecret(key, value) ? `${key}=${replace()}` : word;
}

/** A string of SMBIOS without the secret in it. */
export function cleanSmbios(text: string, replace: Replace): string {
  const [, credential] = SMBIOS_CREDENTIAL.exec(text) ?? [];
  if (credential !== undefined) return `${credential}${replace()}`;
  const [, before, kernel] = SMBIOS_KERNEL.exec(text) ?? [];
  return before === undefined || kernel === undefined
    ? text
    : `${before}${cleanKernelCommandLine(kernel, replace)}`;
}

/** The name that a credential of systemd has in an SMBIOS string. */
export function credentialName(text: string): string | undefined {
  return /^io\.systemd\.credential(?:\.binary)?:([^=]+)=/.exec(text)?.[1];
}
