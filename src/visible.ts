/**
 * Text from elsewhere, as a terminal or a log may show it. Names in files, and what a QEMU answers, may hold escape sequences that
 * rewrite what is on the screen, characters that reverse the direction of what follows, and others that show nothing.
 */

/** Control and format characters, separators of lines, and halves of surrogate pairs. Line breaks and tabs are among them. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** Text in which everything invisible but line breaks and tabs is spelled out: `\x1b`, `\u202e`. */
export function visible(text: string): string {
  return text.replace(INVISIBLE, (character) =>
    character === '\n' || character === '\t' ? character : spelled(character),
  );
}

/** The same for what has to stay on its line: these are spelled out too. */
export function visibleLine(text: string): string {
  return text.replace(INVISIBLE, spelled);
}

/** Whether `visibleLine` would leave `text` as it is. */
export function isVisibleLine(text: string): boolean {
  return text.search(INVISIBLE) < 0;
}

/** JSON in which those characters are escapes: the same value for every reader. */
export function visibleJson(json: string): string {
  return json.replace(INVISIBLE, (character) =>
    [...Array(character.length).keys()]
      .map((at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`)
      .join(''),
  );
}

function spelled(character: string): string {
  const code = (character.codePointAt(0) as number).toString(16);
  if (code.length <= 2) return `\\x${code.padStart(2, '0')}`;
  return code.length <= 4 ? `\\u${code.padStart(4, '0')}` : `\\u{${code}}`;
}
