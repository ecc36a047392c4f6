#!/usr/bin/env node
// The command `mapram`: the command line in one script, some commands in one of their own, with what V8 has compiled of it when it was
// built. Where this Node takes no code of another V8, the script is compiled as any other.
const { existsSync, readFileSync } = require('node:fs');
const { Script } = require('node:vm');

const name = scriptOf(process.argv[2]);
const file = `${__dirname}/${name}.cjs`;
const script = new Script(
  `(function (exports, require, module, __filename, __dirname) {${readFileSync(file, 'latin1')}\n})`,
  { filename: file, cachedData: compiled() },
);
script.runInThisContext()(exports, require, module, file, __dirname);
module.exports.run(process.argv.slice(2)).then((code) => process.exit(code));

function scriptOf(command = '') {
  return /^[a-z]+$/.test(command) && existsSync(`${__dirname}/${command}.code`) ? command : 'command-line';
}

function compiled() {
  try {
    return readFileSync(`${__dirname}/${name}.code`);
  } catch {
    return undefined;
  }
}
