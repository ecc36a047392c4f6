// `npm test`: lint, type check, then every test; those with real virtual machines one file at a time.
//
//   node scripts/test.mjs [--unit] [PART OF A TEST'S PATH …]
//
// --unit leaves out the tests in test/qemu. MAPRAM_TEST_QEMU=required fails where they would be skipped.
import { compile, needsQemu, run, runTests, summary, testFiles } from './run-tests.mjs';
import { prepareVmEnvironment } from './vm-environment.mjs';

const unitOnly = process.argv.includes('--unit');
const words = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));

run('npx', ['biome', 'ci', '--error-on-warnings', '.']);
compile();

const files = testFiles(words);
const groups = [[files.filter((file) => !needsQemu(file)), { concurrency: 2, timeoutMs: 300_000 }]];
if (!unitOnly && files.some(needsQemu)) {
  try {
    await prepareVmEnvironment({ required: process.env.MAPRAM_TEST_QEMU === 'required' });
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
  groups.push([files.filter(needsQemu), { concurrency: 1, timeoutMs: 900_000 }]);
}

const total = { passed: 0, failed: 0, skipped: 0 };
for (const [group, limits] of groups) {
  if (group.length === 0) continue;
  const counts = runTests(group, limits);
  for (const key of Object.keys(total)) total[key] += counts[key];
}
console.log(summary(total));
process.exit(total.failed > 0 || total.passed === 0 ? 1 : 0);
