/**
 * The vmdescription JSON with one more key at the end, everything else left byte for byte as it is.
 *
 * QEMU skips the description without looking at it, and its own tools ignore keys they do not know, so this is a
 * place where another program may keep its own data. Any duplicate keys of the description survive, because
 * the text is not parsed.
 *
 * @param json the description, an object; empty or missing counts as `{}`
 * @param key must not be among its keys yet
 * @throws RangeError when `json` does not end with a brace
 */
export function appendDescriptionKey(json: string | undefined, key: string, value: unknown): string {
  const text = (json ?? '').trimEnd() || '{}';
  if (!text.endsWith('}')) throw new RangeError('the description is not a JSON object');
  const body = text.slice(0, -1).trimEnd();
  const separator = body.endsWith('{') ? '' : ', ';
  return `${body}${separator}${JSON.stringify(key)}: ${JSON.stringify(value)}}`;
}
