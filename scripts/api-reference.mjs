// Writes the reference of the library, docs/api, from the docstrings of what src/index.ts exports.
//
//   node scripts/api-reference.mjs [FOLDER]
//
// TypeDoc needs the compiler's JavaScript interface, which TypeScript 7 no longer has: it gets TypeScript 6, which is
// installed under another name, when it asks for `typescript`.
import { createRequire, register } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const root = path.dirname(import.meta.dirname);
const folder = path.resolve(root, process.argv[2] ?? 'docs/api');
process.chdir(root);

const compiler = pathToFileURL(createRequire(import.meta.url).resolve('typescript-6')).href;
const hooks = `export const resolve = async (name, context, next) =>
  name === 'typescript' ? { url: ${JSON.stringify(compiler)}, shortCircuit: true } : next(name, context);`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
const { Application } = await import('typedoc');

const application = await Application.bootstrapWithPlugins({
  entryPoints: ['src/index.ts'],
  tsconfig: 'tsconfig.build.json',
  plugin: ['typedoc-plugin-markdown'],
  outputs: [{ name: 'markdown', path: folder }],
  githubPages: false,
  name: 'mapram',
  readme: 'none',
  outputFileStrategy: 'modules',
  groupOrder: ['Functions', 'Classes', 'Variables', 'Interfaces', 'Type Aliases'],
  // Line numbers change with every commit, and the reference with them.
  disableSources: true,
  useCodeBlocks: true,
  hidePageHeader: true,
  hideBreadcrumbs: true,
  excludePrivate: true,
  parametersFormat: 'table',
  interfacePropertiesFormat: 'table',
  propertyMembersFormat: 'table',
  typeDeclarationFormat: 'table',
  // Types of parts are shown where they stand.
  validation: { notExported: false },
  logLevel: 'Warn',
});
const project = await application.convert();
if (project === undefined || application.logger.hasErrors()) process.exit(1);
await application.generateOutputs(project);
process.exit(application.logger.hasErrors() ? 1 : 0);
