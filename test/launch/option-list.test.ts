import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { OptionList } from '../../src/launch/option-list.js';

describe('OptionList', () => {
  test('reads keys, implied keys, flags and doubled commas', () => {
    const list = OptionList.parse('memory-backend-file,id=m0,mem-path=/a,,b,share', 'qom-type');
    assert.equal(list.get('qom-type'), 'memory-backend-file');
    assert.equal(list.get('mem-path'), '/a,b');
    assert.equal(list.get('share'), 'on');
    assert.equal(list.get('size'), undefined);
  });

  test('reads the negated flags of old versions', () => {
    const list = OptionList.parse('unix:/q,server,nowait');
    assert.equal(list.get('wait'), 'off');
    assert.equal(list.set('wait', 'on').toString(), 'unix:/q,server,wait=on');
  });

  test('takes the last of several values, and sets all of them', () => {
    const list = OptionList.parse('size=1,size=2');
    assert.equal(list.get('size'), '2');
    assert.equal(list.set('size', '3').toString(), 'size=3,size=3');
  });

  test('reaches into JSON', () => {
    const list = OptionList.parse('{"driver": "raw", "read-only": true, "file": {"filename": "/a"}}');
    assert.equal(list.get('file.filename'), '/a');
    assert.equal(list.get('read-only'), 'on');
    list.set('file.filename', '/b').set('read-only', 'off');
    assert.deepEqual(JSON.parse(list.toString()), {
      driver: 'raw',
      'read-only': false,
      file: { filename: '/b' },
    });
  });

  test('takes JSON that is none for text', () => {
    assert.equal(OptionList.parse('{"a"').toString(), '{"a"');
  });

  test('deletes', () => {
    assert.equal(OptionList.parse('a=1,b,c=3').delete('b').delete('a').toString(), 'c=3');
    assert.equal(OptionList.parse('{"a": {"b": 1, "c": 2}}').delete('a.b').toString(), '{"a":{"c":2}}');
  });

  test('gives back every value as it was set', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (first, value) => {
        fc.pre(!first.startsWith('{') && !first.includes('='));
        const list = OptionList.parse(OptionList.of(first, { key: value }).toString(), 'implied');
        assert.equal(list.get('implied'), first);
        assert.equal(list.get('key'), value);
      }),
    );
  });

  test('leaves what is not changed byte for byte', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        assert.equal(OptionList.parse(text, 'x').toString(), text);
      }),
    );
  });
});
