/** Writes docs/options.md from the tables. */
import { CAPABILITY_NAMES, capabilityRow } from '../../src/options/migration-capabilities.js';
import {
  MIGRATION_PARAMETERS,
  type ParameterName,
  parameterRow,
} from '../../src/options/migration-parameters.js';
import type { Lifetime } from '../../src/options/qemu-profile.js';

export function optionsPage(): string {
  const parameters = (Object.keys(MIGRATION_PARAMETERS) as ParameterName[]).map((name) => {
    const row = parameterRow(name);
    const { type, range } = row;
    const kind =
      type.kind === 'integer' ? type.width : type.kind === 'enum' ? type.values.join(', ') : type.kind;
    const bounds = range === undefined ? '' : ` (${range.min} to ${range.max ?? 'any'})`;
    const unit = row.unit === undefined ? '' : ` ${row.unit}`;
    const fallback = row.default === undefined ? 'absent' : code(row.default);
    return `| \`${name}\` | ${kind}${bounds}${unit} | ${fallback} | ${lifetime(row)} | ${row.summary} |`;
  });
  const capabilities = CAPABILITY_NAMES.map((name) => {
    const row = capabilityRow(name);
    const deprecated = row.deprecatedSince ? ` (deprecated since ${row.deprecatedSince.join('.')})` : '';
    return `| \`${name}\` | ${lifetime(row)}${deprecated} | ${row.summary} |`;
  });
  return [
    '# Migration options',
    '',
    "Names, types, defaults and ranges are QEMU's. Over QMP they are set with `migrate-set-parameters` and",
    '`migrate-set-capabilities`, over HMP with `migrate_set_parameter` and `migrate_set_capability`; see [monitor.md](monitor.md).',
    '',
    'This page is made from the tables in `src/options`; a test compares it with them (`MAPRAM_UPDATE=1` writes it anew).',
    '',
    '## direct-io',
    '',
    MIGRATION_PARAMETERS['direct-io'].summary,
    '',
    '| mapped-ram | multifd | direct-io | what happens |',
    '|---|---|---|---|',
    '| on | on | on | pages go through O_DIRECT descriptors, everything else through a buffered one |',
    '| on | off | on | accepted, without effect |',
    '| off | any | on | accepted, without effect |',
    '',
    'It can be set at any time and is read when the channels are opened. Where the platform has no O_DIRECT it is refused',
    '(`No build-time support for direct-io`). Where the file system has none, `migrate` fails and the VM keeps running.',
    '',
    '## Parameters',
    '',
    'Rows of parameters and capabilities that say 10.1 or later were compared with recorded answers of these QEMUs; none of them was run. See',
    '[compared-with-qemu.md](compared-with-qemu.md) for what else is from source.',
    '',
    '| name | type | default | QEMU | meaning |',
    '|---|---|---|---|---|',
    ...parameters,
    '',
    '## Capabilities',
    '',
    'All are off at first.',
    '',
    '| name | QEMU | meaning |',
    '|---|---|---|',
    ...capabilities,
    '',
  ].join('\n');
}

function lifetime({ since, until }: Lifetime): string {
  if (since) return `since ${since.join('.')}`;
  return until ? `before ${until.join('.')}` : 'all';
}

function code(value: unknown): string {
  return `\`${JSON.stringify(value)}\``;
}
