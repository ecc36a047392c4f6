#!/usr/bin/env node
import { runProgram } from './program.js';
import { commandsFor } from './registry.js';

const argv = process.argv.slice(2);
process.exit(await runProgram(await commandsFor(argv), argv));
