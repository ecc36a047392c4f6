// Writes the reference of the library, docs/api, from the docstrings of what the package exports: one page for each path that
// can be imported.
//
//   node scripts/api-reference.mjs [FOLDER]
//
// TypeDoc needs the compiler's JavaScript interface, which TypeScript 7 no longer has: it gets TypeScript 6, which is
// installed under another name, when it asks for `typescript`.
import { readFileSync } from 'node:fs';
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
const { Application, OptionDefaults } = await import('typedoc');
const { MarkdownTheme, MarkdownThemeContext } = await import('typedoc-plugin-markdown');

/** Signatures show all types: parameters and what is returned follow only where there is a link or a sentence to add. */
class ReferenceContext extends MarkdownThemeContext {
  constructor(theme, page, options) {
    super(theme, page, options);
    const { signature, signatureReturns, parametersTable } = this.partials;
    const addsSomething = (text) => text.includes('](');
    this.partials = {
      ...this.partials,
      signature: (model, choices) => withoutEmptySections(signature(model, choices)),
      signatureReturns(model, choices) {
        const text = signatureReturns(model, choices);
        return model.comment?.getTag('@returns') || addsSomething(text) ? text : '';
      },
      parametersTable(parameters) {
        const text = parametersTable(parameters);
        return parameters.some(isDescribed) || addsSomething(text) ? text : '';
      },
    };
  }
}

class ReferenceTheme extends MarkdownTheme {
  getRenderContext(page) {
    return new ReferenceContext(this, page, this.application.options);
  }
}

const isDescribed = ({ comment, defaultValue }) =>
  comment?.hasVisibleComponent() || (defaultValue !== undefined && defaultValue !== '...');
const withoutEmptySections = (text) =>
  text.replaceAll(/^#+ Parameters\n\s*(?=^#|(?![\s\S]))/gm, '').trimEnd();

const { exports } = JSON.parse(readFileSync('package.json', 'utf8'));
const entryPoints = Object.values(exports)
  .filter(({ types }) => types !== undefined)
  .map(({ types }) => types.replace('./dist/', 'src/').replace('.d.ts', '.ts'));

const application = await Application.bootstrapWithPlugins({
  entryPoints,
  tsconfig: 'tsconfig.build.json',
  plugin: ['typedoc-plugin-markdown'],
  theme: 'reference',
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
  // Members of Error and EventEmitter are Node's to explain.
  excludeExternals: true,
  excludeInternal: true,
  expandParameters: true,
  parametersFormat: 'table',
  interfacePropertiesFormat: 'table',
  propertyMembersFormat: 'table',
  typeDeclarationFormat: 'table',
  tableColumnSettings: { hideModifiers: true, hideInherited: true, hideOverrides: true },
  // Types of parts are shown where they stand.
  validation: { notExported: false },
  // For scripts/result-schemas.mjs.
  blockTags: [...OptionDefaults.blockTags, '@asType', '@minimum', '@maximum'],
  excludeTags: [...OptionDefaults.excludeTags, '@asType', '@minimum', '@maximum'],
  logLevel: 'Warn',
});
application.renderer.defineTheme('reference', ReferenceTheme);
const project = await application.convert();
if (project === undefined || application.logger.hasErrors()) process.exit(1);
await application.generateOutputs(project);
process.exit(application.logger.hasErrors() ? 1 : 0);
