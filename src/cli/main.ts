#!/usr/bin/env node
import { runProgram } from './program.js';
import { COMMANDS } from './registry.js';

process.exit(await runProgram(COMMANDS, process.argv.slice(2)));
