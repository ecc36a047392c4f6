/**
 * A report as one page that needs nothing but itself: style, script and data are in it, and its content security policy
 * lets nothing else in. Whatever came from a file is data, shown as text and never as markup.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { ReportData } from './report-data.js';
import { REPORT_STYLE } from './report-style.js';

/** client.ts as it was compiled, without what only debuggers of this source need. */
async function clientScript(): Promise<string> {
  const script = await readFile(path.join(import.meta.dirname, 'client.js'), 'utf8');
  return script.replace(/^\/\/# sourceMappingURL=.*$/m, '');
}

/** The page's HTML. */
export async function reportPage(data: ReportData): Promise<string> {
  const script = await clientScript();
  const policy = [
    "default-src 'none'",
    `script-src ${sourceHash(script)}`,
    `style-src ${sourceHash(REPORT_STYLE)}`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>${escapeText(data.title)}</title>
<style>${REPORT_STYLE}</style>
</head>
<body>
<noscript>This page draws its map with a script of its own; allow scripts to see it.</noscript>
<script type="application/json" id="report">${embedded(data)}</script>
<script type="module">${script}</script>
</body>
</html>
`;
}

function sourceHash(source: string): string {
  return `'sha256-${createHash('sha256').update(source).digest('base64')}'`;
}

function escapeText(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** JSON in which nothing can end the element around it. */
function embedded(data: ReportData): string {
  return JSON.stringify(data).replace(/[<>&\u2028\u2029]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}
