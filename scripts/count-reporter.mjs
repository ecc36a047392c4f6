// A node:test reporter that gives the counts of a run as one JSON object, for the closing line of scripts/test.mjs.
export default async function* count(events) {
  const counts = {};
  for await (const { type, data } of events) {
    const line = type === 'test:diagnostic' && data.file === undefined && data.message.match(/^(\w+) (\d+)$/);
    if (line) counts[line[1]] = Number(line[2]);
  }
  yield JSON.stringify(counts);
}
