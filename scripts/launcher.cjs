#!/usr/bin/env node
// The command `mapram`: the whole command line in one script, with what V8 has compiled of it when it was built. Where this Node
// takes no code of another V8, the script is compiled as any other.
const { readFileSync } = require('node:fs');
const { Script } = require('node:vm');

const file = `${__dirname}/command-line.cjs`;
const script = new Script(
  `(function (exports, require, module, __filename, __dirname) {${readFileSync(file, 'latin1')}\n})`,
  {
    filename: file,
    cachedData: compiled(),
  },
);
script.runInThisContext()(exports, require, module, file, __dirname);
module.exports.run(process.argv.slice(2)).then((code) => process.exit(code));

function compiled() {
  try {
    return readFileSync(`${__dirname}/command-line.code`);
  } catch {
    return undefined;
  }
}
