/**
 * The command line that libvirt makes of a domain's XML (`virsh domxml-to-native qemu-argv`), turned into one that works without libvirt:
 *
 *     LC_ALL=C \                          environment: of libvirt's own
 *     PATH=… \
 *     /usr/bin/qemu-system-x86_64 \
 *     -name guest=web,debug-threads=on \
 *     -S \                                libvirt continues the guest itself
 *     -object '{"qom-type":"secret","id":"masterKey0",…}' \
 *     …                                   -chardev charmonitor, -mon: its monitor
 *     -netdev '{"type":"tap","fd":"18","id":"hostnet0"}' \
 *     …                                   a descriptor that only libvirt has
 */
import { chardevMonitorOf } from './chardev-monitors.js';
import { type CommandLineOption, formatCommandLine, parseCommandLine } from './command-line.js';
import { OptionList } from './option-list.js';

const MASTER_KEY = 'masterKey0';
const MONITOR = 'charmonitor';

export interface LibvirtCommandLine {
  program: string;
  arguments: string[];
  /** In people's words, what is otherwise than in the domain. */
  warnings: string[];
}

/** Undefined for what is no command line. */
export function withoutLibvirt(text: string): LibvirtCommandLine | undefined {
  const words = shellWords(text);
  const start = words.findIndex((word) => !/^[A-Za-z_]\w*=/.test(word));
  const program = words[start];
  if (program === undefined) return undefined;
  const warnings: string[] = [];
  const options = parseCommandLine(words.slice(start + 1))
    .filter((option) => !isLibvirts(option))
    .map((option) => withOwnNetwork(option, warnings));
  return { program, arguments: formatCommandLine(options), warnings };
}

function isLibvirts(option: CommandLineOption): boolean {
  const { name, value = '' } = option;
  if (chardevMonitorOf(option)?.chardev === MONITOR) return true;
  switch (name) {
    case 'S':
      return true;
    case 'object':
      return OptionList.parse(value, 'qom-type').get('id') === MASTER_KEY;
    case 'chardev':
      return OptionList.parse(value, 'backend').get('id') === MONITOR;
    default:
      return false;
  }
}

/** A network card whose back end is a descriptor gets one that needs neither libvirt nor rights. */
function withOwnNetwork(option: CommandLineOption, warnings: string[]): CommandLineOption {
  if (option.name !== 'netdev' || option.value === undefined) return option;
  const list = OptionList.parse(option.value, 'type');
  const id = list.get('id');
  const isDescriptor = ['fd', 'fds', 'vhostfd', 'vhostfds'].some((key) => list.has(key));
  if (id === undefined || !isDescriptor) return option;
  warnings.push(
    `the network card at ${id} gets a user network (NAT) in place of the one that libvirt connected it to (${list.get('type')})`,
  );
  return { name: 'netdev', value: OptionList.of('user', { id }).toString() };
}

/** Words as a POSIX shell reads them: quotes of both kinds and backslashes; libvirt uses nothing else. */
function shellWords(text: string): string[] {
  const pattern = /(?:[^\s'"\\]|'[^']*'|"(?:[^"\\]|\\[\s\S])*"|\\[^\n])+/g;
  return (text.replaceAll('\\\n', ' ').match(pattern) ?? []).map((word) =>
    word.replaceAll(
      /'([^']*)'|"((?:[^"\\]|\\[\s\S])*)"|\\([\s\S])/g,
      (_, plain, quoted, escaped) =>
        plain ?? (quoted === undefined ? escaped : quoted.replaceAll(/\\([\s\S])/g, '$1')),
    ),
  );
}
