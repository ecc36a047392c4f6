import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isVisibleLine, visible, visibleJson, visibleLine } from '../src/visible.js';

test('what steers a terminal is spelled out, letters of any language stay (F8)', () => {
  assert.equal(visibleLine('a\x1b[31mb\x7f\x9b0m\r\n\t'), 'a\\x1b[31mb\\x7f\\x9b0m\\x0d\\x0a\\x09');
  assert.equal(visible('a\tb\r\nc\x00'), 'a\tb\\x0d\nc\\x00');
  assert.equal(visibleLine('\u202egnp.exe\u2069 \u{e0041}\ud800'), '\\u202egnp.exe\\u2069 \\u{e0041}\\ud800');
  const letters = 'Größe, файл, ファイル, 文件, 🖥, e\u0301';
  assert.equal(visibleLine(letters), letters);
});

test('no text is left with anything invisible, and JSON keeps its value (F8)', () => {
  const text = fc.string({ unit: 'binary' });
  fc.assert(
    fc.property(text, (value) => {
      assert.ok(isVisibleLine(visibleLine(value)), JSON.stringify(value));
      for (const line of visible(value).split(/[\n\t]/)) assert.ok(isVisibleLine(line), line);
      const json = visibleJson(JSON.stringify(value));
      assert.ok(isVisibleLine(json), json);
      assert.equal(JSON.parse(json), JSON.parse(JSON.stringify(value)));
    }),
  );
});
