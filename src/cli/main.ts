#!/usr/bin/env node
console.error('mapram: no commands yet');
process.exit(2);
