// `npm test`: lint, type check, then every test; those with real virtual machines one file at a time.
//
//   node scripts/test.mjs [--unit] [PART OF A TEST'S PATH …]
//
// --unit leaves out the tests in test/qemu. MAPRAM_TEST_QEMU=required fails where they would be skipped.
import { compile, minutes, needsQemu, run, runTests, step, summary, testFiles } from './run-tests.mjs';
import { prepareVmEnvironment } from './vm-environment.mjs';

const unitOnly = process.argv.includes('--unit');
const words = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));

const startedAt = performance.now();
step('linting', () => run('npx', ['biome', 'ci', '--error-on-warnings', '.']));
step('checking types and compiling', compile);

const files = testFiles(words);
// The limits are for tests that hang: they are far above what the slowest file takes on a machine that is busy with other things.
const groups = [
  ['unit tests', files.filter((file) => !needsQemu(file)), { concurrency: 2, timeoutMs: 600_000 }],
];
if (!unitOnly && files.some(needsQemu)) {
  try {
    await prepareVmEnvironment({ required: process.env.MAPRAM_TEST_QEMU === 'required' });
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
  groups.push(['tests with real VMs', files.filter(needsQemu), { concurrency: 1, timeoutMs: 900_000 }]);
}

const total = { passed: 0, failed: 0, skipped: 0 };
if (words.length === 0) {
  console.log(
    `▷ ${unitOnly ? 'the unit tests take about 5 minutes' : 'all tests take 15 to 30 minutes'} on two idle processors; "npm test -- WORD" runs those with WORD in their path`,
  );
}
for (const [what, group, limits] of groups) {
  if (group.length === 0) continue;
  const files = group.length === 1 ? '1 file' : `${group.length} files`;
  const counts = step(`${what}, ${files}`, () => runTests(group, limits));
  for (const key of Object.keys(total)) total[key] += counts[key];
}
console.log(`▷ all of it: ${minutes(performance.now() - startedAt)}`);
console.log(summary(total));
process.exit(total.failed > 0 || total.passed === 0 ? 1 : 0);
