import { readFileSync } from 'node:fs';
import { JsonReader } from '../../src/json/json-reader.js';
import type { JsonObject, JsonValue } from '../../src/json/json-value.js';
import { isJsonObject } from '../../src/options/qapi.js';

/** A line of a recorded conversation with a real QEMU. */
export type TranscriptLine =
  | { readonly kind: 'start'; readonly vm: string; readonly args: string[] }
  /** Text to send, exactly as it was sent. */
  | { readonly kind: 'send'; readonly vm: string; readonly text: string }
  | { readonly kind: 'receive'; readonly vm: string; readonly message: JsonObject }
  /** What a terminal received. */
  | { readonly kind: 'show'; readonly text: string }
  | { readonly kind: 'note'; readonly text: string }
  /** What QEMU printed on its standard error, its exit code. */
  | { readonly kind: 'other' };

const FOLDER = new URL('../../../test/monitor/transcripts/', import.meta.url);

/** Reads `transcripts/VERSION/NAME.jsonl`. */
export function readTranscript(version: string, name: string): TranscriptLine[] {
  return readFileSync(new URL(`${version}/${name}.jsonl`, FOLDER), 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map(parseLine);
}

function parseJson(text: string): JsonValue {
  const [message] = [...new JsonReader().push(Buffer.from(`${text}\n`))];
  if (message?.value === undefined) throw new Error(`not JSON: ${text}`);
  return message.value;
}

function parseLine(line: string): TranscriptLine {
  const parsed = parseJson(line) as JsonObject;
  const vm = String(parsed.vm);
  if (typeof parsed.note === 'string') return { kind: 'note', text: parsed.note };
  if (Array.isArray(parsed.start)) return { kind: 'start', vm, args: parsed.start.map(String) };
  if (typeof parsed.sendText === 'string') return { kind: 'send', vm, text: parsed.sendText };
  if (typeof parsed.recvText === 'string') return { kind: 'show', text: parsed.recvText };
  if (parsed.send !== undefined) {
    // Sent verbatim: `1.0` and `1` are not the same.
    const text = line.slice(line.indexOf('"send":') + '"send":'.length, -1);
    return { kind: 'send', vm, text: `${text}\n` };
  }
  if (isJsonObject(parsed.recv)) return { kind: 'receive', vm, message: parsed.recv };
  return { kind: 'other' };
}
